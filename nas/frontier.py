"""What a search found: the best student, the front of loss against size, and how it compares.

Pure functions of trials. Trials compete only at equal tokens, and only SEARCH trials compete.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from minitron.architecture import Architecture
from nas.sampling import Objective
from nas.search import Search
from nas.trial import Measurement, Trial, TrialRole, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Held-out nats per token of the best trial and of what it is judged by, at equal tokens: before any promotion."""

    winner_loss: float
    """Of ``best_trial``."""
    parent_loss: float | None
    random_architectures: tuple[float, ...]
    """Architectures drawn evenly from the space, those that the search completed itself included."""
    random_indices: tuple[float, ...]
    """The same architecture from randomly kept indices."""


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the completed trial with the lowest loss, then fewest parameters, then lowest number."""
    return next(iter(ranked_trials(trials)), None)


def ranked_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the completed trials that compete, the best first; see ``best_trial``."""
    ranked = sorted(
        _competitors(trials), key=lambda each: (each[1].loss, each[1].num_parameters, each[0].number)
    )
    return [trial for trial, _ in ranked]


def trained_architectures(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that tell of architectures: trained to the last rung, not from random indices and not promoted.

    Baselines drawn evenly from the space are among them: they tell where the search did not look.
    """
    return [
        trial for trial in trials if trial.state is TrialState.COMPLETED and trial.role.tells_of_architecture
    ]


def pareto_front(trials: Sequence[Trial], objective: Objective | None = None) -> tuple[Trial, ...]:
    """Return the completed trials that none of lower or equal cost beats, from low cost to high.

    ``objective`` says what costs; None: parameters.
    """
    front: list[Trial] = []
    lowest = float("inf")

    def cost(trial: Trial, measurement: Measurement) -> int:
        return objective.of(trial.architecture) if objective else measurement.num_parameters

    for trial, measurement in sorted(
        _competitors(trials), key=lambda each: (cost(*each), each[1].loss, each[0].number)
    ):
        if measurement.loss < lowest:
            lowest = measurement.loss
            front.append(trial)
    return tuple(front)


def gap_closed(loss: float, *, pruned_loss: float, parent_loss: float) -> float | None:
    """Return the share of the loss added by pruning that retraining removed; 1 is the parent's loss.

    None when pruning added no loss.
    """
    gap = pruned_loss - parent_loss
    return (pruned_loss - loss) / gap if gap > 0 else None


def compare(search: Search, draws: AbstractSet[Architecture], trials: Sequence[Trial]) -> Comparison | None:
    """Return how the best trial compares with its baselines so far, or None while nothing is completed.

    Args:
        search: Whose trial.
        draws: The architectures drawn evenly from its space, see ``nas.comparisons``.
        trials: Those of it that have completed, at least.
    """
    winner = best_trial(trials)
    if winner is None or winner.measurement is None:
        return None
    roles = (TrialRole.SEARCH, TrialRole.RANDOM_ARCHITECTURE)
    return Comparison(
        winner_loss=winner.measurement.loss,
        parent_loss=search.parent_loss,
        random_architectures=tuple(
            trial.measurement.loss
            for trial in trials
            if trial.role in roles and trial.architecture in draws and trial.measurement is not None
        ),
        random_indices=tuple(
            trial.measurement.loss
            for trial in trials
            if trial.role is TrialRole.RANDOM_INDICES and trial.measurement is not None
        ),
    )


def _competitors(trials: Sequence[Trial]) -> list[tuple[Trial, Measurement]]:
    completed = [
        (trial, trial.measurement)
        for trial in trials
        if trial.role is TrialRole.SEARCH
        and trial.state is TrialState.COMPLETED
        and trial.measurement is not None
    ]
    most = max((measurement.num_tokens for _, measurement in completed), default=0)
    return [each for each in completed if each[1].num_tokens == most]
