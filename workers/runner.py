"""The composition root: claims a search, prepares and drives it, takes its winner home, ends it.

Whatever happens, the search is left final, or unclaimed and resumable: one that a lost process left is
prepared again (from caches) and goes on from what is stored. Loads neither torch nor transformers: all
that touches a model runs in worker processes.
"""

import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from minitron.progress import Progress, Report
from nas.clock import utc_now
from nas.disk import keep_in_use
from nas.driver import Driver
from nas.errors import LostLease, StoreUnavailable
from nas.estimate import estimate
from nas.frontier import best_trial, finalists
from nas.ledger import Ledger
from nas.logs import log_path, tail_for_failure
from nas.search import Search, SearchSpec, SearchState, Winner
from nas.settings import Settings
from nas.space import search_space
from nas.storage.sql import open_store
from nas.storage.store import Lease, SearchStore
from nas.supervisor import NOT_NOW, NOT_OURS
from nas.trial import Failure, FailureKind, Trial
from nas.waiting import WaitingKind
from workers import nodes, tasks
from workers.background import Background, Log
from workers.cluster import NotNow, WorkFailed, connected, no_place, require_room, run_task
from workers.executor import TuneExecutor
from workers.hints import hint_of
from workers.nodes import Site
from workers.report import Prepared, failure_of
from workers.room import num_beside, require_writable, with_all_cpus
from workers.students import missing_students
from workers.studies import StudyKeeper
from workers.sweep import Sweep
from workers.watch import Reason, Watch
from workers.weigher import AxisWeigher

logger = logging.getLogger(__name__)

SUCCESS = 0
"""Also of a search that was cancelled, and of one that is left for another process in good order."""
FAILURE = 1
LEASE_SECONDS = 30.0
PROGRESS_SECONDS = 1.0
STARTING = Progress(stage="starting workers")
STUDY_SECONDS = 10.0
"""How long the end of a process may wait for its search's Optuna study."""


class _Interrupted(Exception):
    """The process must end before its search has; says why."""


class _Paused(Exception):
    """The user wants the search left alone for now."""


class _Cancelled(Exception):
    """The user has ended the search."""


def run_search(search_id: str, settings: Settings, *, lease_seconds: float = LEASE_SECONDS) -> int:
    """Run one search to its end, and return the exit code of the process.

    Call it from the main thread of a process of its own: it catches signals and starts Ray.
    """
    store = open_store(settings.database_url)
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    now = utc_now()
    lease = store.claim(search_id, owner, at=now, until=now + timedelta(seconds=lease_seconds))
    if lease is None:
        state = store.get_search(search_id).state
        logger.error("search %s: is %s, or held by another process", search_id, state)
        return NOT_OURS
    logger.info("search %s: claimed", search_id)
    sweep = Sweep(store, search_id, settings.artifact_root)
    with Watch(store, lease, lease_seconds=lease_seconds, at_renewal=sweep) as watch:
        code = _Run(store, lease, settings, watch, sweep).to_its_end()
        sweep()
    return code


class _Run:
    """One search in one process."""

    def __init__(
        self, store: SearchStore, lease: Lease, settings: Settings, watch: Watch, sweep: Sweep
    ) -> None:
        self._sweep = sweep
        self._store = store
        self._lease = lease
        self._settings = settings
        self._root = settings.artifact_root
        self._watch = watch
        self._progress_at = 0.0
        self._cancel_at = 0.0
        self._is_stopping = False
        """Whether work was ended because the user wanted that, who may want it otherwise by now."""
        self._site: Site | None = None
        """What the nodes of a cluster are held to; a local one has one node, which is this."""
        self._refused: dict[str, str] = {}
        self._study = StudyKeeper(store, lease.search_id, url=settings.optuna_storage)
        self._axes = AxisWeigher(store, lease)

    def to_its_end(self) -> int:
        """Run, record whatever ends it, and return the exit code."""
        self._study.start()
        self._axes.start()
        try:
            return self._ended()
        except _Interrupted as error:
            logger.info("search %s: left as it is: %s", self._lease.search_id, error)
            return NOT_OURS if self._watch.reason in {Reason.LOST_LEASE, Reason.KILLED} else SUCCESS
        except NotNow as error:
            logger.warning("search %s: waits: %s", self._lease.search_id, error)
            self._report(Progress(stage=error.stage))
            return NOT_NOW
        except LostLease as error:
            logger.warning("%s", error)
            return NOT_OURS
        finally:
            self._axes.close(STUDY_SECONDS)
            self._study.close(STUDY_SECONDS)

    def _ended(self) -> int:
        """Run, and make the search final."""
        try:
            self._run()
        except (_Interrupted, LostLease, StoreUnavailable, NotNow):
            raise  # the search goes on, in another process or once what it needs is back
        except _Cancelled:
            self._end(SearchState.CANCELLED)
        except _Paused:
            Ledger(self._store, self._lease).interrupt(utc_now())
            self._move(SearchState.PAUSED)
        except WorkFailed as error:
            if error.failure.kind is FailureKind.UNREACHABLE:
                raise NotNow(WaitingKind.HUB, error.failure.message) from error
            self._end(SearchState.FAILED, failure=error.failure)
            return FAILURE
        except Exception as error:
            logger.exception("search %s: failed", self._lease.search_id)
            self._end(SearchState.FAILED, failure=failure_of(error))
            return FAILURE
        return SUCCESS

    def _run(self) -> None:
        self._check()
        require_writable(self._root)
        search = self._move(SearchState.PREPARING, progress=Progress(stage="starting Ray"))
        spec = search.spec_by_now
        address = self._settings.ray_address
        host_bytes = estimate(spec, search_space(spec)).trial.host_bytes
        with ExitStack() as stack:
            at_once = spec.max_parallel + num_beside(spec)
            stack.enter_context(
                connected(address, spec.resources, max_parallel=at_once, host_bytes=host_bytes)
            )
            self._watch.catch_signals()  # Ray has set its own
            self._report(STARTING)
            if address is not None:
                self._survey(spec, stack.enter_context(nodes.site(self._root)), host_bytes)
            spec = self._timed(search, is_shared=address is not None).spec_by_now
            roomy = with_all_cpus(spec) if address is None else spec
            work = partial(tasks.prepare, roomy, self._root, self._settings.cache_bytes, address is not None)
            where = nodes.here(roomy.resources, self._refused)
            prepared = self._work(roomy, work, where=where)
            root = self._root.resolve()  # a parent elsewhere is the user's: it is not touched
            used = [path.resolve() for path in prepared.paths if path.resolve().is_relative_to(root)]
            keep_in_use(root, search.id, used)
            self._sweep.in_use = (*used, *([self._site.probe] if self._site else []))
            search = self._move(
                SearchState.RUNNING,
                parent_loss=prepared.parent_loss,
                corrected_loss=prepared.corrected_loss,
                made_from=prepared.artifacts,
                progress=STARTING,
            )
            prepared = self._driven(search, prepared, spec)
            trials = self._store.trials(search.id)
            winner = best_trial(trials)
            assert winner is not None, "a driver without a completed trial gives up"
            self._bring(spec, [winner, *finalists(spec, trials)[1:]], prepared)
            search = self._evaluated(spec, finalists(spec, trials), prepared)
            path = self._work(spec, partial(tasks.export, search, winner, prepared, self._root))
        self._move(SearchState.SUCCEEDED, winner=Winner(trial_number=winner.number, path=path))
        logger.info("search %s: trial %d wins, %s", search.id, winner.number, self._root / path)

    def _survey(self, spec: SearchSpec, site: Site, host_bytes: int) -> None:
        """Find out which nodes may run trials; those that may not are told of and not used."""
        self._site = site
        self._refused = nodes.unfit_nodes(site)
        told = [f"node {nodes.name_of(node_id)}: {reason}" for node_id, reason in self._refused.items()]
        for line in told:
            logger.warning("not used: %s", line)
            self._report(Progress(stage=f"not used: {line}"))
        require_room(spec.resources, host_bytes=host_bytes, refused=self._refused, why="; ".join(told))

    def _timed(self, search: Search, *, is_shared: bool) -> Search:
        """Return the search with what its budget of latency needs, which is timed once in its life."""
        asked = search.budget.latency
        if asked is None or asked.table is not None:
            return search
        table = self._work(search.spec, partial(tasks.time_blocks, search.spec, self._root, is_shared))
        timed = replace(self._ours(), latencies=table)
        timed = replace(timed, num_feasible=len(search_space(timed.measured_spec)))
        self._store.save_search(timed, self._lease)
        return timed

    def _driven(self, search: Search, prepared: Prepared, spec: SearchSpec) -> Prepared:
        """Run the trials, and beside them what corrects their teacher, where that was asked for.

        ``spec`` is what Ray was started for; more trials at once may have been ordered since.

        Where its process dies, the trials end as they stand: they might wait for answers in the place that it needs.
        Then all go on, it first.
        """
        if not prepared.stages:
            self._drive(search, prepared, spec)
            return prepared
        work = partial(tasks.correct, search.spec, prepared, self._root)
        for _ in range(spec.max_attempts):
            with self._background(spec, work) as correction:
                correction.wait_until_begun()
                self._drive(search, prepared, spec, correction)
                if not correction.is_lost:
                    break
        corrected_loss = correction.result()
        self._check()
        search = replace(self._store.get_search(search.id), corrected_loss=corrected_loss)
        self._store.save_search(search, self._lease)
        return replace(prepared, corrected_loss=corrected_loss)

    def _drive(
        self, search: Search, prepared: Prepared, spec: SearchSpec, beside: Background[float] | None = None
    ) -> None:
        driver = Driver(search, self._store, self._lease, utc_now, hint=hint_of(spec, prepared))
        has_room = self._settings.ray_address is not None

        def must_stop() -> bool:
            is_short = not has_room and driver.max_parallel > spec.max_parallel
            return is_short or self._watch.must_stop() or (beside is not None and beside.has_failed)

        executor = TuneExecutor(
            partial(tasks.make_evaluate, spec, prepared, self._root, self._site),
            resources=spec.resources,
            max_parallel=spec.max_parallel,
            refused=self._refused,
            should_stop=must_stop,
            log_tail=self._log_tail,
            no_place=lambda count: no_place(spec.resources, count=count, refused=self._refused),
            root=self._root,
        )
        executor.run(driver)
        self._check()
        if driver.is_paused:
            raise _Paused
        if not has_room and driver.max_parallel > spec.max_parallel:
            driver.leave()
            raise _Interrupted("more trials are wanted at once than Ray was started for")
        if driver.failure is not None:
            raise WorkFailed(driver.failure)

    def _bring(self, spec: SearchSpec, trials: Sequence[Trial], prepared: Prepared) -> None:
        """Have the students of these trials here, also where other searches trained them."""
        if missing := missing_students(self._root, trials):
            make_evaluate = partial(tasks.make_evaluate, spec, prepared, self._root, self._site)
            work = partial(tasks.bring_students, missing, self._root, make_evaluate)
            self._work(spec, work, processes=spec.resources.processes)

    def _evaluated(self, spec: SearchSpec, students: Sequence[Trial], prepared: Prepared) -> Search:
        """Ask teacher and finalists, if that was asked for, and return the search with what they score."""
        search = self._store.get_search(self._lease.search_id)
        if students:
            found = self._work(spec, partial(tasks.put_tasks, spec, students, prepared, self._root))
            search = replace(self._store.get_search(search.id), evaluated=found)
            self._store.save_search(search, self._lease)
        return search

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
            raise _Interrupted(self._watch.reason.value)
        search = self._ours()
        if search.cancel_requested:
            raise _Cancelled
        if search.orders.is_paused or self._is_stopping:
            raise _Paused

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

    def _end(self, state: SearchState, failure: Failure | None = None) -> None:
        """Make the search final, and its unfinished trials before it."""
        now = utc_now()
        if failure is not None:
            failure = replace(failure, log_tail=self._log_tail())
        Ledger(self._store, self._lease).cancel(now, failure)
        if failure is not None:
            logger.error("search %s: %s", self._lease.search_id, failure.message)
        self._move(state, failure=failure)
