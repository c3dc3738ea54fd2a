"""How the trials of a search are run, and what is done with what comes back. Knows no Ray and trains nothing.

What is run next, an agenda says. A driver remembers nothing that the store does not: made anew on the same store it goes
on, and decides the same. Whatever runs trials implements ``nas.executor.Executor`` and obeys; it decides nothing itself.
"""

import math
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from minitron.progress import Progress
from nas.agenda import Agenda, PromotionAgenda, SearchAgenda
from nas.clock import Clock
from nas.errors import LostLease
from nas.ledger import Ledger
from nas.promotion import Promotion
from nas.samplers.sampler import Hint
from nas.search import Search
from nas.space import search_space
from nas.storage.store import Lease, SearchStore
from nas.trial import RUNNER_LOST, Failure, FailureKind, Point, Trial
from nas.verdicts import Failed, Finished, Next, Verdict

HEARTBEAT = timedelta(seconds=1)
"""How often, at most, orders are looked for and progress is stored."""


class Driver:
    """Runs one search, or the promotions of its students by one recipe. Not thread-safe: one executor's loop calls it.

    A row exists before its trial is handed out. Trials that another driver left unfinished are handed
    out first. News of a trial that is not handed out (late, or sent twice) is ignored. What the store
    raises, LostLease above all, is the caller's to handle, by ending.
    """

    def __init__(
        self,
        search: Search,
        store: SearchStore,
        lease: Lease,
        clock: Clock,
        *,
        hint: Hint | None = None,
        promotion: Promotion | None = None,
    ) -> None:
        self.search_id = search.id
        self.space = search_space(search.measured_spec)
        self.spec = search.spec if promotion is None else search.spec.promoted_by(promotion)
        """By which what it hands out is run."""
        self.is_cancelled = False
        """Whether the user's wish to end the search was seen; its trials are CANCELLED then."""
        self.is_paused = False
        """Whether the user's wish to pause it was seen; what ran is to be gone on with by another driver."""
        self.hindrance: str | None = None
        """Why trials that were handed out find no place, in the words of ``nas.waiting``; the executor's to say."""
        self._store = store
        self._lease = lease
        self._clock = clock
        self._ledger = Ledger(store, lease)
        self._agenda: Agenda = (
            SearchAgenda(search, store, self._ledger, clock, space=self.space, lease=lease, hint=hint)
            if promotion is None
            else PromotionAgenda(search, store, self._ledger, clock, promotion=promotion)
        )
        self.schedule = self._agenda.schedule
        self._num_tokens = {
            number: max(losses)
            for number, losses in self._ledger.losses.items()
            if self._agenda.owns(trial := self._ledger.trial(number)) and trial.reused_from is None
        }
        self._handed_out: set[int] = set()
        self._num_lost: Counter[int] = Counter()
        """Workers that each trial lost under this driver; a lost runner is no fault of its trials."""
        self._beat_at: datetime | None = None
        for number in list(self._ledger.open_attempts):  # a lost driver left them open
            self._ledger.close_attempt(number, clock(), RUNNER_LOST)
        self._agenda.take_over()

    @property
    def failure(self) -> Failure | None:
        """Why the search was given up, once it was."""
        return self._agenda.failure

    @property
    def max_parallel(self) -> int:
        """How many trials may run at once, as far as was ordered when that was looked for last."""
        return self._agenda.orders.max_parallel or self.spec.max_parallel

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
        if self.is_leaving:
            return Next.DONE
        self._agenda.decide()
        if len(self._handed_out) >= self.max_parallel:
            return Next.WAIT
        trial = self._agenda.next(self._handed_out)
        if self.failure is not None:
            self.finish_cancelled()
        if trial is None:
            return Next.WAIT if self._handed_out else Next.DONE
        if not trial.state.is_final:
            self._handed_out.add(trial.number)
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
        if self._agenda.is_measured(trial) and not self._agenda.is_at_last_rung(trial):
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
        parked = self._agenda.parked(trial)
        if parked is None:
            return
        self._handed_out.remove(trial.number)
        self._ledger.close_attempt(trial.number, self._clock())
        self._ledger.save(parked)
        self._agenda.decide()

    def _verdict(self, trial_number: int) -> Verdict:
        if trial_number in self._handed_out:
            return Verdict.CONTINUE
        return Verdict.STOP if self._ledger.trial(trial_number).state.is_final else Verdict.WAIT_AT_RUNG

    def beat(self) -> None:
        """Obey what was ordered and store the progress, now and then; to be called also while nothing comes back."""
        now = self._clock()
        if self._beat_at and now - self._beat_at < HEARTBEAT:
            return
        self._beat_at = now
        search = self._store.get_search(self.search_id)
        self._obey(search)
        done = sum(self._num_tokens.values())
        total = max(done, self._agenda.expected_tokens(search))
        progress = Progress(stage=self.hindrance or self._agenda.stage, done=done, total=total, unit="tokens")
        if progress != search.progress:
            self._store.save_search(replace(search, progress=progress), self._lease)

    def _obey(self, search: Search) -> None:
        if search.state.is_final:
            raise LostLease(f"search {search.id}: is {search.state}, ended by somebody else")
        self._agenda.orders = search.orders
        if search.cancel_requested and not self.is_cancelled:
            self.is_cancelled = True
            self.finish_cancelled()
        elif search.orders.is_paused and not self.is_paused:
            self.is_paused = True
            self.leave()
        stopped = {trial.number for trial in self._ledger.trials if not trial.state.is_final}
        for number in stopped.intersection(search.orders.stopped):
            self._ledger.close_attempt(number, self._clock())
            self._ledger.save(self._ledger.trial(number).cancelled(self._clock()))
            self._handed_out.discard(number)


def _lost(message: str) -> Failure:
    return Failure(kind=FailureKind.WORKER_LOST, message=message)
