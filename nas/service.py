"""What people do with searches: the use cases of REST, page and command line.

Knows a store and where artifacts lie; no HTTP, no database, no worker. A search that is created waits in
the store until a runner takes it.
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from minitron.errors import MinitronError
from nas.accounts import DEFAULT_WORKSPACE, LOCAL
from nas.admission import admitted, planned, resolved
from nas.authentication import Authentication
from nas.clock import Clock, utc_now
from nas.compatible import require_sources
from nas.confinement import EVERYWHERE, Confinement
from nas.control import SearchControl
from nas.disk import tree_bytes
from nas.edits import Edit
from nas.errors import Conflict, InvalidRequest, LogUnavailable, NotFound, UnknownCursor
from nas.estimate import Estimate, estimate
from nas.frontier import Comparison
from nas.layout import search_directory
from nas.leaderboard import comparison_of
from nas.listing import (
    EVERY_SEARCH,
    EVERY_TRIAL,
    SearchFilter,
    SearchOrder,
    TrialFilter,
    TrialOrder,
    TrialPlace,
)
from nas.log_ranges import LogRanges
from nas.logs import LogTail, log_path, read_tail, stored_tail
from nas.mlflow_links import MlflowLinks
from nas.parent import architecture_of
from nas.patch import patched_spec
from nas.people import People
from nas.rates import Rate, measured_rate
from nas.retrospect import Retrospect
from nas.reusable import reusable
from nas.search import MOST, Event, Search, SearchSpec, SearchState
from nas.standing import SearchView, TrialRecord, records_of, view_of, with_waits
from nas.storage.store import RequestKey, SearchStore
from nas.totals import Totals
from nas.trial import Trial, TrialRole, TrialState
from nas.waiting import NO_CAPACITY, Capacity

RATED_SEARCHES, RATED_TRIALS = 20, 50
"""The latest ones, and the first of each, that a rate is measured on."""
BASELINES = (TrialRole.RANDOM_ARCHITECTURE, TrialRole.RANDOM_INDICES)
COMPLETED = TrialFilter(states=(TrialState.COMPLETED,))
MOST_WORKSPACES_KEPT = 100_000
_ID_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""Digits and letters that are not mistaken for one another."""


class SearchService(Retrospect):
    """The use cases. Unknown ids raise NotFound."""

    def __init__(
        self,
        store: SearchStore,
        *,
        artifact_root: Path,
        logs: Path | None = None,
        device_flops: float | None = None,
        capacity: Capacity = NO_CAPACITY,
        confinement: Callable[[], Confinement] = lambda: EVERYWHERE,
        mlflow: MlflowLinks | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.control = SearchControl(store, clock=clock, capacity=capacity)
        """What is done with searches under way."""
        self.log_ranges = LogRanges(store, artifact_root=artifact_root, logs=logs)
        self._store = store
        self._device_flops = device_flops
        self._artifact_root = artifact_root
        self._logs = logs
        self._confinement = confinement
        self.mlflow = mlflow or MlflowLinks(store.outboxes, "", None)
        """Where searches are in MLflow."""
        self._clock = clock
        self._workspaces: dict[str, str] = {}
        """Of searches that were asked for: none ever moves to another."""
        self.people = People(store.accounts, clock)
        self.authentication = Authentication(store.accounts, clock)

    def create(
        self,
        spec: SearchSpec,
        *,
        said: Edit | None = None,
        key: RequestKey | None = None,
        cloned_from: str | None = None,
        workspace: str | None = None,
    ) -> Search:
        """Check a spec as far as can be without loading a model, and queue a search of it, with what is said of it.

        Local paths in the spec are made absolute first: relative ones count from the directory of this
        process, and a worker may run in another. A parent on the hub is asked for its commit and config.
        A request whose key came before gets its search again, as it stands by now. Without a workspace it
        belongs to ``default``.

        Raises:
            KeyReused: The key came before with another request.
            InvalidRequest: There is no such workspace.
            InvalidSpec: A field that cannot be run; EmptySpace when nothing fits the budget.
            HubUnavailable: The hub does not answer for its parent or its data.
        """
        if key and (earlier := self._store.keyed_search(key)):
            return earlier
        workspace = self._known_workspace(workspace)
        spec, space = admitted(self._confined(spec), self._artifact_root)
        require_sources(spec, self._store, (workspace,))
        now = self._clock()
        search = Search(
            id=_new_id(now),
            spec=spec,
            num_feasible=len(space),
            parent_parameters=space.parent.parameter_count,
            cloned_from=cloned_from,
            workspace=workspace,
            created_at=now,
        )
        return self._store.add_search(said.said_of(search) if said else search, key)

    def clone(
        self,
        search_id: str,
        patch: Any,
        *,
        said: Edit | None = None,
        key: RequestKey | None = None,
        workspace: str | None = None,
    ) -> Search:
        """Queue a search of the spec that a merge patch makes of another search's; ``{}`` changes nothing.

        What is said of the other search is not said of this one; by default they share their workspace.

        Raises:
            InvalidSpec: As ``create``, or the patch is none.
            KeyReused, HubUnavailable: As ``create``.
        """
        source = self._store.get_search(search_id)
        return self.create(
            patched_spec(source.spec, patch),
            said=said,
            key=key,
            cloned_from=source.id,
            workspace=workspace or source.workspace,
        )

    def plan(
        self,
        spec: SearchSpec,
        *,
        flops_per_second: float | None = None,
        workspaces: Collection[str] | None = None,
    ) -> Estimate:
        """Check a spec as ``create`` does, store nothing, and return what the search would cost.

        Where ``parent_config`` is given, a parent or a hub that is not there is no obstacle, and told.

        Args:
            spec: What is asked.
            flops_per_second: What one process of a trial computes; None takes what was stated for this
                service, else what earlier trials with the same resources did, if there are any it may see.
            workspaces: Those that it may be submitted in; None: all.

        Raises:
            InvalidSpec, HubUnavailable: As ``create``.
        """
        spec, space, unchecked = planned(self._confined(spec), self._artifact_root)
        require_sources(spec, self._store, workspaces)
        stated = flops_per_second or self._device_flops
        rate = Rate(flops_per_second=stated, source="as stated") if stated else None
        found = estimate(spec, space, rate=rate or self._measured_rate(spec, workspaces))
        known = reusable(spec, space, self._store, workspaces)
        return replace(found, unchecked=unchecked, reusable=known)

    def _measured_rate(self, spec: SearchSpec, workspaces: Collection[str] | None) -> Rate | None:
        """Return what trials of these workspaces with these resources computed a second: of the same parent, else of any."""

        def are_alike(other: SearchSpec) -> bool:
            ours, theirs = spec.resources, other.resources
            return replace(ours, memory_bytes=None, threads=0) == replace(
                theirs, memory_bytes=None, threads=0
            )

        seen = None if workspaces is None else tuple(sorted(workspaces))
        succeeded = SearchFilter(states=(SearchState.SUCCEEDED,), workspaces=seen)
        latest = self._store.list_searches(succeeded, limit=RATED_SEARCHES)
        alike = [search for search in latest if are_alike(search.spec)]
        same = [search for search in alike if search.spec.parent == spec.parent]
        finished = []
        for search in same or alike:
            try:
                parent = architecture_of(search.spec)
            except MinitronError:
                continue  # gone since
            trials = self._store.list_trials(search.id, COMPLETED, limit=RATED_TRIALS)
            trials = [trial for trial in trials if trial.reused_from is None]
            finished.append((search.spec, parent, trials))
        return measured_rate(finished)

    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""
        return self._views([self._store.get_search(search_id)])[0]

    def comparison(self, search: Search) -> Comparison | None:
        """Return how a search's best trial compares with its baselines so far; None while nothing has completed."""
        best = self._store.tallies([search.id])[search.id].best
        if best is None:
            return None
        # Architectures that the search completed itself are baselines too, where some were drawn.
        roles = None if search.spec.comparisons.random_architectures else BASELINES
        which = TrialFilter(states=COMPLETED.states, roles=roles)
        trials = self._store.list_trials(search.id, which, limit=MOST["num_trials"])
        return comparison_of(search, trials if best in trials else [best, *trials])

    def search(self, search_id: str) -> Search:
        """Return a search as stored, which costs less than where it stands."""
        return self._store.get_search(search_id)

    def workspace_of(self, search_id: str) -> str:
        """Return the workspace of a search."""
        if search_id not in self._workspaces:
            if len(self._workspaces) >= MOST_WORKSPACES_KEPT:
                self._workspaces.clear()
            self._workspaces[search_id] = self._store.get_search(search_id).workspace
        return self._workspaces[search_id]

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
        return self._views(searches)

    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number."""
        trials = self._store.trials(search_id)
        return self._records(search_id, trials, whole=trials)

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
        trials = self._store.list_trials(search_id, which, order=order, after=after, limit=limit)
        return self._records(search_id, trials)

    def edit(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """Say something of a search, at any time; see ``SearchStore.edit_search``.

        Raises:
            StaleVersion: It was edited meanwhile, and is none of ``versions``, if they are given.
        """
        return self._store.edit_search(search_id, edit, versions=versions)

    def events(
        self, *, after: int = 0, search_id: str | None = None, kind: str | None = None, limit: int = 1000
    ) -> list[Event]:
        """Return what happened since, in order; ``kind`` None: of every kind."""
        return self._store.events(after=after, search_id=search_id, kind=kind, limit=limit)

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
        """Return how much is stored."""
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

    def _confined(self, spec: SearchSpec) -> SearchSpec:
        """Return a spec with absolute paths, before anything looks at what is there."""
        spec = resolved(spec)
        self._confinement().require(spec)
        return spec

    def _known_workspace(self, name: str | None) -> str:
        if name is None or name == DEFAULT_WORKSPACE:
            return DEFAULT_WORKSPACE
        known = self.people.workspaces(LOCAL)
        if name not in known:
            raise InvalidRequest("workspace", f"found {name}, allowed: {', '.join(known)}")
        return name

    def _records(
        self, search_id: str, trials: list[Trial], whole: list[Trial] | None = None
    ) -> list[TrialRecord]:
        """Return trials with all that is known; what else its search holds is read only where one waits, to rank it."""
        numbers = None if whole else [trial.number for trial in trials]
        waits = any(trial.state is TrialState.WAITING for trial in trials)
        points = self._store.points(search_id, None if waits else numbers)
        records = records_of(trials, points, self._store.attempts(search_id, numbers))
        if not waits:
            return records
        spec = self._store.get_search(search_id).measured_spec
        return with_waits(records, spec, whole or self._store.trials(search_id), points)

    def _views(self, searches: Sequence[Search]) -> list[SearchView]:
        waiting = self.control.waiting(searches)
        tallies = self._store.tallies([search.id for search in searches])
        return [
            replace(view_of(search, tallies[search.id]), waiting=waiting.get(search.id))
            for search in searches
        ]


def _new_id(at: datetime) -> str:
    """Return an id that sorts by time, is short enough to type and needs no quoting in an address."""
    return f"{at:%y%m%d-%H%M%S}-{''.join(secrets.choice(_ID_ALPHABET) for _ in range(5))}"
