"""The trials, points and attempts of one search, as its driver sees them.

Written through to the store and read from memory: the lease makes its holder the only writer. Holds
nothing that the store does not; decides nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nas.earlier import Prior
from nas.rungs import losses_by_trial
from nas.storage.store import Lease, SearchStore, TrialPoint
from nas.trial import Attempt, Failure, Point, Trial, TrialRole, TrialState


class Ledger:
    """Loads what is stored when it is made. Raises what the store raises."""

    def __init__(self, store: SearchStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._trials = {trial.number: trial for trial in store.trials(lease.search_id)}
        self.points = store.points(lease.search_id)
        self.losses = losses_by_trial(self.points)
        """Held-out nats per token by trial number and tokens."""
        self.priors = store.priors(lease.search_id)
        """What its proposals began from; none before that was settled."""
        self.open_attempts = {
            attempt.trial_number: attempt
            for attempt in store.attempts(lease.search_id)
            if attempt.ended_at is None
        }

    @property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def trial(self, number: int) -> Trial:
        """Return one trial."""
        return self._trials[number]

    @property
    def searched(self) -> list[Trial]:
        """The SEARCH trials by number."""
        return [trial for trial in self.trials if trial.role is TrialRole.SEARCH]

    @property
    def saved_tokens(self) -> int:
        """Tokens that reused trials were not trained on."""
        return sum(trial.saved_tokens for trial in self._trials.values())

    def save(self, trial: Trial, points: Sequence[Point] = ()) -> None:
        """Add or replace a trial; ``points`` of it come with it, at once or not at all."""
        self._store.save_trial(trial, self._lease, points)
        self._trials[trial.number] = trial
        for point in points:
            self._keep(trial.number, point)

    def add_point(self, trial_number: int, point: Point) -> None:
        """Add a point; the first at its token count stands."""
        if point.num_tokens not in self.losses.get(trial_number, {}):
            self._store.add_point(TrialPoint(trial_number=trial_number, point=point), self._lease)
            self._keep(trial_number, point)

    def _keep(self, trial_number: int, point: Point) -> None:
        self.points.append(TrialPoint(trial_number=trial_number, point=point))
        self.losses.setdefault(trial_number, {})[point.num_tokens] = point.loss

    def settle(self, priors: Sequence[Prior]) -> None:
        """Record what the search's proposals begin from."""
        self._store.save_priors(priors, self._lease)
        self.priors = list(priors)

    def open_attempt(self, trial: Trial, worker: str, at: datetime) -> None:
        """Record that ``worker`` begins or resumes ``trial``, just started."""
        attempt = Attempt(
            search_id=trial.search_id,
            trial_number=trial.number,
            number=trial.num_attempts,
            worker=worker,
            started_at=at,
        )
        self._store.save_attempt(attempt, self._lease)
        self.open_attempts[trial.number] = attempt

    def close_attempt(self, trial_number: int, at: datetime, failure: Failure | None = None) -> None:
        """Record the end of a trial's open attempt, if it has one."""
        attempt = self.open_attempts.pop(trial_number, None)
        if attempt:
            self._store.save_attempt(replace(attempt, ended_at=at, failure=failure), self._lease)

    def interrupt(self, at: datetime) -> None:
        """Record that nothing runs any more, and that whoever comes next goes on with it."""
        for trial in self.trials:
            self.close_attempt(trial.number, at)
            if trial.state is TrialState.RUNNING:
                self.save(trial.interrupted())

    def cancel(self, at: datetime, failure: Failure | None = None) -> None:
        """Record that nothing runs any more and nobody goes on with it; ``failure`` ended what ran, if it did."""
        for trial in self.trials:
            self.close_attempt(trial.number, at, failure)
            if not trial.state.is_final:
                self.save(trial.cancelled(at))
