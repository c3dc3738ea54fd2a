"""Where trials are evaluated and compared on their way, and which of them go on: pure decisions.

Asynchronous successive halving over stored points: the same trials and points give the same answer,
whoever asks and however often. Knows no store and no executor.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nas.confidence import ASSUMED, Losses, agreement_with_later, share_advancing
from nas.ranking import Ranking, by_loss
from nas.search import Rungs, SearchSpec
from nas.storage.store import TrialPoint
from nas.trial import Trial, TrialRole, TrialState

_GONE = {TrialState.FAILED, TrialState.CANCELLED}
"""A trial that ended so after it had advanced has left its place to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Token counts, ascending and in whole optimiser steps; the last of both ends the training."""

    points: tuple[int, ...]
    """Where a student is evaluated; the first is 0, the pruned model itself."""
    rungs: tuple[int, ...]
    """Where trials are compared; each is a point too."""

    @property
    def num_tokens(self) -> int:
        """Tokens of a whole training."""
        return self.rungs[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Numbers of the waiting trials that move, ascending."""

    advance: tuple[int, ...]
    stop: tuple[int, ...]


def schedule(spec: SearchSpec) -> Schedule:
    """Return where the trials of ``spec`` are evaluated and compared."""
    sequence_length = spec.data.sequence_length
    tokens_per_step = spec.training.blocks_per_step(sequence_length) * sequence_length
    num_steps = spec.training.num_steps(sequence_length)
    rungs = {_rung(fraction, num_steps) for fraction in spec.rungs.fractions} | {num_steps}
    points = {num_steps * n // spec.num_points for n in range(1, spec.num_points + 1)}
    return Schedule(
        points=tuple(steps * tokens_per_step for steps in sorted({0} | points | rungs)),
        rungs=tuple(steps * tokens_per_step for steps in sorted(rungs)),
    )


def losses_by_trial(points: Iterable[TrialPoint]) -> dict[int, dict[int, float]]:
    """Return the held-out losses of stored points by trial number and tokens."""
    found: dict[int, dict[int, float]] = {}
    for each in points:
        found.setdefault(each.trial_number, {})[each.point.num_tokens] = each.point.loss
    return found


def decide(
    trials: Sequence[Trial],
    losses: Losses,
    schedule: Schedule,
    *,
    asked: Rungs,
    more_to_come: bool,
    ranking: Ranking = by_loss,
) -> Decisions:
    """Return which waiting trials advance and which stop.

    At each rung but the last, the best of all trials measured there advance, as many as ``shares`` says, as soon as
    they are among them. Once no other trial can reach a rung, at least one advances from it and those left
    waiting there stop. ``more_to_come``: whether further trials will be proposed; ``ranking``: who is better than whom.
    """
    searched = {trial.number: trial for trial in trials if trial.role is TrialRole.SEARCH}
    advance: set[int] = set()
    stop: set[int] = set()
    keeps = shares(trials, losses, schedule, asked)
    is_closed = not more_to_come
    for rung, num_tokens in enumerate(schedule.rungs[:-1]):
        measured = {
            number: losses[number][num_tokens] for number in searched if num_tokens in losses.get(number, {})
        }
        ranked = ranking(measured)
        waiting = [
            number
            for number in ranked
            if searched[number].state is TrialState.WAITING and searched[number].rung == rung
        ]
        best = set(ranked[: num_advancing(len(ranked), keeps[rung])])
        passing = [number for number in waiting if number in best]
        is_closed = is_closed and not any(
            trial.rung <= rung and not trial.state.is_final and number not in stop and number not in measured
            for number, trial in searched.items()
        )
        if is_closed:
            has_passed = any(
                searched[number].rung > rung and searched[number].state not in _GONE for number in measured
            )
            if not passing and not has_passed:
                passing = waiting[:1]
            stop.update(number for number in waiting if number not in passing)
        advance.update(passing)
    return Decisions(advance=tuple(sorted(advance)), stop=tuple(sorted(stop)))


def shares(trials: Iterable[Trial], losses: Losses, schedule: Schedule, asked: Rungs) -> tuple[float, ...]:
    """Return which share of the trials measured at each rung but the last advances from it, as of now.

    Args:
        trials: Of a search; only those of role SEARCH count.
        losses: By trial.
        schedule: Of the search.
        asked: What its spec says.
    """
    if not asked.adaptive:
        return (asked.keep,) * (len(schedule.rungs) - 1)
    searched = {
        trial.number: losses[trial.number]
        for trial in trials
        if trial.role is TrialRole.SEARCH and trial.number in losses
    }
    return tuple(
        share_advancing(asked.keep, agreement_with_later(searched, schedule.rungs[rung:]))
        for rung in range(len(schedule.rungs) - 1)
    )


def assumed_share(asked: Rungs) -> float:
    """Return which share is taken to advance from a rung before anything is measured."""
    return share_advancing(asked.keep, ASSUMED) if asked.adaptive else asked.keep


def num_advancing(num_measured: int, keep: float) -> int:
    """Return how many of the trials measured at a rung advance from it."""
    return _floor(num_measured * keep)


def _rung(fraction: float, num_steps: int) -> int:
    """Return the step of a rung; only one that is asked for before any retraining is at none."""
    return max(1, _floor(fraction * num_steps)) if fraction else 0


def _floor(value: float) -> int:
    """Round down, but not below a whole number that floating point misses: 0.29 * 100 is 29."""
    return math.floor(round(value, 9))
