"""The composition root: claims a search, prepares and drives it, takes its winner home, ends it.

Whatever happens, the search is left final, or unclaimed and resumable: one that a lost process left is
prepared again (from caches) and goes on from what is stored. Loads neither torch nor transformers: all
that touches a model runs in worker processes.
"""

import logging
import os
import socket
import uuid
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from minitron.progress import Progress
from nas.agenda import fail_promotions
from nas.clock import utc_now
from nas.errors import LostLease, StaleOrders, StoreUnavailable
from nas.estimate import estimate
from nas.ledger import Ledger
from nas.promoting import finalists, left_to_promote, lineage, settled
from nas.search import Search, SearchSpec, SearchState, Winner
from nas.settings import Settings
from nas.space import search_space
from nas.storage.sql import open_store
from nas.storage.store import Lease, SearchStore
from nas.supervisor import NOT_NOW, NOT_OURS
from nas.trial import Failure, FailureKind
from nas.waiting import WaitingKind
from workers import nodes, tasks
from workers.cluster import NotNow, WorkFailed, connected, require_room
from workers.nodes import Site
from workers.phases import Phases, cpus_at_once
from workers.report import Prepared, failure_of
from workers.room import num_beside, require_same, require_writable, with_all_cpus
from workers.running import Cancelled, Interrupted, Paused
from workers.studies import StudyKeeper
from workers.sweep import Sweep
from workers.watch import Reason, Watch
from workers.weigher import AxisWeigher

logger = logging.getLogger(__name__)

SUCCESS = 0
"""Also of a search that was cancelled, and of one that is left for another process in good order."""
FAILURE = 1
LEASE_SECONDS = 30.0
STARTING = Progress(stage="starting workers")
STUDY_SECONDS = 10.0
"""How long the end of a process may wait for its search's Optuna study."""


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


class _Run(Phases):
    """One search, from its claim to its end."""

    def __init__(
        self, store: SearchStore, lease: Lease, settings: Settings, watch: Watch, sweep: Sweep
    ) -> None:
        super().__init__(store, lease, settings, watch, sweep)
        self._study = StudyKeeper(store, lease.search_id, url=settings.optuna_storage)
        self._axes = AxisWeigher(store, lease)

    def to_its_end(self) -> int:
        """Run, record whatever ends it, and return the exit code."""
        self._study.start()
        self._axes.start()
        try:
            return self._ended()
        except Interrupted as error:
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
        except (Interrupted, LostLease, StoreUnavailable, NotNow):
            raise  # the search goes on, in another process or once what it needs is back
        except Cancelled:
            self._end(SearchState.CANCELLED)
        except Paused:
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
            self._num_cpus = cpus_at_once(search)
            stack.enter_context(
                connected(
                    address,
                    spec.resources,
                    max_parallel=at_once,
                    host_bytes=host_bytes,
                    cpus=self._num_cpus,
                )
            )
            self._watch.catch_signals()  # Ray has set its own
            self._report(STARTING)
            if address is not None:
                self._survey(spec, stack.enter_context(nodes.site(self._root)), host_bytes)
            spec = self._timed(search, is_shared=address is not None).spec_by_now
            wide = with_all_cpus(spec) if address is None else spec
            work = partial(tasks.prepare, wide, self._root, self._settings.cache_bytes, address is not None)
            where = nodes.here(wide.resources, self._refused)
            prepared = self._work(wide, work, where=where)
            self._keep_in_use(prepared)
            if search.ended_as is None:
                search = self._move(
                    SearchState.RUNNING,
                    parent_loss=prepared.parent_loss,
                    corrected_loss=prepared.corrected_loss,
                    made_from=prepared.artifacts,
                    progress=STARTING,
                )
                prepared = self._driven(search, prepared, spec)
            else:
                require_same(search, prepared.artifacts)
                self._move(SearchState.COMPLETING, progress=STARTING)
                prepared = self._corrected(prepared, spec)
            while not self._is_completed(spec, prepared):
                logger.info("search %s: a promotion was ordered meanwhile", search.id)

    def _is_completed(self, spec: SearchSpec, prepared: Prepared) -> bool:
        """Promote students, take the winner home and end the search; return False where more is to be promoted."""
        while left := left_to_promote(search := self._ours(), self._store.trials(search.id)):
            self._promote(search, left[0], spec, prepared)
        trials = self._store.trials(search.id)
        winner, choice = settled(spec, trials)
        if winner is None:
            assert search.ended_as is not None, "a driver without a completed trial gives up"
            return self._is_final(search)
        was = search.winner
        if was and was.trial_number == winner.number and (self._root / was.path).is_dir():
            return self._is_final(search, choice=choice)
        self._bring(spec, [winner, *finalists(spec, trials)[1:]], prepared)
        evaluated = self._evaluated(spec, finalists(spec, trials), prepared)
        line = lineage(winner, trials)
        path = self._work(spec, partial(tasks.export, evaluated, line, prepared, self._root))
        if not self._is_final(search, choice=choice, winner=Winner(trial_number=winner.number, path=path)):
            return False
        logger.info("search %s: trial %d wins, %s", search.id, winner.number, self._root / path)
        return True

    def _is_final(self, decided: Search, **changes: Any) -> bool:
        """End in good order; return False where more was ordered than when that was ``decided``."""
        try:
            self._move(decided.ending(SearchState.SUCCEEDED), orders=decided.orders, **changes)
        except StaleOrders:
            return False
        return True

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
        work = partial(tasks.time_blocks, search.spec, self._root, is_shared)
        table = self._work(search.spec, work, where=nodes.here(search.spec.resources, self._refused))
        timed = replace(self._ours(), latencies=table)
        timed = replace(timed, num_feasible=len(search_space(timed.measured_spec)))
        self._store.save_search(timed, self._lease)
        return timed

    def _end(self, state: SearchState, failure: Failure | None = None) -> None:
        """Make the search final, and its unfinished trials before it."""
        now = utc_now()
        if failure is not None:
            failure = replace(failure, log_tail=self._log_tail())
        search, ledger = self._ours(), Ledger(self._store, self._lease)
        if failure is not None and search.ended_as is not None:
            fail_promotions(search, self._store, ledger, utc_now, failure=failure)
        ledger.cancel(now, failure)
        if failure is not None:
            logger.error("search %s: %s", self._lease.search_id, failure.message)
        self._move(search.ending(state), failure=failure)
