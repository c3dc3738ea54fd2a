"""Which of the promoted students wins, and which differences are noise: a pure decision, and the value that tells it.

Ordinary statistics: the held-out blocks are cut into shards, each student has a loss on each, and what is judged is the
difference between two students shard by shard. The losses of one shard rise and fall together, since its text is
easy or hard for both, so the differences scatter far less than the losses do: unpaired, their errors would hide nearly
every difference that is there. A difference of at most two standard errors of its mean is called a tie; by chance alone
one exceeds that once in twelve times with eight shards, and once in twenty with many (Student's t, two-sided).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from minitron.architecture import Architecture
from nas.trial import Measurement, Trial, TrialRole, TrialState

STANDARD_ERRORS = 2.0
"""Up to so many a difference is a tie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A promoted student beside the one of the lowest loss; losses in nats per held-out token."""

    trial_number: int
    """Of the promotion."""
    promoted_from: int
    """The trial that was promoted."""
    loss: float
    cost: float
    """What the smaller of two that tie has less of; see ``Choice.counted``."""
    difference: float
    """The mean over the shards of its loss minus the lowest's; of itself 0."""
    standard_error: float | None
    """Of that mean; None where the two were not measured on the same shards, so that they cannot tie."""
    is_tied: bool
    """Whether the difference is noise; the one of the lowest loss ties with itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who won among the promoted students of a search, and why."""

    trial_number: int
    """Of the promotion that won: of those that tie the one of the lowest cost."""
    counted: str
    """What the cost is, for people."""
    rivals: tuple[Rival, ...]
    """All of them, the lowest loss first."""
    unpromoted: int | None = None
    """The search's own best trial, where what its own retraining made of it loses less than all of them: it wins, whether
    or not it was promoted. None: none does."""

    @property
    def winner(self) -> int:
        """The number of the trial that wins the search."""
        return self.trial_number if self.unpromoted is None else self.unpromoted

    @property
    def tied(self) -> tuple[Rival, ...]:
        """Those between which the losses do not decide, the lowest loss first."""
        return tuple(rival for rival in self.rivals if rival.is_tied)


def promoted_students(trials: Sequence[Trial]) -> list[tuple[Trial, Measurement]]:
    """Return the completed promotions among trials, the lowest loss first."""
    found = [
        (trial, trial.measurement)
        for trial in trials
        if trial.role is TrialRole.PROMOTION
        and trial.state is TrialState.COMPLETED
        and trial.measurement is not None
    ]
    return sorted(found, key=lambda each: (each[1].loss, each[1].num_parameters, each[0].number))


def chosen(
    trials: Sequence[Trial],
    *,
    best: Trial | None = None,
    cost: Callable[[Architecture], float] | None = None,
    counted: str = "parameters",
) -> Choice | None:
    """Return which promoted student wins; None while no promotion has completed.

    Args:
        trials: Of one search.
        best: Of the search's own; it wins where its loss is lower than any of theirs, since losses on the
            same held-out tokens compare however long a student was trained.
        cost: What breaks ties, the less the better; None: parameters, counted on the real students.
        counted: What that is, for people.
    """
    students = promoted_students(trials)
    if not students:
        return None
    _, lowest = students[0]

    def rival(trial: Trial, measured: Measurement) -> Rival:
        assert trial.promoted_from is not None, f"trial {trial.number}: {trial.role}"
        difference, error = _difference(measured, lowest)
        return Rival(
            trial_number=trial.number,
            promoted_from=trial.promoted_from,
            loss=measured.loss,
            cost=cost(trial.architecture) if cost else measured.num_parameters,
            difference=difference,
            standard_error=error,
            is_tied=measured is lowest or (error is not None and abs(difference) <= STANDARD_ERRORS * error),
        )

    rivals = tuple(rival(*student) for student in students)
    winner = min(
        (each for each in rivals if each.is_tied), key=lambda each: (each.cost, each.loss, each.trial_number)
    )
    is_beaten = best is not None and best.measurement is not None and best.measurement.loss < lowest.loss
    return Choice(
        trial_number=winner.trial_number,
        counted=counted,
        rivals=rivals,
        unpromoted=best.number if best and is_beaten else None,
    )


def _difference(measured: Measurement, lowest: Measurement) -> tuple[float, float | None]:
    """Return the mean difference between two students by shard, and its standard error where that can be told."""
    ours, theirs = measured.shard_losses, lowest.shard_losses
    if len(ours) != len(theirs) or len(ours) < 2:
        return measured.loss - lowest.loss, None
    differences = [mine - its for mine, its in zip(ours, theirs, strict=True)]
    return fmean(differences), stdev(differences) / math.sqrt(len(differences))
