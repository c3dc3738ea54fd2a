"""The composition root: claims a search, prepares and drives it, takes its winner home, ends it.

Whatever happens, the search is left final, or unclaimed and resumable: one that a lost process left is
prepared again (from caches) and goes on from what is stored. Loads neither torch nor transformers: all
that touches a model runs in worker processes.
"""

import errno
import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from minitron.progress import Progress
from nas.agenda import fail_promotions
from nas.clock import utc_now
from nas.disk import keep_in_use
from nas.driver import Driver
from nas.errors import InvalidSettings, LostLease, StaleOrders, StoreUnavailable
from nas.estimate import estimate
from nas.ledger import Ledger
from nas.promoting import finalists, left_to_promote, lineage, missing_promotions, settled
from nas.promotion import Promotion
from nas.search import Search, SearchSpec, SearchState, Winner
from nas.settings import Settings
from nas.space import search_space
from nas.storage.sql import open_store
from nas.storage.store import Lease, SearchStore
from nas.supervisor import NOT_NOW, NOT_OURS
from nas.trial import Failure, FailureKind, Trial
from nas.waiting import WaitingKind
from workers import nodes, tasks
from workers.background import Background
from workers.cluster import NotNow, WorkFailed, connected, no_place, require_room
from workers.executor import TuneExecutor
from workers.hints import hint_of
from workers.nodes import Site
from workers.report import Prepared, failure_of
from workers.running import Cancelled, Interrupted, Paused, Running
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


class _Run(Running):
    """One search, from its claim to its end."""

    def __init__(
        self, store: SearchStore, lease: Lease, settings: Settings, watch: Watch, sweep: Sweep
    ) -> None:
        super().__init__(store, lease, settings, watch)
        self._sweep = sweep
        self._site: Site | None = None
        """What the nodes of a cluster are held to; a local one has one node, which is this."""
        self._num_cpus = 0.0
        """That Ray was started for beside those of trials."""
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
        _require_writable(self._root)
        search = self._move(SearchState.PREPARING, progress=Progress(stage="starting Ray"))
        spec = search.spec_by_now
        address = self._settings.ray_address
        host_bytes = estimate(spec, search_space(spec)).trial.host_bytes
        with ExitStack() as stack:
            at_once = spec.max_parallel + _num_beside(spec)
            self._num_cpus = _num_cpus(search)
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
            roomy = _roomy(spec) if address is None else spec
            work = partial(tasks.prepare, roomy, self._root, self._settings.cache_bytes, address is not None)
            where = nodes.here(roomy.resources, self._refused)
            prepared = self._work(roomy, work, where=where)
            self._keep_in_use(prepared)
            if search.ended_as is None:
                known = {
                    "parent_loss": prepared.parent_loss,
                    "corrected_loss": prepared.corrected_loss,
                    "made_from": prepared.artifacts,
                }
                search = self._move(SearchState.RUNNING, progress=STARTING, **known)
                prepared = self._driven(search, prepared, spec)
            else:
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

    def _promote(self, search: Search, promotion: Promotion, spec: SearchSpec, prepared: Prepared) -> None:
        """Run the promotions by one recipe; what hinders them is theirs alone, and the search goes on without them."""
        promoted = spec.promoted_by(promotion)
        if self._settings.ray_address is None and _num_cpus(search) > self._num_cpus:
            raise Interrupted("promotions want more CPUs than Ray was started for")
        try:
            self._driven_promotions(search, promotion, promoted, spec, prepared)
        except (Interrupted, Cancelled, Paused, LostLease, StoreUnavailable, NotNow):
            raise
        except Exception as error:
            failure = error.failure if isinstance(error, WorkFailed) else failure_of(error)
            if failure.kind is FailureKind.UNREACHABLE:
                raise
            logger.exception("search %s: its students cannot be promoted", search.id)
            ledger = Ledger(self._store, self._lease)
            failure = replace(failure, log_tail=self._log_tail())
            fail_promotions(self._ours(), self._store, ledger, utc_now, failure=failure, promotion=promotion)

    def _driven_promotions(
        self,
        search: Search,
        promotion: Promotion,
        promoted: SearchSpec,
        spec: SearchSpec,
        prepared: Prepared,
    ) -> None:
        address, resources = self._settings.ray_address, promoted.resources
        host_bytes = estimate(promoted, search_space(promoted)).trial.host_bytes
        require_room(resources, host_bytes=host_bytes, refused=self._refused, is_local=address is None)
        if promotion.start == "student":
            trials = self._store.trials(search.id)
            begun = [each.promoted_from for each in trials if each.promotion and not each.state.is_final]
            wanted = {*begun, *(each.trial_number for each in missing_promotions(search, trials))}
            self._bring(spec, [trial for trial in trials if trial.number in wanted], prepared)
        roomy = _roomy(promoted) if address is None else promoted
        work = partial(tasks.prepare_promotions, roomy, prepared, self._root, address is not None)
        made = self._work(roomy, work, where=nodes.here(roomy.resources, self._refused))
        self._keep_in_use(prepared, made)
        self._drive(self._ours(), made, promoted, promotion=promotion)

    def _corrected(self, prepared: Prepared, spec: SearchSpec) -> Prepared:
        """Return ``prepared`` with the teacher as it is once it was corrected alongside."""
        if not prepared.stages:
            return prepared
        corrected_loss = self._work(spec, partial(tasks.correct, spec, prepared, self._root))
        return replace(prepared, corrected_loss=corrected_loss)

    def _keep_in_use(self, *prepared: Prepared) -> None:
        """Note what must stay where it lies while the search runs."""
        root = self._root.resolve()  # a parent elsewhere is the user's: it is not touched
        paths = {path.resolve() for each in prepared for path in each.paths}
        used = sorted(path for path in paths if path.is_relative_to(root))
        keep_in_use(root, self._lease.search_id, used)
        self._sweep.in_use = (*used, *([self._site.probe] if self._site else []))

    def _survey(self, spec: SearchSpec, site: Site, host_bytes: int) -> None:
        """Find out which nodes may run trials; those that may not are told of and not used."""
        self._site = site
        self._refused = nodes.unfit_nodes(site)
        told = [f"node {nodes.name_of(node_id)}: {reason}" for node_id, reason in self._refused.items()]
        for line in told:
            logger.warning("not used: %s", line)
            self._report(Progress(stage=f"not used: {line}"))
        require_room(spec.resources, host_bytes=host_bytes, refused=self._refused, why="; ".join(told))

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
        self,
        search: Search,
        prepared: Prepared,
        spec: SearchSpec,
        beside: Background[float] | None = None,
        *,
        promotion: Promotion | None = None,
    ) -> None:
        hint = hint_of(spec, prepared) if promotion is None else None
        driver = Driver(search, self._store, self._lease, utc_now, hint=hint, promotion=promotion)
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
            raise Paused
        if not has_room and driver.max_parallel > spec.max_parallel:
            driver.leave()
            raise Interrupted("more trials are wanted at once than Ray was started for")
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


def _require_writable(root: Path) -> None:
    """Raise InvalidSettings where nothing can be written below the artifact root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk has an error of its own
        raise InvalidSettings(
            f"NAS_ARTIFACT_ROOT: {root}: cannot be written: {error.strerror}, allowed: a directory that workers "
            "can write"
        ) from error


def _num_cpus(search: Search) -> float:
    """Return how many CPUs the promotions that a search may come to ask for at once."""
    spec, promotion = search.spec_by_now, search.spec.promotion
    wanted = [each.promotion for each in search.orders.promoted] + ([promotion] if promotion else [])
    resources = [each.resources or spec.resources for each in wanted]
    return max((each.cpus * each.processes * spec.max_parallel for each in resources), default=0.0)


def _num_beside(spec: SearchSpec) -> int:
    """Return for how many processes there is room beside the trials."""
    return int(spec.correction is not None and spec.correction.mode == "alongside")


def _roomy(spec: SearchSpec) -> SearchSpec:
    """Return ``spec`` with the CPUs of all its trials for one task: on a local cluster nothing else runs yet."""
    resources = spec.resources
    trials = resources.cpus * resources.processes * spec.max_parallel
    cpus = max(resources.cpus, min(os.cpu_count() or 1, trials))
    return replace(spec, resources=replace(resources, cpus=cpus))
