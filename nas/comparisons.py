"""The baselines that a winner is judged by: which of them are still to be trained.

Pure functions of spec, space and trials, so that a restart wants the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from minitron.architecture import Architecture
from nas.search import SearchSpec
from nas.space import SearchSpace
from nas.trial import Trial, TrialRole, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A trial to be made for comparison only."""

    role: TrialRole
    architecture: Architecture
    checkpoint: str | None = None
    """Where it goes on from, when the search stopped a trial of the same architecture at a rung."""
    rung: int = 0
    """The rung that ``checkpoint`` was written at."""


def random_draws(spec: SearchSpec, space: SearchSpace) -> tuple[Architecture, ...]:
    """Return the architectures drawn evenly from the space, distinct, fixed by the seed."""
    random = Random(f"random architectures {spec.seed}")  # noqa: S311 - a repeatable draw, no secret
    draws: list[Architecture] = []
    for _ in range(min(spec.comparisons.random_architectures, len(space))):
        draw = space.draw(random, draws)
        assert draw is not None
        draws.append(draw)
    return tuple(draws)


def missing_baselines(
    spec: SearchSpec, space: SearchSpace, trials: Sequence[Trial], winner: Trial
) -> tuple[Baseline, ...]:
    """Return the baselines that no trial stands for yet, once all SEARCH trials are final.

    A draw that the search completed is its own baseline; one that it stopped goes on from where it
    stopped; one that people stopped is trained from its beginning; one that failed would fail again.
    """
    missing = []
    searched = {trial.architecture: trial for trial in trials if trial.role is TrialRole.SEARCH}
    drawn = {trial.architecture for trial in trials if trial.role is TrialRole.RANDOM_ARCHITECTURE}
    for architecture in random_draws(spec, space):
        twin = searched.get(architecture)
        if twin is not None and twin.state is TrialState.CANCELLED:
            twin = None
        if architecture in drawn or (twin is not None and twin.state is not TrialState.STOPPED):
            continue
        missing.append(
            Baseline(
                role=TrialRole.RANDOM_ARCHITECTURE,
                architecture=architecture,
                checkpoint=twin.checkpoint if twin else None,
                rung=twin.rung if twin else 0,
            )
        )
    num_random_indices = sum(trial.role is TrialRole.RANDOM_INDICES for trial in trials)
    missing += [Baseline(role=TrialRole.RANDOM_INDICES, architecture=winner.architecture)] * (
        spec.comparisons.random_indices - num_random_indices
    )
    return tuple(missing)
