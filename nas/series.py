"""Learning curves in few points: pure.

Each bucket of a curve keeps its least and its greatest loss, so that no peak is lost on the way (what plotting
tools call min-max decimation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nas.trial import Point, Trial, TrialRole, TrialState

LEAST_POINTS = 4
"""The first, the last and the two extremes."""
MOST_POINTS = 1000
MOST_CURVES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The points of one trial, or those of them that tell most."""

    trial_number: int
    architecture: str
    """Its name."""
    role: TrialRole
    state: TrialState
    points: tuple[Point, ...]
    """By tokens; the first and the last are always among them."""
    num_points: int
    """That there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The curves of the trials that were asked for, or of those that are furthest."""

    search_id: str
    curves: tuple[Curve, ...]
    """By the trial's number."""
    num_trials: int
    """Of the search; where nobody chose, trials beyond the limit have no curve here."""


def curve(trial: Trial, points: Sequence[Point], most: int) -> Curve:
    """Return the curve of a trial in at most so many of its points."""
    return Curve(
        trial_number=trial.number,
        architecture=trial.architecture.name,
        role=trial.role,
        state=trial.state,
        points=thinned(points, most),
        num_points=len(points),
    )


def thinned(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """Return at most so many points of a curve, in their order: the ends and the extremes of each part of it."""
    assert most >= LEAST_POINTS, f"{most} points"
    if len(points) <= most:
        return tuple(points)
    inner = points[1:-1]
    num_buckets = (most - 2) // 2
    kept = {0, len(points) - 1}
    for number in range(num_buckets):
        begin, end = (len(inner) * at // num_buckets for at in (number, number + 1))
        bucket = range(begin + 1, end + 1)
        kept.add(min(bucket, key=lambda at: points[at].loss))
        kept.add(max(bucket, key=lambda at: points[at].loss))
    return tuple(points[at] for at in sorted(kept))


def furthest(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return at most so many trials: completed ones by loss, then those at the highest rungs, then the first."""

    def order(trial: Trial) -> tuple[float, int, int]:
        measured = trial.measurement
        return (measured.loss if measured else float("inf"), -trial.rung, trial.number)

    return sorted(sorted(trials, key=order)[:most], key=lambda trial: trial.number)
