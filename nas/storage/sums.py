"""What repeats in other columns what is stored, so that nobody need count it: written in the transaction that changes it.

Called by the one transaction that writes, so that numbers may be read and written without a lock of their own. A write
costs as much as its one trial has points.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from minitron.architecture import Architecture
from nas.spec import load
from nas.storage.tables import attempts, points, searches, totals, trials
from nas.tally import effort_of, training_gigaflops
from nas.trial import Trial, TrialRole

MICROSECOND = timedelta(microseconds=1)
TOKENS, GIGAFLOPS = "tokens", "gigaflops"
"""The kinds of totals that are no counts of a table's rows."""


def measured_columns(trial: Trial) -> dict[str, Any]:
    """Return what a trial is ranked by."""
    measured = trial.measurement
    return {
        "loss": measured.loss if measured else None,
        "measured_tokens": measured.num_tokens if measured else None,
        "measured_parameters": measured.num_parameters if measured else None,
    }


def weigh(connection: Connection, search_id: str, trial_number: int) -> None:
    """Bring up to date what a trial has taken, after a point or an attempt of it was written.

    The points of a reused trial took nothing here.
    """
    evaluated = connection.execute(_of_trial(points, search_id, trial_number, "num_tokens", "at")).all()
    spans = connection.execute(_of_trial(attempts, search_id, trial_number, "started_at", "ended_at")).all()
    effort = effort_of([tuple(row) for row in evaluated], [tuple(row) for row in spans])
    is_it = (trials.c.search_id == search_id, trials.c.number == trial_number)
    known = select(trials.c.num_tokens, trials.c.architecture, trials.c.reused_from)
    before, shape, reused_from = connection.execute(known.where(*is_it)).one()
    if reused_from is not None:
        return
    connection.execute(
        trials.update()
        .where(*is_it)
        .values(
            num_tokens=effort.num_tokens,
            busy_microseconds=effort.busy // MICROSECOND,
            spent_microseconds=effort.spent // MICROSECOND,
        )
    )
    if effort.num_tokens > before:
        length = searches.c.spec["data"]["sequence_length"].as_integer()
        context = connection.scalars(select(length).where(searches.c.id == search_id)).one()
        took = partial(training_gigaflops, load(Architecture, shape), sequence_length=context)
        add_to_total(connection, TOKENS, "", effort.num_tokens - before)
        add_to_total(connection, GIGAFLOPS, "", took(effort.num_tokens) - took(before))


def searched_tokens(connection: Connection, search_id: str) -> int:
    """Return how many tokens the SEARCH trials of a search were trained on, as ``weigh`` counts them."""
    of_search = (trials.c.search_id == search_id, trials.c.role == TrialRole.SEARCH)
    return int(connection.scalars(select(func.sum(trials.c.num_tokens)).where(*of_search)).one() or 0)


def saved(connection: Connection, trial: Trial) -> None:
    """Count what a trial that has become final was not trained on."""
    if trial.saved_tokens:
        total = searches.c.saved_tokens + trial.saved_tokens
        connection.execute(
            searches.update().where(searches.c.id == trial.search_id).values(saved_tokens=total)
        )


def progressed(connection: Connection, search_id: str, at: datetime) -> None:
    """Note that a search's workers had something new to store."""
    connection.execute(searches.update().where(searches.c.id == search_id).values(progressed_at=at))


def moved(connection: Connection, kind: str, before: str | None, state: str) -> None:
    """Count a row of a table in its state, and no longer in the one before."""
    if before != state:
        add_to_total(connection, kind, state, 1)
        if before is not None:
            add_to_total(connection, kind, before, -1)


def add_to_total(connection: Connection, kind: str, state: str, change: int) -> None:
    """Add to a total, which is made when there is none yet."""
    if change:
        is_it = (totals.c.kind == kind, totals.c.state == state)
        found = connection.execute(totals.update().where(*is_it).values(number=totals.c.number + change))
        if not found.rowcount:
            connection.execute(totals.insert().values(kind=kind, state=state, number=change))


def _of_trial(table: Table, search_id: str, trial_number: int, *names: str) -> Select[Any]:
    """Return the query for columns of what belongs to a trial, by its key."""
    is_of_it = (table.c.search_id == search_id, table.c.trial_number == trial_number)
    return select(*(table.c[name] for name in names)).where(*is_of_it).order_by(*table.primary_key)
