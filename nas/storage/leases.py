"""Who runs which search, and which wait for somebody, as SQL. Decides nothing."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, or_, select

from nas.search import Search, SearchState
from nas.spec import load
from nas.storage import changes
from nas.storage.engine import Database
from nas.storage.rows import search_row
from nas.storage.store import Lease
from nas.storage.tables import searches


class SqlLeases:
    """The part of the SQL store that knows who holds searches."""

    _database: Database

    def claim(self, search_id: str, owner: str, *, at: datetime, until: datetime) -> Lease | None:
        """See SearchStore."""
        with self._database.writing() as connection:
            row = search_row(connection, search_id)
            held = (row["lease_owner"], row["lease_until"])
            if not changes.claimable(SearchState(row["state"]), *held, owner, at):
                return None
            hold(connection, search_id, owner, until)
            return Lease(search_id=search_id, owner=owner)

    def renew(self, lease: Lease, *, until: datetime) -> bool:
        """See SearchStore."""
        with self._database.writing() as connection:
            is_held = search_row(connection, lease.search_id)["lease_owner"] == lease.owner
            if is_held:
                hold(connection, lease.search_id, lease.owner, until)
            return bool(is_held)

    def release(self, lease: Lease) -> None:
        """See SearchStore."""
        with self._database.writing() as connection:
            if search_row(connection, lease.search_id)["lease_owner"] == lease.owner:
                hold(connection, lease.search_id, None, None)

    def unclaimed(self, at: datetime) -> list[Search]:
        """See SearchStore."""
        wanted = [state.value for state in SearchState if not (state.is_final or state is SearchState.PAUSED)]
        query = (
            select(searches)
            .where(searches.c.state.in_(wanted))
            .where(or_(searches.c.lease_owner.is_(None), searches.c.lease_until <= at))
            .order_by(searches.c.created_at, searches.c.id)
        )
        with self._database.reading() as connection:
            return [load(Search, row) for row in connection.execute(query).mappings()]

    def held(self, search_ids: Collection[str], at: datetime) -> set[str]:
        """See SearchStore."""
        query = select(searches.c.id).where(
            searches.c.id.in_(search_ids), searches.c.lease_owner.is_not(None)
        )
        with self._database.reading() as connection:
            return set(connection.scalars(query.where(searches.c.lease_until > at)))

    def queue(self, limit: int) -> list[str]:
        """See SearchStore."""
        query = select(searches.c.id).where(searches.c.state == SearchState.QUEUED.value)
        with self._database.reading() as connection:
            return list(connection.scalars(query.order_by(searches.c.created_at, searches.c.id).limit(limit)))


def hold(connection: Connection, search_id: str, owner: str | None, until: datetime | None) -> None:
    """Write who holds a search; None: nobody."""
    held = {"lease_owner": owner, "lease_until": until}
    connection.execute(searches.update().where(searches.c.id == search_id).values(**held))
