"""The next architecture to try, asked of Optuna.

Stateless: each proposal builds an in-memory study from the stored trials and asks it once, so that
there is no second memory to lose. What Optuna wishes for is projected onto the nearest feasible
architecture that was not tried yet, and only such projected values are ever told.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from minitron.architecture import Architecture
from nas.rungs import Losses, losses_by_trial
from nas.search import SearchSpec
from nas.space import SearchSpace
from nas.storage.store import TrialPoint
from nas.trial import Trial, TrialRole, TrialState

MAX_STARTUP_TRIALS = 10
"""Optuna's default; half of the trials when those are few."""

OPTUNA_STATES = {
    TrialState.PROPOSED: OptunaState.RUNNING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.WAITING: OptunaState.RUNNING,
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}
"""What Optuna calls the states of a trial: one that waits may go on, one that was stopped never completed."""


def next_number(trials: Sequence[Trial]) -> int:
    """Return the number of the trial that comes after ``trials``."""
    return max((trial.number for trial in trials), default=-1) + 1


def propose(
    spec: SearchSpec, space: SearchSpace, trials: Sequence[Trial], points: Sequence[TrialPoint]
) -> Architecture | None:
    """Return an architecture not tried yet, or None when all have been.

    The same trials and points give the same answer. The first trials are drawn evenly from the space.
    """
    searched = [trial for trial in trials if trial.role is TrialRole.SEARCH]
    tried = {trial.architecture for trial in searched}
    random = Random(f"proposal {spec.seed} {next_number(trials)}")  # noqa: S311 - repeatable, no secret
    num_compared = sum(trial.state in {TrialState.COMPLETED, TrialState.STOPPED} for trial in searched)
    num_startup_trials = min(MAX_STARTUP_TRIALS, max(1, spec.num_trials // 2))
    if spec.sampler == "random" or num_compared < num_startup_trials:
        return space.draw(random, tried)
    wish = _ask(space, searched, losses_by_trial(points), seed=random.getrandbits(32))
    return space.nearest(wish, tried)


def _ask(space: SearchSpace, searched: Sequence[Trial], losses: Losses, *, seed: int) -> dict[str, int]:
    distributions: dict[str, BaseDistribution] = {
        name: IntDistribution(0, num - 1) for name, num in space.num_ordinals.items() if num > 1
    }
    sampler = TPESampler(
        n_startup_trials=0, n_ei_candidates=24, multivariate=True, group=False, constant_liar=True, seed=seed
    )
    with quiet():
        study = optuna.create_study(direction="minimize", sampler=sampler)
        study.add_trials([_told(trial, space, distributions, losses) for trial in searched])
        return study.ask(distributions).params


@contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna say nothing of studies that live for one question."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _told(
    trial: Trial, space: SearchSpace, distributions: dict[str, BaseDistribution], losses: Losses
) -> FrozenTrial:
    ordinals = space.ordinals(trial.architecture)
    return create_trial(
        state=OPTUNA_STATES[trial.state],
        value=trial.measurement.loss if trial.measurement else None,
        params={name: ordinals[name] for name in distributions},
        distributions=distributions,
        intermediate_values=dict(losses.get(trial.number, {})),
    )
