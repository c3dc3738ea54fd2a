"""What a runner's process has of its search: the lease, what people want of it, and worker processes for its work.

Loads neither torch nor transformers.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from minitron.progress import Progress, Report
from nas.clock import utc_now
from nas.errors import LostLease
from nas.logs import log_path, tail_for_failure
from nas.search import Search, SearchSpec, SearchState
from nas.settings import Settings
from nas.storage.store import Lease, SearchStore
from workers import nodes
from workers.background import Background, Log
from workers.cluster import run_task
from workers.watch import Watch

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0


class Interrupted(Exception):
    """The process must end before its search has; says why."""


class Paused(Exception):
    """The user wants the search left alone for now."""


class Cancelled(Exception):
    """The user has ended the search."""


class Running:
    """One search in one process; raises what ends its work early."""

    def __init__(self, store: SearchStore, lease: Lease, settings: Settings, watch: Watch) -> None:
        self._store = store
        self._lease = lease
        self._settings = settings
        self._root = settings.artifact_root
        self._watch = watch
        self._progress_at = 0.0
        self._cancel_at = 0.0
        self._is_stopping = False
        """Whether work was ended because the user wanted that, who may want it otherwise by now."""
        self._refused: dict[str, str] = {}

    def _work(
        self,
        spec: SearchSpec,
        work: Callable[[Report], Any],
        *,
        where: Mapping[str, str] | None = None,
        processes: int = 1,
    ) -> Any:
        """Run work in a worker process, with the resources of a trial."""
        result = run_task(
            work,
            resources=spec.resources,
            max_attempts=spec.max_attempts,
            report=self._report,
            should_stop=self._must_stop,
            where=nodes.elsewhere(self._refused) if where is None else where,
            processes=processes,
        )
        self._check()
        return result

    def _background(self, spec: SearchSpec, work: Callable[[Report], float]) -> Background[float]:
        """Return work that goes on beside trials, in a worker process with the resources of a trial's."""
        return Background(
            work,
            resources=spec.resources,
            report=Log(self._lease.search_id),
            should_stop=self._must_stop,
            where=nodes.elsewhere(self._refused),
        )

    def _must_stop(self) -> bool:
        if self._is_stopping or self._watch.must_stop():
            return True
        if time.monotonic() < self._cancel_at:
            return False
        self._cancel_at = time.monotonic() + PROGRESS_SECONDS
        search = self._store.get_search(self._lease.search_id)
        self._is_stopping = search.cancel_requested or search.orders.is_paused
        return self._is_stopping

    def _check(self) -> None:
        """Raise when the search or this process is to go no further."""
        if self._watch.reason is not None:
            raise Interrupted(self._watch.reason.value)
        search = self._ours()
        if search.cancel_requested:
            raise Cancelled
        if search.orders.is_paused or self._is_stopping:
            raise Paused

    def _ours(self) -> Search:
        """Return the search; raises LostLease where it was ended, or paused while nobody seemed to run it."""
        search = self._store.get_search(self._lease.search_id)
        if search.state.is_final or search.state is SearchState.PAUSED:
            raise LostLease(f"search {search.id}: is {search.state}, which is not this runner's doing")
        return search

    def _report(self, progress: Progress) -> None:
        """Store what work tells of itself, the first of each stage and then one a second."""
        search = self._store.get_search(self._lease.search_id)
        is_new = search.progress is None or search.progress.stage != progress.stage
        if is_new or time.monotonic() >= self._progress_at:
            self._progress_at = time.monotonic() + PROGRESS_SECONDS
            self._store.save_search(replace(search, progress=progress), self._lease)
        if is_new:
            found = ": found from earlier work" if progress.is_cached else ""
            logger.info("search %s: %s%s", search.id, progress.stage, found)

    def _move(self, state: SearchState, **changes: Any) -> Search:
        search = self._ours().moved(state, utc_now(), **changes)
        self._store.save_search(search, self._lease)
        logger.info("search %s: %s", search.id, state)
        return search

    def _log_tail(self) -> str | None:
        """Return what was printed last, where this process prints into the log of its search."""
        path = log_path(self._settings.log_directory, self._lease.search_id)
        return tail_for_failure(path, printed_to=sys.stderr)
