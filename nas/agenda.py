"""What is to be run next of a search: its own trials and then its baselines, or the promotions of its best students.

An agenda decides and writes what it decides; ``nas.driver`` knows how what it names is run. It remembers nothing that the
store does not, but what it was told last of people's orders.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from minitron.architecture import Architecture
from nas import limits, rungs
from nas.clock import Clock
from nas.comparisons import missing_baselines
from nas.errors import StaleOrders
from nas.frontier import best_trial
from nas.hopeless import failure_of_all, first_hopeless
from nas.ledger import Ledger
from nas.orders import Enqueued
from nas.priors import prior_measurements
from nas.promoting import left_to_promote, missing_promotions
from nas.promotion import Promoted, Promotion
from nas.proposer import next_number, propose
from nas.ranking import ranking_of
from nas.reuse import measured_before
from nas.rungs import Schedule
from nas.samplers.sampler import Hint
from nas.search import Search, SearchSpec, SearchState
from nas.space import SearchSpace
from nas.storage.store import Lease, SearchStore
from nas.trial import Failure, Trial, TrialRole, TrialState


class Agenda(ABC):
    """Decides for one search, in one of its phases."""

    stage: str
    """What progress calls the phase."""

    def __init__(
        self, search: Search, spec: SearchSpec, store: SearchStore, ledger: Ledger, clock: Clock
    ) -> None:
        self.orders = search.orders
        """As they were looked for last."""
        self.failure: Failure | None = None
        """Why the phase was given up, once it was."""
        self.schedule: Schedule = rungs.schedule(spec)
        self._search = search
        self._spec = spec
        self._store = store
        self._ledger = ledger
        self._clock = clock

    @abstractmethod
    def owns(self, trial: Trial) -> bool:
        """Return whether a trial is run in this phase."""

    @abstractmethod
    def take_over(self) -> None:
        """Bring to order what a lost process left in the midst of a decision."""

    @abstractmethod
    def next(self, handed_out: AbstractSet[int]) -> Trial | None:
        """Return a trial to run, stored; a final one where it need not be run; None: nothing, nothing yet, or given up."""

    @abstractmethod
    def expected_tokens(self, search: Search) -> int:
        """Return about how many tokens the phase trains on in all."""

    @abstractmethod
    def decide(self) -> None:
        """Write what follows from the points so far."""

    def parked(self, trial: Trial) -> Trial | None:
        """Return a running trial that was measured at a rung before its last as it waits there; None: it goes on."""
        self._ledger.save(trial.advanced())
        return None

    def is_measured(self, trial: Trial) -> bool:
        """Return whether a trial has the loss of the rung that it trains towards."""
        return self.schedule.rungs[trial.rung] in self._ledger.losses.get(trial.number, {})

    def is_at_last_rung(self, trial: Trial) -> bool:
        """Return whether a trial trains towards the end."""
        return trial.rung == len(self.schedule.rungs) - 1

    def _unfinished(self, handed_out: AbstractSet[int]) -> Trial | None:
        """Return a trial that a lost process left, or that has advanced, if there is one."""
        ready = [
            trial
            for trial in self._ledger.trials
            if self.owns(trial)
            and not trial.state.is_final
            and trial.number not in handed_out
            and not (trial.state is TrialState.WAITING and self.is_measured(trial))
        ]
        return min(
            ready,
            key=lambda trial: (trial.state is TrialState.WAITING, -trial.rung, trial.number),
            default=None,
        )

    def _made(self, architecture: Architecture, role: TrialRole, **known: Any) -> Trial:
        return Trial(
            search_id=self._search.id,
            number=next_number(self._ledger.trials),
            architecture=architecture,
            role=role,
            created_at=self._clock(),
            **known,
        )


class SearchAgenda(Agenda):
    """The trials that are proposed, compared at rungs, and the baselines after them."""

    stage = "trials"

    def __init__(
        self,
        search: Search,
        store: SearchStore,
        ledger: Ledger,
        clock: Clock,
        *,
        space: SearchSpace,
        lease: Lease,
        hint: Hint | None,
    ) -> None:
        super().__init__(search, search.measured_spec, store, ledger, clock)
        self._space = space
        self._lease = lease
        self._hint = hint

    def owns(self, trial: Trial) -> bool:
        """See Agenda."""
        return trial.role is not TrialRole.PROMOTION

    def take_over(self) -> None:
        """Park what had reached a rung, and settle once what proposals begin from, which must not change later."""
        for trial in self._ledger.searched:
            was_running = trial.state in {TrialState.RUNNING, TrialState.PROPOSED}
            if was_running and self.is_measured(trial) and not self.is_at_last_rung(trial):
                self._ledger.save(trial.parked())
        search = self._store.get_search(self._search.id)
        if search.num_priors is None:
            is_new = not self._ledger.trials
            self._ledger.settle(prior_measurements(search, self._space, self._store) if is_new else ())

    def decide(self) -> None:
        """Let waiting trials advance or stop."""
        self._apply(self._decisions())

    def next(self, handed_out: AbstractSet[int]) -> Trial | None:
        """See Agenda."""
        if first := first_hopeless(self._ledger.searched, self._ledger.losses, self.schedule):
            self.failure = failure_of_all(f"the first {len(first)} trials to end all failed", first)
            return None
        return self._unfinished(handed_out) or self._proposal() or self._baseline()

    def parked(self, trial: Trial) -> Trial | None:
        """See Agenda; baselines are not compared."""
        if trial.role is not TrialRole.SEARCH:
            return super().parked(trial)
        waiting = trial.parked()
        return super().parked(trial) if trial.number in self._decisions(waiting).advance else waiting

    def expected_tokens(self, search: Search) -> int:
        """See Agenda."""
        saved = self._ledger.saved_tokens
        return limits.expected_tokens(search.spec_by_now, self.schedule, len(self._space), saved=saved)

    def _proposal(self) -> Trial | None:
        # Read anew, so that what was enqueued before a proposal is tried before it.
        self.orders = self._store.get_search(self._search.id).orders
        if enqueued := next(self._enqueued(), None):
            return self._add(enqueued.architecture, TrialRole.SEARCH, enqueued_by=enqueued.by)
        if not self._more_to_come():
            return None
        architecture = propose(
            self._spec,
            self._space,
            self._ledger.trials,
            self._ledger.points,
            priors=self._ledger.priors,
            hint=self._hint,
        )
        assert architecture is not None, "_more_to_come counts the architectures of the space"
        return self._add(architecture, TrialRole.SEARCH)

    def _baseline(self) -> Trial | None:
        searched = self._ledger.searched
        if not all(trial.state.is_final for trial in searched):
            return None
        winner = best_trial(searched)
        if winner is None:
            self.failure = failure_of_all("no trial completed", searched)
            return None
        if not self._is_completing():
            return self._proposal() or self._baseline()
        missing = missing_baselines(self._spec, self._space, self._ledger.trials, winner)
        if not missing:
            return None
        first = missing[0]
        return self._add(first.architecture, first.role, checkpoint=first.checkpoint, rung=first.rung)

    def _is_completing(self) -> bool:
        """Settle that no further trial competes; return False where one was ordered meanwhile."""
        search = self._store.get_search(self._search.id)
        if search.state is SearchState.RUNNING:
            completing = replace(search.moved(SearchState.COMPLETING, self._clock()), orders=self.orders)
            try:
                self._store.save_search(completing, self._lease)
            except StaleOrders:
                return False
        return True

    def _add(self, architecture: Architecture, role: TrialRole, **known: Any) -> Trial:
        trial = self._made(architecture, role, **known)
        earlier = measured_before(self._search, self._store, architecture, role)
        if earlier is not None:
            trial = trial.reused(earlier.trial, rung=len(self.schedule.rungs) - 1, at=self._clock())
        self._ledger.save(trial, earlier.points if earlier else ())
        return trial

    def _decisions(self, changed: Trial | None = None) -> rungs.Decisions:
        trials = {trial.number: trial for trial in self._ledger.trials}
        if changed:
            trials[changed.number] = changed
        return rungs.decide(
            list(trials.values()),
            self._ledger.losses,
            self.schedule,
            asked=self._spec.rungs,
            ranking=ranking_of(self._spec.weighed, trials.values()),
            more_to_come=self._more_to_come(),
        )

    def _apply(self, decisions: rungs.Decisions) -> None:
        for number in decisions.advance:
            self._ledger.save(self._ledger.trial(number).advanced())
        for number in decisions.stop:
            self._ledger.save(self._ledger.trial(number).stopped(self._clock()))

    def _enqueued(self) -> Iterator[Enqueued]:
        """Yield what people want tried and nobody has yet, in their order."""
        tried = {trial.architecture for trial in self._ledger.searched}
        return (each for each in self.orders.enqueued if each.architecture not in tried)

    def _more_to_come(self) -> bool:
        """Return whether there will be further SEARCH trials.

        One that is enqueued takes the place of a proposal as long as there are any; after the last it is one more.
        """
        searched, num_feasible = self._ledger.searched, len(self._space)
        return any(self._enqueued()) or limits.admit_another(
            self._spec, self.orders, searched, self._ledger.losses, self.schedule, num_feasible=num_feasible
        )


class PromotionAgenda(Agenda):
    """The promotions of a search by one recipe."""

    stage = "promotions"

    def __init__(
        self, search: Search, store: SearchStore, ledger: Ledger, clock: Clock, *, promotion: Promotion
    ) -> None:
        super().__init__(search, search.spec.promoted_by(promotion), store, ledger, clock)
        self._promotion = promotion

    def owns(self, trial: Trial) -> bool:
        """See Agenda."""
        return trial.promotion == self._promotion

    def take_over(self) -> None:
        """See Agenda; nothing is decided on the way."""

    def decide(self) -> None:
        """See Agenda; nothing is compared on the way."""

    def next(self, handed_out: AbstractSet[int]) -> Trial | None:
        """See Agenda."""
        return self._unfinished(handed_out) or self._missing()

    def expected_tokens(self, search: Search) -> int:
        """See Agenda."""
        missing = sum(each.promotion == self._promotion for each in self._wanted(search))
        return (sum(map(self.owns, self._ledger.trials)) + missing) * self.schedule.num_tokens

    def _missing(self) -> Trial | None:
        # Read anew, so that what was ordered meanwhile is run too.
        for each in self._wanted(self._store.get_search(self._search.id)):
            if each.promotion == self._promotion:
                source = self._ledger.trial(each.trial_number)
                goes_on = each.promotion.start == "student"
                trial = self._made(
                    source.architecture,
                    TrialRole.PROMOTION,
                    promoted_from=source.number,
                    promotion=each.promotion,
                    kept_layers=source.kept_layers if goes_on else None,
                )
                self._ledger.save(trial)
                return trial
        return None

    def _wanted(self, search: Search) -> list[Promoted]:
        return missing_promotions(search, self._ledger.trials)


def fail_promotions(
    search: Search,
    store: SearchStore,
    ledger: Ledger,
    clock: Clock,
    *,
    failure: Failure,
    promotion: Promotion | None = None,
) -> None:
    """Record why none of the promotions that are left, or of those by one recipe, can be run."""
    recipes = [promotion] if promotion else left_to_promote(search, ledger.trials)
    for each in recipes:
        agenda = PromotionAgenda(search, store, ledger, clock, promotion=each)
        while (trial := agenda.next(frozenset())) is not None:
            ledger.close_attempt(trial.number, clock(), failure)
            ledger.save(trial.failed(failure, clock()))
