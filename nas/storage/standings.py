"""Where searches stand, their trials in order, and totals, as SQL that an index answers.

Speaks SQL and decides nothing. What is read here, ``sums`` has written.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    RowMapping,
    Select,
    and_,
    cast,
    func,
    null,
    or_,
    select,
    union_all,
)

from nas.listing import EVERY_TRIAL, TrialFilter, TrialOrder, TrialPlace
from nas.search import SearchState
from nas.spec import load
from nas.storage.engine import Database
from nas.storage.queries import require_search
from nas.storage.sums import GIGAFLOPS, TOKENS
from nas.storage.tables import points, searches, totals, trials
from nas.tally import Tally, TrialGroup, in_order
from nas.totals import Totals
from nas.trial import Trial, TrialRole, TrialState


class SqlStandings:
    """The part of the SQL store that tells where searches stand."""

    _database: Database

    def tallies(self, search_ids: Collection[str]) -> Mapping[str, Tally]:
        """See Standings."""
        with self._database.reading() as connection:
            heads = connection.execute(_heads(search_ids)).mappings().all()
            rows = connection.execute(_groups(search_ids)).mappings().all()
            lines = connection.execute(_promoted(search_ids)).mappings().all()
        grouped: dict[str, tuple[RowMapping, list[RowMapping], list[RowMapping]]] = {
            head["of_search"]: (head, [], []) for head in heads
        }
        for row in rows:
            if row["search_id"] in grouped:
                grouped[row["search_id"]][1].append(row)
        for line in lines:
            if line["search_id"] in grouped:
                grouped[line["search_id"]][2].append(line)
        return {search_id: _tally(*found) for search_id, found in grouped.items()}

    def list_trials(
        self,
        search_id: str,
        which: TrialFilter = EVERY_TRIAL,
        *,
        order: TrialOrder = TrialOrder.NUMBER,
        after: TrialPlace | None = None,
        limit: int = 100,
    ) -> list[Trial]:
        """See Standings."""
        query = select(trials).where(trials.c.search_id == search_id, *_admitted(which))
        if after is not None:
            query = query.where(_comes_after(order, after))
        query = query.order_by(*_ordered(order)).limit(limit)
        with self._database.reading() as connection:
            found = connection.execute(query).mappings().all()
            if not found:
                require_search(connection, search_id)
        return [load(Trial, row) for row in found]

    def num_points(self, search_id: str) -> int:
        """See Standings."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(points).where(points.c.search_id == search_id)
            return connection.scalar(query) or 0

    def totals(self) -> Totals:
        """See Standings."""
        with self._database.reading() as connection:
            rows = connection.execute(select(totals).where(totals.c.number > 0)).all()
        return Totals(
            searches={SearchState(row.state): row.number for row in rows if row.kind == searches.name},
            trials={TrialState(row.state): row.number for row in rows if row.kind == trials.name},
            trained_tokens=sum(row.number for row in rows if row.kind == TOKENS),
            training_gigaflops=sum(row.number for row in rows if row.kind == GIGAFLOPS),
        )


def _heads(search_ids: Collection[str]) -> Select[Any]:
    """Return the query for each search's last progress and, if it has one, its best trial."""
    rival = trials.alias()
    # In the order of an index, so that the first row is found without a look at the others.
    best = (
        select(rival.c.number)
        .where(
            rival.c.search_id == searches.c.id,
            rival.c.role == TrialRole.SEARCH.value,
            rival.c.state == TrialState.COMPLETED.value,
            rival.c.measured_tokens.is_not(None),
        )
        .order_by(rival.c.measured_tokens.desc(), rival.c.loss, rival.c.measured_parameters, rival.c.number)
        .limit(1)
        .scalar_subquery()
    )
    is_best = and_(trials.c.search_id == searches.c.id, trials.c.number == best)
    return (
        select(searches.c.id.label("of_search"), searches.c.progressed_at, searches.c.saved_tokens, trials)
        .select_from(searches.outerjoin(trials, is_best))
        .where(searches.c.id.in_(search_ids))
    )


def _groups(search_ids: Collection[str]) -> CompoundSelect[Any]:
    """Return the query for the groups of alike trials, and what each took.

    Only of promotions more is read than an index holds: they are few, and alone have resources of their own.
    """
    is_promotion = trials.c.role == TrialRole.PROMOTION.value
    own_processes = trials.c.promotion["resources"]["processes"].as_integer()
    return union_all(
        _grouped(null(), trials.c.search_id.in_(search_ids), ~is_promotion),
        _grouped(own_processes, trials.c.search_id.in_(search_ids), is_promotion),
    )


def _grouped(processes: ColumnElement[Any], *which: ColumnElement[bool]) -> Select[Any]:
    alike = (trials.c.search_id, trials.c.role, trials.c.state, trials.c.num_tokens)
    own = cast(processes, Integer).label("processes")
    return (
        select(
            *alike,
            own,
            func.count().label("size"),
            func.sum(trials.c.busy_microseconds).label("busy"),
            func.sum(trials.c.spent_microseconds).label("spent"),
        )
        .where(*which)
        .group_by(*alike, own)
    )


def _promoted(search_ids: Collection[str]) -> Select[Any]:
    """Return the query for the trials that made each winner which was promoted, the first first."""
    won = and_(
        trials.c.search_id == searches.c.id,
        trials.c.number == searches.c.winner["trial_number"].as_integer(),
    )
    line = (
        select(trials.c.search_id, trials.c.number, trials.c.promoted_from)
        .select_from(searches.join(trials, won))
        .where(searches.c.id.in_(search_ids), trials.c.promoted_from.is_not(None))
        .cte("line", recursive=True)
    )
    before = and_(trials.c.search_id == line.c.search_id, trials.c.number == line.c.promoted_from)
    line = line.union_all(
        select(trials.c.search_id, trials.c.number, trials.c.promoted_from).select_from(
            line.join(trials, before)
        )
    )
    is_of_it = and_(trials.c.search_id == line.c.search_id, trials.c.number == line.c.number)
    # What is promoted is older than its promotion.
    return select(trials).select_from(line.join(trials, is_of_it)).order_by(trials.c.number)


def _tally(head: RowMapping, groups: Collection[RowMapping], line: Collection[RowMapping]) -> Tally:
    return Tally(
        groups=in_order(
            TrialGroup(
                role=TrialRole(row["role"]),
                state=TrialState(row["state"]),
                num_tokens=row["num_tokens"],
                processes=row["processes"],
                size=row["size"],
                spent=timedelta(microseconds=int(row["spent"])),
            )
            for row in groups
        ),
        best=load(Trial, head) if head["number"] is not None else None,
        promoted=tuple(load(Trial, row) for row in line),
        busy=timedelta(microseconds=int(sum(row["busy"] for row in groups))),
        saved_tokens=head["saved_tokens"],
        progressed_at=head["progressed_at"],
    )


def _admitted(which: TrialFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.states is not None:
        conditions.append(trials.c.state.in_([state.value for state in which.states]))
    if which.roles is not None:
        conditions.append(trials.c.role.in_([role.value for role in which.roles]))
    return conditions


def _ordered(order: TrialOrder) -> list[ColumnElement[Any]]:
    loss, number = trials.c.loss, trials.c.number
    if order is TrialOrder.NUMBER:
        return [number]
    if order is TrialOrder.NUMBER_REVERSED:
        return [number.desc()]
    by_loss = loss if order is TrialOrder.LOSS else loss.desc()
    return [loss.is_(None), by_loss, number]


def _comes_after(order: TrialOrder, after: TrialPlace) -> ColumnElement[bool]:
    (last_loss, last_number), loss, number = after, trials.c.loss, trials.c.number
    if order is TrialOrder.NUMBER:
        return number > last_number
    if order is TrialOrder.NUMBER_REVERSED:
        return number < last_number
    if last_loss is None:
        return and_(loss.is_(None), number > last_number)
    is_worse = loss > last_loss if order is TrialOrder.LOSS else loss < last_loss
    return or_(is_worse, and_(loss == last_loss, number > last_number), loss.is_(None))
