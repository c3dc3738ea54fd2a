"""Totals as SQL: counted by the database, so that no row leaves it."""

from sqlalchemy import Connection, Table, func, select

from nas.search import SearchState
from nas.storage.tables import points, searches, trials
from nas.totals import Totals
from nas.trial import TrialState


def counted(connection: Connection) -> Totals:
    """Return the totals of what is stored."""
    last = select(func.max(points.c.num_tokens).label("tokens"))
    last_of_each = last.group_by(points.c.search_id, points.c.trial_number).subquery()
    return Totals(
        searches={SearchState(state): number for state, number in _by_state(connection, searches)},
        trials={TrialState(state): number for state, number in _by_state(connection, trials)},
        trained_tokens=int(connection.scalar(select(func.sum(last_of_each.c.tokens))) or 0),
    )


def _by_state(connection: Connection, table: Table) -> list[tuple[str, int]]:
    query = select(table.c.state, func.count()).group_by(table.c.state)
    return [(state, number) for state, number in connection.execute(query)]
