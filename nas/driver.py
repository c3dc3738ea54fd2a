"""What to run next, and what to do with what comes back. Knows no Ray and trains nothing.

A driver remembers nothing that the store does not: made anew on the same store it goes on, and decides
the same. Whatever runs trials implements ``nas.executor.Executor`` and obeys; it decides nothing itself.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from minitron.architecture import Architecture
from minitron.progress import Progress
from nas import limits, rungs
from nas.clock import Clock
from nas.comparisons import missing_baselines
from nas.errors import LostLease, StaleOrders
from nas.frontier import best_trial
from nas.hopeless import failure_of_all, first_hopeless
from nas.ledger import Ledger
from nas.orders import Enqueued
from nas.priors import prior_measurements
from nas.proposer import next_number, propose
from nas.ranking import ranking_of
from nas.reuse import measured_before
from nas.samplers.sampler import Hint
from nas.search import Search, SearchState
from nas.space import search_space
from nas.storage.store import Lease, SearchStore
from nas.trial import RUNNER_LOST, Failure, FailureKind, Point, Trial, TrialRole, TrialState
from nas.verdicts import Failed, Finished, Next, Verdict

HEARTBEAT = timedelta(seconds=1)
"""How often, at most, orders are looked for and progress is stored."""


class Driver:
    """Decides for one search. Not thread-safe: one executor's loop calls it.

    A row exists before its trial is handed out. Trials that another driver left unfinished are handed
    out first. News of a trial that is not handed out (late, or sent twice) is ignored. What the store
    raises, LostLease above all, is the caller's to handle, by ending.
    """

    def __init__(
        self, search: Search, store: SearchStore, lease: Lease, clock: Clock, *, hint: Hint | None = None
    ) -> None:
        self.search_id = search.id
        self._search = search
        self.spec = search.spec
        self.space = search_space(search.measured_spec)
        self.schedule = rungs.schedule(search.spec)
        self.is_cancelled = False
        """Whether the user's wish to end the search was seen; its trials are CANCELLED then."""
        self.is_paused = False
        """Whether the user's wish to pause it was seen; what ran is to be gone on with by another driver."""
        self.hindrance: str | None = None
        """Why trials that were handed out find no place, in the words of ``nas.waiting``; the executor's to say."""
        self.failure: Failure | None = None
        """Why the search was given up, once it was."""
        self._store = store
        self._lease = lease
        self._clock = clock
        self._hint = hint
        self._orders = search.orders
        self._ledger = Ledger(store, lease)
        self._num_tokens = {
            number: max(losses)
            for number, losses in self._ledger.losses.items()
            if self._ledger.trial(number).reused_from is None
        }
        self._handed_out: set[int] = set()
        self._num_lost: Counter[int] = Counter()
        """Workers that each trial lost under this driver; a lost runner is no fault of its trials."""
        self._beat_at: datetime | None = None
        self._take_over()
        self._settle_priors()

    @property
    def max_parallel(self) -> int:
        """How many trials may run at once, as far as was ordered when that was looked for last."""
        return self._orders.max_parallel or self.spec.max_parallel

    @property
    def is_leaving(self) -> bool:
        """Whether nothing is handed out any more, whatever is left to do."""
        return self.is_cancelled or self.is_paused or self.failure is not None

    def is_handed_out(self, trial_number: int) -> bool:
        """Return whether a trial is to run."""
        return trial_number in self._handed_out

    # What to run

    def next_trial(self) -> Trial | Next:
        """Return a trial to run (from its ``checkpoint`` if it has one), WAIT or DONE.

        Trials that were measured before are taken over on the way, as if they had been run.
        """
        found = self._next()
        while isinstance(found, Trial) and found.state.is_final:
            found = self._next()
        return found

    def _next(self) -> Trial | Next:
        """Return as ``next_trial`` does, or a trial that was taken over."""
        self.beat()
        self._give_up_if_hopeless()
        if self.is_leaving:
            return Next.DONE
        self._apply(self._decide())
        if len(self._handed_out) >= self.max_parallel:
            return Next.WAIT
        trial = self._unfinished() or self._proposal() or self._baseline()
        if trial is None:
            return Next.WAIT if self._handed_out else Next.DONE
        if not trial.state.is_final:
            self._handed_out.add(trial.number)
        return trial

    def _unfinished(self) -> Trial | None:
        """Return a trial that a lost process left, or that has advanced, if there is one."""
        ready = [
            trial
            for trial in self._ledger.trials
            if not trial.state.is_final
            and trial.number not in self._handed_out
            and not (trial.state is TrialState.WAITING and self._is_measured(trial))
        ]
        return min(
            ready,
            key=lambda trial: (trial.state is TrialState.WAITING, -trial.rung, trial.number),
            default=None,
        )

    def _proposal(self) -> Trial | None:
        # Read anew, so that what was enqueued before a proposal is tried before it.
        self._orders = self._store.get_search(self.search_id).orders
        if enqueued := next(self._enqueued(), None):
            return self._add(enqueued.architecture, TrialRole.SEARCH, enqueued_by=enqueued.by)
        if not self._more_to_come():
            return None
        architecture = propose(
            self.spec,
            self.space,
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
            self._give_up("no trial completed", searched)
            return None
        if not self._is_completing():
            return self._proposal() or self._baseline()
        missing = missing_baselines(self.spec, self.space, self._ledger.trials, winner)
        if not missing:
            return None
        first = missing[0]
        return self._add(first.architecture, first.role, checkpoint=first.checkpoint, rung=first.rung)

    def _is_completing(self) -> bool:
        """Settle that no further trial competes; return False where one was ordered meanwhile."""
        search = self._store.get_search(self.search_id)
        if search.state is SearchState.RUNNING:
            completing = replace(search.moved(SearchState.COMPLETING, self._clock()), orders=self._orders)
            try:
                self._store.save_search(completing, self._lease)
            except StaleOrders:
                return False
        return True

    def _add(self, architecture: Architecture, role: TrialRole, **known: Any) -> Trial:
        trial = Trial(
            search_id=self.search_id,
            number=next_number(self._ledger.trials),
            architecture=architecture,
            role=role,
            created_at=self._clock(),
            **known,
        )
        earlier = measured_before(self._search, self._store, architecture, role)
        if earlier is not None:
            trial = trial.reused(earlier.trial, rung=len(self.schedule.rungs) - 1, at=self._clock())
        self._ledger.save(trial, earlier.points if earlier else ())
        return trial

    # What comes back

    def on_attempt(self, trial_number: int, worker: str) -> None:
        """A worker begins a trial, or goes on with it after another was lost."""
        attempt = self._ledger.open_attempts.get(trial_number)
        if trial_number not in self._handed_out or (attempt and attempt.worker == worker):
            return
        if attempt:
            self._num_lost[trial_number] += 1
            self._ledger.close_attempt(trial_number, self._clock(), _lost(f"{attempt.worker} was lost"))
        trial = self._ledger.trial(trial_number).started(self._clock())
        self._ledger.save(trial)
        self._ledger.open_attempt(trial, worker, self._clock())

    def on_pruned(self, trial_number: int, kept_layers: tuple[int, ...]) -> None:
        """A worker has made the student; one that makes it again keeps the same layers of the parent."""
        if trial_number not in self._handed_out:
            return
        trial = self._ledger.trial(trial_number)
        if trial.kept_layers != kept_layers:
            self._ledger.save(trial.pruned(kept_layers))

    def on_tokens(self, trial_number: int, num_tokens: int) -> Verdict:
        """A sign of life between points."""
        self.beat()
        if trial_number in self._handed_out:
            self._num_tokens[trial_number] = max(num_tokens, self._num_tokens.get(trial_number, 0))
        return self._verdict(trial_number)

    def on_point(self, trial_number: int, point: Point, checkpoint: str | None) -> Verdict:
        """A held-out loss on the way, at a rung always with the ``checkpoint`` to go on from.

        A worker that resumes may send the point that it resumes at again.
        """
        assert point.num_tokens in self.schedule.points, point.num_tokens
        verdict = self.on_tokens(trial_number, point.num_tokens)
        if verdict is not Verdict.CONTINUE:
            return verdict
        if not math.isfinite(point.loss):
            message = f"held-out loss is {point.loss} after {point.num_tokens:,} tokens"
            self.on_end(trial_number, Failed(failure=Failure(kind=FailureKind.NON_FINITE, message=message)))
            return Verdict.STOP
        trial = self._ledger.trial(trial_number)
        if checkpoint is not None and checkpoint != trial.checkpoint:
            # Before the point: a trial whose loss at a rung is stored can be resumed from there.
            trial = trial.saved(checkpoint)
            self._ledger.save(trial)
        self._ledger.add_point(trial_number, point)
        if self._is_measured(trial) and not self._is_at_last_rung(trial):
            self._compare(trial)
        return self._verdict(trial_number)

    def on_end(self, trial_number: int, outcome: Finished | Failed) -> None:
        """An execution ended by itself; the trial of a lost worker is handed out again a few times."""
        if trial_number not in self._handed_out:
            return
        now = self._clock()
        trial = self._ledger.trial(trial_number)
        self._handed_out.remove(trial_number)
        # The attempt before the trial: lost in between, the trial is handed out once more and ends.
        if isinstance(outcome, Finished):
            self._ledger.close_attempt(trial_number, now)
            self._ledger.save(trial.completed(outcome.measurement, outcome.checkpoint, now))
            return
        self._ledger.close_attempt(trial_number, now, outcome.failure)
        self._num_lost[trial_number] += outcome.failure.kind is FailureKind.WORKER_LOST
        if not outcome.failure.kind.is_retryable or self._num_lost[trial_number] >= self.spec.max_attempts:
            self._ledger.save(trial.failed(outcome.failure, now))

    def finish_cancelled(self) -> None:
        """Make every trial that is not final CANCELLED; a worker is told to stop when it reports."""
        self._ledger.cancel(self._clock())
        self._handed_out.clear()

    def leave(self) -> None:
        """Let go of what runs, for another driver to go on with; a worker is told to end when it reports."""
        self._ledger.interrupt(self._clock())
        self._handed_out.clear()

    # Decisions

    def _compare(self, trial: Trial) -> None:
        """Record what becomes of a running trial that was measured at a rung before the last."""
        if trial.role is not TrialRole.SEARCH:
            self._ledger.save(trial.advanced())
            return
        waiting = trial.parked()
        decisions = self._decide(waiting)
        if trial.number in decisions.advance:
            self._ledger.save(trial.advanced())
            return
        self._handed_out.remove(trial.number)
        self._ledger.close_attempt(trial.number, self._clock())
        self._ledger.save(waiting)
        self._apply(decisions)

    def _decide(self, changed: Trial | None = None) -> rungs.Decisions:
        trials = {trial.number: trial for trial in self._ledger.trials}
        if changed:
            trials[changed.number] = changed
        return rungs.decide(
            list(trials.values()),
            self._ledger.losses,
            self.schedule,
            asked=self.spec.rungs,
            ranking=ranking_of(self.spec.objective, trials.values()),
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
        return (each for each in self._orders.enqueued if each.architecture not in tried)

    def _more_to_come(self) -> bool:
        """Return whether there will be further SEARCH trials.

        One that is enqueued takes the place of a proposal as long as there are any; after the last it is one more.
        """
        searched, num_feasible = self._ledger.searched, len(self.space)
        return any(self._enqueued()) or limits.admit_another(
            self.spec, self._orders, searched, self._ledger.losses, self.schedule, num_feasible=num_feasible
        )

    def _is_measured(self, trial: Trial) -> bool:
        return self.schedule.rungs[trial.rung] in self._ledger.losses.get(trial.number, {})

    def _is_at_last_rung(self, trial: Trial) -> bool:
        return trial.rung == len(self.schedule.rungs) - 1

    def _verdict(self, trial_number: int) -> Verdict:
        if trial_number in self._handed_out:
            return Verdict.CONTINUE
        return Verdict.STOP if self._ledger.trial(trial_number).state.is_final else Verdict.WAIT_AT_RUNG

    def _give_up_if_hopeless(self) -> None:
        if first := first_hopeless(self._ledger.searched, self._ledger.losses, self.schedule):
            self._give_up(f"the first {len(first)} trials to end all failed", first)

    def _give_up(self, reason: str, trials: Sequence[Trial]) -> None:
        self.failure = failure_of_all(reason, trials)
        self.finish_cancelled()

    # Coming and going

    def _take_over(self) -> None:
        """Close what a lost driver left open; its running trials are handed out again."""
        for number in list(self._ledger.open_attempts):
            self._ledger.close_attempt(number, self._clock(), RUNNER_LOST)
        for trial in self._ledger.searched:
            was_running = trial.state in {TrialState.RUNNING, TrialState.PROPOSED}
            if was_running and self._is_measured(trial) and not self._is_at_last_rung(trial):
                self._ledger.save(trial.parked())

    def _settle_priors(self) -> None:
        """Settle once what proposals begin from: later they would begin from something else after a restart."""
        search = self._store.get_search(self.search_id)
        if search.num_priors is None:
            is_new = not self._ledger.trials
            self._ledger.settle(prior_measurements(search, self.space, self._store) if is_new else ())

    def beat(self) -> None:
        """Obey what was ordered and store the progress, now and then; to be called also while nothing comes back."""
        now = self._clock()
        if self._beat_at and now - self._beat_at < HEARTBEAT:
            return
        self._beat_at = now
        search = self._store.get_search(self.search_id)
        self._obey(search)
        done = sum(self._num_tokens.values())
        spec, saved = search.spec_by_now, self._ledger.saved_tokens
        total = max(done, limits.expected_tokens(spec, self.schedule, len(self.space), saved=saved))
        progress = Progress(stage=self.hindrance or "trials", done=done, total=total, unit="tokens")
        if progress != search.progress:
            self._store.save_search(replace(search, progress=progress), self._lease)

    def _obey(self, search: Search) -> None:
        if search.state.is_final:
            raise LostLease(f"search {search.id}: is {search.state}, ended by somebody else")
        self._orders = search.orders
        if search.cancel_requested and not self.is_cancelled:
            self.is_cancelled = True
            self.finish_cancelled()
        elif self._orders.is_paused and not self.is_paused:
            self.is_paused = True
            self.leave()
        stopped = {trial.number for trial in self._ledger.trials if not trial.state.is_final}
        for number in stopped.intersection(self._orders.stopped):
            self._ledger.close_attempt(number, self._clock())
            self._ledger.save(self._ledger.trial(number).cancelled(self._clock()))
            self._handed_out.discard(number)


def _lost(message: str) -> Failure:
    return Failure(kind=FailureKind.WORKER_LOST, message=message)
