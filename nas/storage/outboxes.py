"""Outboxes in a database, and in memory: the implementations of ``nas.outbox.OutboxStore``."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from threading import RLock

from sqlalchemy import Connection, RowMapping, Table, select

from nas.outbox import Backlog, Outbox, RegisteredVersion, TrackedRun
from nas.search import Event
from nas.spec import load
from nas.storage.changes import is_free
from nas.storage.engine import Database
from nas.storage.tables import events, outboxes, registered_versions, tracked_runs

_NONE = -1
"""A trial's or attempt's number in a key, where there is none."""
Events = Callable[..., list[Event]]


class SqlOutboxes:
    """An OutboxStore in the database of the searches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(
        self, outbox_id: str, *, target: str, experiment_id: str, owner: str, at: datetime, until: datetime
    ) -> Outbox | None:
        """See OutboxStore."""
        with self._database.writing() as connection:
            others = outboxes.c.target == target, outboxes.c.id != outbox_id
            for other in connection.execute(select(outboxes.c.id).where(*others)).scalars().all():
                for shown in (tracked_runs, registered_versions):
                    connection.execute(shown.delete().where(shown.c.outbox_id == other))
                connection.execute(outboxes.delete().where(outboxes.c.id == other))
            row = _row(connection, outbox_id)
            if row is not None and row["owner"] != owner and not is_free(row["owner"], row["until"], at):
                return None
            held = {"target": target, "experiment_id": experiment_id, "owner": owner, "until": until}
            if row is None:
                connection.execute(outboxes.insert().values(id=outbox_id, cursor=0, **held))
            else:
                connection.execute(outboxes.update().where(outboxes.c.id == outbox_id).values(**held))
            cursor = row["cursor"] if row is not None else 0
            return Outbox(id=outbox_id, target=target, experiment_id=experiment_id, cursor=cursor)

    def advance(
        self,
        outbox: Outbox,
        cursor: int,
        runs: Sequence[TrackedRun],
        versions: Sequence[RegisteredVersion] = (),
        *,
        owner: str,
        until: datetime,
    ) -> Outbox | None:
        """See OutboxStore."""
        with self._database.writing() as connection:
            row = _row(connection, outbox.id)
            if row is None or row["cursor"] != outbox.cursor:
                return None
            for run in runs:
                _put(connection, tracked_runs, {**_key(outbox.id, run), "run_id": run.run_id})
            for version in versions:
                _put(connection, registered_versions, {"outbox_id": outbox.id, **asdict(version)})
            moved = {"cursor": cursor, "owner": owner, "until": until}
            connection.execute(outboxes.update().where(outboxes.c.id == outbox.id).values(**moved))
            return replace(outbox, cursor=cursor)

    def release(self, outbox_id: str, owner: str) -> None:
        """See OutboxStore."""
        is_ours = outboxes.c.id == outbox_id, outboxes.c.owner == owner
        with self._database.writing() as connection:
            connection.execute(outboxes.update().where(*is_ours).values(owner=None, until=None))

    def rewind(self, target: str) -> None:
        """See OutboxStore."""
        with self._database.writing() as connection:
            connection.execute(outboxes.update().where(outboxes.c.target == target).values(cursor=0))

    def at(self, target: str) -> Outbox | None:
        """See OutboxStore."""
        query = select(outboxes).where(outboxes.c.target == target)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return load(Outbox, row) if row is not None else None

    def runs(self, outbox_id: str, search_ids: Collection[str], *, attempts: bool) -> list[TrackedRun]:
        """See OutboxStore."""
        runs = tracked_runs.c
        query = select(tracked_runs).where(runs.outbox_id == outbox_id, runs.search_id.in_(search_ids))
        if not attempts:
            query = query.where(runs.trial_number == _NONE)
        query = query.order_by(*tracked_runs.primary_key)
        with self._database.reading() as connection:
            return [_run(row) for row in connection.execute(query).mappings()]

    def versions(self, outbox_id: str, search_id: str) -> list[RegisteredVersion]:
        """See OutboxStore."""
        found = registered_versions.c
        query = select(registered_versions).where(found.outbox_id == outbox_id, found.search_id == search_id)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(found.version)).mappings().all()
        names = [field.name for field in fields(RegisteredVersion)]
        return [RegisteredVersion(**{name: row[name] for name in names}) for row in rows]

    def backlog(self, outbox: Outbox) -> Backlog:
        """See OutboxStore."""
        last = select(events.c.sequence).order_by(events.c.sequence.desc()).limit(1)
        oldest = select(events.c.at).where(events.c.sequence == outbox.cursor + 1)
        with self._database.reading() as connection:
            num_events = (connection.scalar(last) or 0) - outbox.cursor
            return Backlog(num_events=num_events, since=connection.scalar(oldest))


def _row(connection: Connection, outbox_id: str) -> RowMapping | None:
    query = select(outboxes).where(outboxes.c.id == outbox_id)
    return connection.execute(query).mappings().one_or_none()


def _put(connection: Connection, table: Table, row: dict[str, str | int]) -> None:
    """Write a row in place of the one of the same key."""
    is_same = [column == row[column.name] for column in table.primary_key]
    connection.execute(table.delete().where(*is_same))
    connection.execute(table.insert().values(row))


def _key(outbox_id: str, run: TrackedRun) -> dict[str, str | int]:
    return {
        "outbox_id": outbox_id,
        "search_id": run.search_id,
        "trial_number": _NONE if run.trial_number is None else run.trial_number,
        "attempt_number": _NONE if run.attempt_number is None else run.attempt_number,
    }


def _run(row: RowMapping) -> TrackedRun:
    numbers = {name: None if row[name] == _NONE else row[name] for name in ("trial_number", "attempt_number")}
    return TrackedRun(search_id=row["search_id"], run_id=row["run_id"], **numbers)


class InMemoryOutboxes:
    """An OutboxStore that lives as long as its process.

    Args:
        events: Of the store, as ``SearchStore.events``.
        last_sequence: Of the store, as ``SearchStore.last_sequence``.
    """

    def __init__(self, events: Events, last_sequence: Callable[[], int]) -> None:
        self._events = events
        self._last_sequence = last_sequence
        self._lock = RLock()
        self._outboxes: dict[str, Outbox] = {}
        self._turns: dict[str, tuple[str, datetime]] = {}
        self._runs: dict[str, dict[tuple[str, int, int], TrackedRun]] = {}
        self._versions: dict[str, dict[tuple[str, int], RegisteredVersion]] = {}

    def open(
        self, outbox_id: str, *, target: str, experiment_id: str, owner: str, at: datetime, until: datetime
    ) -> Outbox | None:
        """See OutboxStore."""
        with self._lock:
            for other in [each.id for each in self._outboxes.values() if each.target == target]:
                if other != outbox_id:
                    del self._outboxes[other], self._runs[other], self._versions[other]
            holder, lasts = self._turns.get(outbox_id, (None, None))
            if outbox_id in self._outboxes and holder != owner and not is_free(holder, lasts, at):
                return None
            known = self._outboxes.get(outbox_id)
            cursor = known.cursor if known else 0
            opened = Outbox(id=outbox_id, target=target, experiment_id=experiment_id, cursor=cursor)
            self._outboxes[outbox_id] = opened
            self._runs.setdefault(outbox_id, {})
            self._versions.setdefault(outbox_id, {})
            self._turns[outbox_id] = (owner, until)
            return opened

    def advance(
        self,
        outbox: Outbox,
        cursor: int,
        runs: Sequence[TrackedRun],
        versions: Sequence[RegisteredVersion] = (),
        *,
        owner: str,
        until: datetime,
    ) -> Outbox | None:
        """See OutboxStore."""
        with self._lock:
            known = self._outboxes.get(outbox.id)
            if known is None or known.cursor != outbox.cursor:
                return None
            for run in runs:
                key = _key(outbox.id, run)
                place = (run.search_id, int(key["trial_number"]), int(key["attempt_number"]))
                self._runs[outbox.id][place] = run
            for version in versions:
                self._versions[outbox.id][version.search_id, version.trial_number] = version
            self._outboxes[outbox.id] = replace(outbox, cursor=cursor)
            self._turns[outbox.id] = (owner, until)
            return self._outboxes[outbox.id]

    def release(self, outbox_id: str, owner: str) -> None:
        """See OutboxStore."""
        with self._lock:
            if self._turns.get(outbox_id, (None,))[0] == owner:
                del self._turns[outbox_id]

    def rewind(self, target: str) -> None:
        """See OutboxStore."""
        with self._lock:
            for known in list(self._outboxes.values()):
                if known.target == target:
                    self._outboxes[known.id] = replace(known, cursor=0)

    def at(self, target: str) -> Outbox | None:
        """See OutboxStore."""
        with self._lock:
            return next((each for each in self._outboxes.values() if each.target == target), None)

    def runs(self, outbox_id: str, search_ids: Collection[str], *, attempts: bool) -> list[TrackedRun]:
        """See OutboxStore."""
        with self._lock:
            found = sorted(self._runs.get(outbox_id, {}).items())
        return [
            run
            for (search_id, trial, _), run in found
            if search_id in search_ids and (attempts or trial == _NONE)
        ]

    def versions(self, outbox_id: str, search_id: str) -> list[RegisteredVersion]:
        """See OutboxStore."""
        with self._lock:
            found = self._versions.get(outbox_id, {}).values()
            return sorted(
                (each for each in found if each.search_id == search_id), key=lambda each: each.version
            )

    def backlog(self, outbox: Outbox) -> Backlog:
        """See OutboxStore."""
        unsent = self._events(after=outbox.cursor, limit=1)
        return Backlog(
            num_events=self._last_sequence() - outbox.cursor, since=unsent[0].at if unsent else None
        )
