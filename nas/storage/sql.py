"""The store in a database: SQLite on one machine, PostgreSQL for a team. Speaks SQL and decides nothing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, RowMapping, Table, func, inspect, select, text

from nas.clock import Clock, utc_now
from nas.earlier import Prior
from nas.edits import Edit, said
from nas.errors import NotFound, StoreUnavailable
from nas.listing import EVERY_SEARCH, SearchFilter, SearchOrder
from nas.orders import Order
from nas.search import AxisImportance, Event, Search
from nas.spec import dump, load
from nas.storage import changes, sums, tables
from nas.storage.engine import Database
from nas.storage.history_sql import SqlHistory, record
from nas.storage.leases import SqlLeases, hold
from nas.storage.ordered import Ordered, Present, order_event, ordered
from nas.storage.outboxes import SqlOutboxes
from nas.storage.queries import listed_searches, require_search
from nas.storage.rows import find, point_in, put, row_of, rows_of, search_row
from nas.storage.sql_accounts import SqlAccounts
from nas.storage.standings import SqlStandings
from nas.storage.store import Lease, RequestKey, TrialPoint
from nas.trial import Attempt, Point, Trial


def open_store(url: str) -> "SqlStore":
    """Return the store at an address, its schema made or brought up to date.

    Raises:
        StoreUnavailable: The database does not answer, or its schema is newer than this program.
    """
    store = SqlStore(url)
    store.upgrade()
    return store


_LAST_SEQUENCE = func.max(tables.events.c.sequence)


class SqlStore(SqlStandings, SqlLeases):
    """A SearchStore in the database at ``url``; ``open_store`` sees to its schema."""

    def __init__(self, url: str, clock: Clock = utc_now) -> None:
        self._database = Database(url)
        self.history = SqlHistory(self._database)
        self.accounts = SqlAccounts(self._database)
        self._clock = clock
        self.outboxes = SqlOutboxes(self._database)
        self._migrations = Config()
        self._migrations.set_main_option("script_location", "nas.storage:migrations")
        self._migrations.attributes["writing"] = self._database.writing
        self._steps = ScriptDirectory.from_config(self._migrations)

    def upgrade(self) -> None:
        """Bring the schema up to date; of several processes that try at once, the first does it."""
        present = self._revision()
        if present not in {None, *(step.revision for step in self._steps.walk_revisions())}:
            raise self._mismatch(present)
        if present != self._steps.get_current_head():
            command.upgrade(self._migrations, "head")

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def add_search(self, search: Search, key: RequestKey | None = None) -> Search:
        """See SearchStore."""
        with self._database.writing() as connection:
            if key and (earlier := _keyed_search(connection, key)):
                return earlier
            row = find(connection, tables.searches, id=search.id)
            if added := changes.added_search(load(Search, row) if row else None, search):
                connection.execute(tables.searches.insert().values(row_of(added)))
                _index_tags(connection, added)
                sums.moved(connection, tables.searches.name, None, added.state)
                self._tell(connection, search.id, "search", None, changes.search_event(added))
            if key:
                put(connection, tables.request_keys, row_of(key) | {"search_id": search.id}, is_new=True)
            return search

    def keyed_search(self, key: RequestKey) -> Search | None:
        """See SearchStore."""
        with self._database.reading() as connection:
            return _keyed_search(connection, key)

    def get_search(self, search_id: str) -> Search:
        """See SearchStore."""
        with self._database.reading() as connection:
            return load(Search, search_row(connection, search_id))

    def list_searches(
        self,
        which: SearchFilter = EVERY_SEARCH,
        *,
        order: SearchOrder = SearchOrder.NEWEST,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Search]:
        """See SearchStore."""
        query = listed_searches(which, order, after).limit(limit)
        with self._database.reading() as connection:
            if after is not None:
                require_search(connection, after)
            return [load(Search, row) for row in connection.execute(query).mappings()]

    def save_search(self, search: Search, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, search.id) as (connection, row):
            if changed := changes.saved_search(load(Search, row), search):
                self._put_search(connection, changed)
                sums.progressed(connection, search.id, self._clock())

    def save_importance(self, importance: AxisImportance, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id) as (connection, row):
            stored = load(Search, row)
            if stored.importance != importance:
                self._put_search(connection, replace(stored, importance=importance))

    def save_priors(self, priors: Sequence[Prior], lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id) as (connection, row):
            stored = load(Search, row)
            if stored.num_priors is None:
                for number, prior in enumerate(priors):
                    key = {"search_id": stored.id, "number": number}
                    put(connection, tables.priors, key | row_of(prior), is_new=True)
                self._put_search(connection, replace(stored, num_priors=len(priors)))

    def priors(self, search_id: str) -> list[Prior]:
        """See SearchStore."""
        return [load(Prior, row) for row in self._rows_of(tables.priors, search_id)]

    def edit_search(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """See SearchStore."""
        with self._database.writing() as connection:
            search = load(Search, search_row(connection, search_id))
            if changed := changes.edited_search(search, edit, versions):
                put(connection, tables.searches, {"id": search_id, **said(changed)}, is_new=False)
                _index_tags(connection, changed)
                self._tell(connection, search_id, "edit", None, changes.edit_event(changed))
            return changed or search

    def give_order(self, search_id: str, order: Order, *, at: datetime, by: str = "") -> Search:
        """See SearchStore."""
        with self._database.writing() as connection:
            row = search_row(connection, search_id)
            present = Present(
                search=load(Search, row),
                trials=[load(Trial, each) for each in rows_of(connection, tables.trials, search_id)],
                attempts=[load(Attempt, each) for each in rows_of(connection, tables.attempts, search_id)],
                trained_tokens=sums.searched_tokens(connection, search_id),
                is_held=not changes.is_free(row["lease_owner"], row["lease_until"], at),
                at=at,
                by=by,
            )
            if changed := ordered(order, present):
                self._put_ordered(connection, changed)
                number = getattr(order, "trial_number", None)
                self._tell(connection, search_id, "order", number, order_event(order, by))
            return changed.search if changed else present.search

    def _put_ordered(self, connection: Connection, changed: Ordered) -> None:
        if changed.ends_lease:
            hold(connection, changed.search.id, None, None)
        for attempt in changed.attempts:
            self._put_attempt(connection, attempt, is_new=False)
        search = search_row(connection, changed.search.id)
        for trial in changed.trials:
            row = find(connection, tables.trials, search_id=trial.search_id, number=trial.number)
            self._put_trial(connection, search, row, trial)
        self._put_search(connection, changed.search)

    def _put_attempt(self, connection: Connection, attempt: Attempt, *, is_new: bool) -> None:
        put(connection, tables.attempts, row_of(attempt), is_new=is_new)
        self._tell(connection, attempt.search_id, "attempt", attempt.trial_number, dump(attempt))
        sums.weigh(connection, attempt.search_id, attempt.trial_number)

    def _put_trial(
        self, connection: Connection, search: RowMapping, before: RowMapping | None, trial: Trial
    ) -> None:
        columns = row_of(trial) | sums.measured_columns(trial)
        put(connection, tables.trials, columns, is_new=before is None)
        sums.moved(connection, tables.trials.name, before["state"] if before else None, trial.state)
        if trial.state.is_final:
            record(connection, search, trial)
            sums.saved(connection, trial)
        self._tell(connection, trial.search_id, "trial", trial.number, dump(trial))

    def save_trial(self, trial: Trial, lease: Lease, points: Sequence[Point] = ()) -> None:
        """See SearchStore."""
        with self._held(lease, trial.search_id) as (connection, search):
            row = find(connection, tables.trials, search_id=trial.search_id, number=trial.number)
            if changed := changes.saved_trial(load(Trial, row) if row else None, trial):
                self._put_trial(connection, search, row, changed)
                sums.progressed(connection, trial.search_id, self._clock())
            for point in points:
                told = TrialPoint(trial_number=trial.number, point=point)
                self._put_point(connection, trial.search_id, told)

    def trials(self, search_id: str) -> list[Trial]:
        """See SearchStore."""
        return [load(Trial, row) for row in self._rows_of(tables.trials, search_id)]

    def add_point(self, point: TrialPoint, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id, point.trial_number) as (connection, _):
            self._put_point(connection, lease.search_id, point)

    def _put_point(self, connection: Connection, search_id: str, point: TrialPoint) -> None:
        number = point.trial_number
        key = {"search_id": search_id, "trial_number": number, "num_tokens": point.point.num_tokens}
        if find(connection, tables.points, **key) is None:
            row = key | row_of(changes.added_point(point).point)
            put(connection, tables.points, row, is_new=True)
            self._tell(connection, search_id, "point", number, changes.point_event(point))
            sums.weigh(connection, search_id, number)
            sums.progressed(connection, search_id, self._clock())

    def points(self, search_id: str, trials: Collection[int] | None = None) -> list[TrialPoint]:
        """See SearchStore."""
        return [point_in(row) for row in self._rows_of(tables.points, search_id, trials)]

    def save_attempt(self, attempt: Attempt, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, attempt.search_id, attempt.trial_number) as (connection, _):
            key = {name: getattr(attempt, name) for name in ("search_id", "trial_number", "number")}
            row = find(connection, tables.attempts, **key)
            if row is None or load(Attempt, row) != attempt:
                self._put_attempt(connection, attempt, is_new=row is None)
                sums.progressed(connection, attempt.search_id, self._clock())

    def attempts(self, search_id: str, trials: Collection[int] | None = None) -> list[Attempt]:
        """See SearchStore."""
        return [load(Attempt, row) for row in self._rows_of(tables.attempts, search_id, trials)]

    def events(
        self, *, after: int = 0, search_id: str | None = None, kind: str | None = None, limit: int = 1000
    ) -> list[Event]:
        """See SearchStore."""
        events = tables.events.c
        query = select(tables.events).where(events.sequence > after).order_by(events.sequence).limit(limit)
        with self._database.reading() as connection:
            if search_id is not None:
                require_search(connection, search_id)
                query = query.where(events.search_id == search_id)
            if kind is not None:
                query = query.where(events.kind == kind)
            return [load(Event, row) for row in connection.execute(query).mappings()]

    def last_sequence(self) -> int:
        """See SearchStore."""
        with self._database.reading() as connection:
            return connection.scalar(select(_LAST_SEQUENCE)) or 0

    def ping(self) -> None:
        """See SearchStore."""
        present = self._revision()
        if present != self._steps.get_current_head():
            raise self._mismatch(present)

    def _revision(self) -> str | None:
        """Return the revision of the schema, or None where there is none yet."""
        with self._database.reading() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision

    def _mismatch(self, present: str | None) -> StoreUnavailable:
        found = f"schema {present}" if present else "no schema"
        allowed = self._steps.get_current_head()
        return StoreUnavailable(f"{self._database.name}: found {found}, allowed by this version: {allowed}")

    def _rows_of(
        self, table: Table, search_id: str, trials: Collection[int] | None = None
    ) -> Sequence[RowMapping]:
        """Return the rows of a search, or of some of its trials, in a table by their key."""
        with self._database.reading() as connection:
            rows = rows_of(connection, table, search_id, trials)
            if not rows:
                require_search(connection, search_id)
            return rows

    @contextmanager
    def _held(
        self, lease: Lease, search_id: str, trial_number: int | None = None
    ) -> Iterator[tuple[Connection, RowMapping]]:
        """Give a transaction that a lease allows, and the search's row; the trial written about is there."""
        assert lease.search_id == search_id, f"lease of {lease.search_id} used on {search_id}"
        with self._database.writing() as connection:
            row = search_row(connection, search_id)
            changes.require_held(lease, row["lease_owner"])
            if trial_number is not None:
                key = {"search_id": search_id, "number": trial_number}
                if find(connection, tables.trials, **key) is None:
                    raise NotFound(f"search {search_id}: trial {trial_number}: not found")
            yield connection, row

    def _put_search(self, connection: Connection, search: Search) -> None:
        row = row_of(search)
        del row["spec"]
        before = connection.scalar(select(tables.searches.c.state).filter_by(id=search.id))
        sums.moved(connection, tables.searches.name, before, search.state)
        put(connection, tables.searches, row, is_new=False)
        self._tell(connection, search.id, "search", None, changes.search_event(search))

    def _tell(
        self,
        connection: Connection,
        search_id: str,
        kind: str,
        trial_number: int | None,
        data: Mapping[str, Any],
    ) -> None:
        last = select(func.coalesce(_LAST_SEQUENCE, 0)).scalar_subquery()
        row = {
            "sequence": last + 1,
            "search_id": search_id,
            "kind": kind,
            "trial_number": trial_number,
            "at": self._clock(),
            "data": data,
        }
        connection.execute(tables.events.insert().values(row))


def _keyed_search(connection: Connection, key: RequestKey) -> Search | None:
    row = find(connection, tables.request_keys, key=key.key)
    if row is None:
        return None
    changes.require_same(load(RequestKey, row), key)
    return load(Search, search_row(connection, row["search_id"]))


def _index_tags(connection: Connection, search: Search) -> None:
    """Make the search found by the tags that it has by now."""
    tags = tables.search_tags
    connection.execute(tags.delete().where(tags.c.search_id == search.id))
    if search.tags:
        connection.execute(tags.insert(), [{"search_id": search.id, "tag": tag} for tag in search.tags])
