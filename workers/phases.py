"""What a runner does with a search once it is prepared: its trials, its promotions, and what they need.

Loads neither torch nor transformers: all that touches a model runs in worker processes.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from nas.agenda import fail_promotions
from nas.clock import utc_now
from nas.disk import keep_in_use
from nas.driver import Driver
from nas.errors import LostLease, StoreUnavailable
from nas.estimate import estimate
from nas.ledger import Ledger
from nas.promoting import sources
from nas.promotion import Promotion
from nas.search import Search, SearchSpec
from nas.settings import Settings
from nas.space import search_space
from nas.storage.store import Lease, SearchStore
from nas.trial import FailureKind, Trial
from workers import nodes, tasks
from workers.background import Background
from workers.cluster import NotNow, WorkFailed, no_place, require_room
from workers.executor import TuneExecutor
from workers.hints import hint_of
from workers.nodes import Site
from workers.report import Prepared, failure_of
from workers.room import num_beside, with_all_cpus
from workers.running import Cancelled, Interrupted, Paused, Running
from workers.students import missing_students
from workers.sweep import Sweep
from workers.watch import Watch

logger = logging.getLogger(__name__)


class Phases(Running):
    """The phases of one search, for its runner to put in order."""

    def __init__(
        self, store: SearchStore, lease: Lease, settings: Settings, watch: Watch, sweep: Sweep
    ) -> None:
        super().__init__(store, lease, settings, watch)
        self._sweep = sweep
        self._site: Site | None = None
        """What the nodes of a cluster are held to; a local one has one node, which is this."""
        self._num_cpus = 0.0
        """That a local Ray was started for."""

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

    def _promote(self, search: Search, promotion: Promotion, spec: SearchSpec, prepared: Prepared) -> None:
        """Run the promotions by one recipe; what hinders them is theirs alone, and the search goes on without them."""
        promoted = spec.promoted_by(promotion)
        if self._settings.ray_address is None and cpus_at_once(search) > self._num_cpus:
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
        """Bring the students, prepare what they learn from, and run them."""
        address, resources = self._settings.ray_address, promoted.resources
        host_bytes = estimate(promoted, search_space(promoted)).trial.host_bytes
        require_room(resources, host_bytes=host_bytes, refused=self._refused, is_local=address is None)
        self._bring(spec, sources(search, self._store.trials(search.id), promotion), prepared)
        wide = with_all_cpus(promoted) if address is None else promoted
        work = partial(tasks.prepare_promotions, wide, prepared, self._root, address is not None)
        made = self._work(wide, work, where=nodes.here(wide.resources, self._refused))
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


def cpus_at_once(search: Search) -> float:
    """Return how many CPUs a search comes to ask for at once: for its trials and what goes on beside them, or promotions."""
    spec, promotion = search.spec_by_now, search.spec.promotion
    wanted = [each.promotion for each in search.orders.promoted] + ([promotion] if promotion else [])
    promoted = [(each.resources or spec.resources, spec.max_parallel) for each in wanted]
    asked = [(spec.resources, spec.max_parallel + num_beside(spec)), *promoted]
    return max(each.cpus * each.processes * number for each, number in asked)
