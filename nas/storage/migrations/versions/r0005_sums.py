"""What standing and totals are read from, instead of being counted; filled from what is stored."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

MICROSECOND = timedelta(microseconds=1)
TIME = sa.DateTime(timezone=True)
SUMS = ("num_tokens", "busy_microseconds", "spent_microseconds")
RANKED_BY = {
    "loss": (sa.Double, "loss"),
    "measured_tokens": (sa.BigInteger, "num_tokens"),
    "measured_parameters": (sa.BigInteger, "num_parameters"),
}
searches = sa.table("searches", sa.column("id"), sa.column("state"), sa.column("progressed_at", TIME))
trials = sa.table(
    "trials",
    *map(sa.column, ("search_id", "number", "state", *RANKED_BY, *SUMS)),
    sa.column("measurement", sa.JSON),
)
points = sa.table(
    "points",
    sa.column("search_id"),
    sa.column("trial_number"),
    sa.column("num_tokens"),
    sa.column("at", TIME),
)
attempts = sa.table(
    "attempts",
    sa.column("search_id"), sa.column("trial_number"), sa.column("number"),
    sa.column("started_at", TIME), sa.column("ended_at", TIME),
)  # fmt: skip
events = sa.table("events", sa.column("search_id"), sa.column("kind"), sa.column("at", TIME))


def upgrade() -> None:
    op.add_column("searches", sa.Column("progressed_at", TIME))
    for name, (kind, _) in RANKED_BY.items():
        op.add_column("trials", sa.Column(name, kind))
    for name in SUMS:
        op.add_column("trials", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(
        "ix_trials_tally",
        "trials",
        ["search_id", "role", "state", "num_tokens", "busy_microseconds", "spent_microseconds"],
    )
    op.create_index(
        "ix_trials_rank",
        "trials",
        ["search_id", "role", "state", sa.desc("measured_tokens"), "loss", "measured_parameters", "number"],
    )
    totals = op.create_table(
        "totals",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("state", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    _fill(op.get_bind(), totals)


def _fill(connection: sa.Connection, totals: sa.Table) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for search_id, state in connection.execute(sa.select(searches.c.id, searches.c.state)).all():
        counted["searches", state] += 1
        rows = list(_trials_of(connection, search_id))
        for state_of_trial, row in rows:
            counted["trials", state_of_trial] += 1
            counted["tokens", ""] += row["num_tokens"]
        if rows:
            values: dict[str, Any] = {name: sa.bindparam(name) for name in (*RANKED_BY, *SUMS)}
            is_it = (trials.c.search_id == search_id, trials.c.number == sa.bindparam("of_trial"))
            connection.execute(trials.update().where(*is_it).values(values), [row for _, row in rows])
        last = sa.select(sa.func.max(events.c.at)).where(
            events.c.search_id == search_id, events.c.kind != "edit"
        )
        if rows:
            connection.execute(
                searches.update()
                .where(searches.c.id == search_id)
                .values(progressed_at=last.scalar_subquery())
            )
    if counted:
        rows_of_totals = [
            {"kind": kind, "state": state, "number": number} for (kind, state), number in counted.items()
        ]
        connection.execute(totals.insert(), rows_of_totals)


def _trials_of(connection: sa.Connection, search_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the state and the new columns of each trial of a search."""
    evaluated: dict[int, list[tuple[int, datetime]]] = defaultdict(list)
    spans: dict[int, list[tuple[datetime, datetime | None]]] = defaultdict(list)
    query = sa.select(points.c.trial_number, points.c.num_tokens, points.c.at)
    for number, num_tokens, at in connection.execute(
        query.where(points.c.search_id == search_id).order_by(points.c.trial_number, points.c.num_tokens)
    ):
        evaluated[number].append((num_tokens, at))
    query = sa.select(attempts.c.trial_number, attempts.c.started_at, attempts.c.ended_at)
    for number, start, end in connection.execute(
        query.where(attempts.c.search_id == search_id).order_by(attempts.c.trial_number, attempts.c.number)
    ):
        spans[number].append((start, end))
    query = sa.select(trials.c.number, trials.c.state, trials.c.measurement)
    for number, state, measurement in connection.execute(query.where(trials.c.search_id == search_id)).all():
        measured = json.loads(measurement) if isinstance(measurement, str) else measurement or {}
        busy, spent = _taken(evaluated[number], spans[number])
        yield (
            state,
            {
                "of_trial": number,
                **{name: measured.get(field) for name, (_, field) in RANKED_BY.items()},
                "num_tokens": evaluated[number][-1][0] if evaluated[number] else 0,
                "busy_microseconds": busy // MICROSECOND,
                "spent_microseconds": spent // MICROSECOND,
            },
        )


def _taken(
    evaluated: Sequence[tuple[int, datetime]], spans: Sequence[tuple[datetime, datetime | None]]
) -> tuple[timedelta, timedelta]:
    """Return the time from the starts of attempts to their last evaluations, and to their ends."""
    busy = spent = timedelta()
    for (start, end), (following, _) in zip_longest(spans, spans[1:], fillvalue=(None, None)):
        assert start is not None
        own = [at for _, at in evaluated if at >= start and (following is None or at < following)]
        last = own[-1] if own else start
        busy += last - start
        spent += max(timedelta(), (end or last) - start)
    return busy, spent
