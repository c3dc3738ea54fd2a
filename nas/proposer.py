"""The next architecture to try, by the sampler that a spec asks for.

Stateless: each proposal is made from the stored trials alone, so that there is no second memory to lose.
"""

from collections.abc import Sequence
from random import Random

from minitron.architecture import Architecture
from nas.earlier import Prior
from nas.limits import expected_trials
from nas.rungs import schedule
from nas.samplers.learned import Nsga2, Tpe
from nas.samplers.ordered import Alternating, Exhaustive, NearestBudget
from nas.samplers.sampler import Draws, Hint, Past, Sampler
from nas.search import SearchSpec
from nas.space import SearchSpace
from nas.storage.store import TrialPoint
from nas.trial import Trial


def next_number(trials: Sequence[Trial]) -> int:
    """Return the number of the trial that comes after ``trials``."""
    return max((trial.number for trial in trials), default=-1) + 1


def propose(
    spec: SearchSpec,
    space: SearchSpace,
    trials: Sequence[Trial],
    points: Sequence[TrialPoint],
    *,
    priors: Sequence[Prior] = (),
    hint: Hint | None = None,
) -> Architecture | None:
    """Return an architecture not tried yet, or None when all have been.

    The same trials, points, priors and hint give the same answer.
    """
    random = Random(f"proposal {spec.seed} {next_number(trials)}")  # noqa: S311 - repeatable, no secret
    sampler = sampler_of(spec, expected_trials(spec, schedule(spec), len(space)), hint)
    return sampler.propose(space, Past.of(trials, points, priors), random)


def sampler_of(spec: SearchSpec, num_trials: int, hint: Hint | None) -> Sampler:
    """Return the sampler of a spec; ``hint`` says what looks promising before anything is measured.

    ``num_trials`` are about those that there will be: tokens may allow fewer than the spec does.
    """
    match spec.sampler:
        case "random":
            return Draws()
        case "exhaustive":
            return Exhaustive(order=spec.order, seed=spec.seed)
        case "nearest-budget":
            return NearestBudget()
        case "tpe":
            return Tpe(num_trials=num_trials, start=_start(spec, hint))
        case "nsga2":
            assert spec.weighed is not None, "a spec without an objective is refused"
            return Nsga2(num_trials=num_trials, objective=spec.weighed, start=Draws(hint=hint))


def _start(spec: SearchSpec, hint: Hint | None) -> Sampler:
    """Return what proposes while there is nothing to learn from."""
    return Alternating(others=Draws()) if spec.prior == "budget" else Draws(hint=hint)
