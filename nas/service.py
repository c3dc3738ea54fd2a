"""What people do with searches: the use cases of REST, page and command line.

Knows a store and where artifacts lie; no HTTP, no database, no worker. A search that is created waits in
the store until a runner takes it.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from minitron.errors import MinitronError
from nas.admission import admitted, planned, resolved
from nas.clock import Clock, utc_now
from nas.disk import tree_bytes
from nas.edits import Edit
from nas.errors import Conflict, LogUnavailable, NotFound, UnknownCursor
from nas.estimate import Estimate, Rate, estimate, measured_rate
from nas.layout import search_directory
from nas.listing import (
    EVERY_SEARCH,
    EVERY_TRIAL,
    SearchFilter,
    SearchOrder,
    TrialFilter,
    TrialOrder,
    TrialPlace,
    listed_trials,
)
from nas.logs import LogTail, log_path, read_tail, stored_tail
from nas.mlflow_links import MlflowLinks
from nas.parent import architecture_of
from nas.patch import patched_spec
from nas.search import Event, Search, SearchSpec, SearchState
from nas.standing import SearchView, TrialRecord, records_of, view_of
from nas.storage.store import RequestKey, SearchStore
from nas.totals import Totals
from nas.trial import Trial

RATED_SEARCHES = 20
"""The latest ones, that a rate is measured on."""
_ID_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""Digits and letters that are not mistaken for one another."""


class SearchService:
    """The use cases. Unknown ids raise NotFound."""

    def __init__(
        self,
        store: SearchStore,
        *,
        artifact_root: Path,
        logs: Path | None = None,
        device_flops: float | None = None,
        mlflow: MlflowLinks | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._device_flops = device_flops
        self._artifact_root = artifact_root
        self._logs = logs
        self.mlflow = mlflow or MlflowLinks(store.outboxes, "", None)
        """Where searches are in MLflow."""
        self._clock = clock

    def create(
        self,
        spec: SearchSpec,
        *,
        said: Edit | None = None,
        key: RequestKey | None = None,
        cloned_from: str | None = None,
    ) -> Search:
        """Check a spec as far as can be without loading a model, and queue a search of it, with what is said of it.

        Local paths in the spec are made absolute first: relative ones count from the directory of this
        process, and a worker may run in another. A parent on the hub is asked for its commit and config.
        A request whose key came before gets its search again, as it stands by now.

        Raises:
            KeyReused: The key came before with another request.
            InvalidSpec: A field that cannot be run; EmptySpace when nothing fits the budget.
            HubUnavailable: The hub does not answer for its parent or its data.
        """
        if key and (earlier := self._store.keyed_search(key)):
            return earlier
        spec, space = admitted(resolved(spec), self._artifact_root)
        now = self._clock()
        search = Search(
            id=_new_id(now),
            spec=spec,
            num_feasible=len(space),
            parent_parameters=space.parent.parameter_count,
            cloned_from=cloned_from,
            created_at=now,
        )
        return self._store.add_search(said.said_of(search) if said else search, key)

    def clone(
        self, search_id: str, patch: Any, *, said: Edit | None = None, key: RequestKey | None = None
    ) -> Search:
        """Queue a search of the spec that a merge patch makes of another search's; ``{}`` changes nothing.

        What is said of the other search is not said of this one.

        Raises:
            InvalidSpec: As ``create``, or the patch is none.
            KeyReused, HubUnavailable: As ``create``.
        """
        source = self._store.get_search(search_id)
        return self.create(patched_spec(source.spec, patch), said=said, key=key, cloned_from=source.id)

    def plan(self, spec: SearchSpec, *, flops_per_second: float | None = None) -> Estimate:
        """Check a spec as ``create`` does, store nothing, and return what the search would cost.

        Where ``parent_config`` is given, a parent or a hub that is not there is no obstacle, and told.

        Args:
            spec: What is asked.
            flops_per_second: What one process of a trial computes; None takes what was stated for this
                service, else what earlier trials with the same resources did, if there are any.

        Raises:
            InvalidSpec, HubUnavailable: As ``create``.
        """
        spec, space, unchecked = planned(resolved(spec), self._artifact_root)
        stated = flops_per_second or self._device_flops
        rate = Rate(flops_per_second=stated, source="as stated") if stated else None
        found = estimate(spec, space, rate=rate or self._measured_rate(spec))
        return replace(found, unchecked=unchecked)

    def _measured_rate(self, spec: SearchSpec) -> Rate | None:
        """Return what trials with these resources computed a second: of the same parent, else of any."""

        def are_alike(other: SearchSpec) -> bool:
            ours, theirs = spec.resources, other.resources
            return replace(ours, memory_bytes=None, threads=0) == replace(
                theirs, memory_bytes=None, threads=0
            )

        succeeded = SearchFilter(states=(SearchState.SUCCEEDED,))
        latest = self._store.list_searches(succeeded, limit=RATED_SEARCHES)
        alike = [search for search in latest if are_alike(search.spec)]
        same = [search for search in alike if search.spec.parent == spec.parent]
        finished = []
        for search in same or alike:
            try:
                parent = architecture_of(search.spec)
            except MinitronError:
                continue  # gone since
            finished.append((search.spec, parent, self._store.trials(search.id)))
        return measured_rate(finished)

    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""
        return self._view(self._store.get_search(search_id))

    def search(self, search_id: str) -> Search:
        """Return a search as stored, which costs less than where it stands."""
        return self._store.get_search(search_id)

    def list_views(
        self,
        which: SearchFilter = EVERY_SEARCH,
        *,
        order: SearchOrder = SearchOrder.NEWEST,
        after: str | None = None,
        limit: int = 100,
    ) -> list[SearchView]:
        """Return searches in order, from the one that comes after the search with the id ``after``."""
        searches = self._store.list_searches(which, order=order, after=after, limit=limit)
        return [self._view(search) for search in searches]

    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number."""
        return self._records(search_id, self._store.trials(search_id))

    def list_trials(
        self,
        search_id: str,
        which: TrialFilter = EVERY_TRIAL,
        *,
        order: TrialOrder = TrialOrder.NUMBER,
        after: TrialPlace | None = None,
        limit: int = 100,
    ) -> list[TrialRecord]:
        """Return trials of a search in order, from the one that comes after a place."""
        trials = listed_trials(self._store.trials(search_id), which, order=order, after=after)
        return self._records(search_id, trials[:limit])

    def cancel(self, search_id: str) -> Search:
        """Ask for the end of a search; see ``SearchStore.request_cancel``."""
        return self._store.request_cancel(search_id, self._clock())

    def edit(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """Say something of a search, at any time; see ``SearchStore.edit_search``.

        Raises:
            StaleVersion: It was edited meanwhile, and is none of ``versions``, if they are given.
        """
        return self._store.edit_search(search_id, edit, versions=versions)

    def events(self, *, after: int = 0, search_id: str | None = None, limit: int = 1000) -> list[Event]:
        """Return what happened since, in order."""
        return self._store.events(after=after, search_id=search_id, limit=limit)

    def event_cursor(self, after: int | None, field: str) -> int:
        """Return a cursor into the events that was given as ``field``; None is behind the last event.

        Raises:
            UnknownCursor: No event has this sequence: it comes from another database, or nowhere.
        """
        last = self._store.last_sequence()
        if after is not None and not 0 <= after <= last:
            raise UnknownCursor(field, f"found {after}, allowed: 0 to {last}, the last event there is")
        return last if after is None else after

    def totals(self) -> Totals:
        """Return how much is stored; it is counted anew each time."""
        return self._store.totals()

    def winner_directory(self, search_id: str) -> Path:
        """Return the checkpoint directory of a search's winner.

        Raises:
            Conflict: There is no winner, or not yet.
            NotFound: The directory is gone.
        """
        search = self._store.get_search(search_id)
        if search.winner is None:
            when = "has none" if search.state.is_final else "has none yet"
            raise Conflict(f"winner: search {search_id} {when}; it is {search.state}")
        directory = self._artifact_root / search.winner.path
        if not directory.is_dir():
            raise NotFound(f"winner: {directory}: no such directory")
        return directory

    def log(self, search_id: str, *, num_lines: int) -> LogTail:
        """Return the end of the log of a search's worker: of the file, else what its failure took along.

        Raises:
            LogUnavailable: There is none yet, or its file lies on another machine.
        """
        search = self._store.get_search(search_id)
        where = f"below NAS_HOME/logs where its worker runs, as {search_id}.log"
        if self._logs is not None:
            path = log_path(self._logs, search_id)
            try:
                return read_tail(path, num_lines)
            except OSError as error:
                where = f"{where}; here: {path}: {error.strerror}"
        if search.failure and search.failure.log_tail is not None:
            return stored_tail(search.failure.log_tail, num_lines, search.finished_at)
        if search.state is SearchState.QUEUED:
            raise LogUnavailable(f"log: search {search_id} has none yet; it is QUEUED")
        raise LogUnavailable(f"log: search {search_id}: to be found {where}")

    def disk_bytes(self, search_id: str) -> int:
        """Return what the states, students and winner of a search take below the artifact root."""
        return tree_bytes(search_directory(self._artifact_root, self._store.get_search(search_id).id))

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers and has the present schema."""
        self._store.ping()

    def _records(self, search_id: str, trials: Sequence[Trial]) -> list[TrialRecord]:
        return records_of(trials, self._store.points(search_id), self._store.attempts(search_id))

    def _view(self, search: Search) -> SearchView:
        return view_of(search, self.trials(search.id))


def _new_id(at: datetime) -> str:
    """Return an id that sorts by time, is short enough to type and needs no quoting in an address."""
    return f"{at:%y%m%d-%H%M%S}-{''.join(secrets.choice(_ID_ALPHABET) for _ in range(5))}"
