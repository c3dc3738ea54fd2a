"""What Optuna is told of a search's trials, and how: a study that lives for one question."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import optuna
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from minitron.architecture import Architecture
from nas.space import SearchSpace
from nas.trial import TrialState

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

Distributions = Mapping[str, IntDistribution]


class _Told(FrozenTrial):
    """A trial that nobody changes: a study takes it as it is, where it would copy each at every proposal."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def distributions_of(space: SearchSpace) -> Distributions:
    """Return the axes that leave a choice, as ordinals of their choices."""
    return {name: IntDistribution(0, num - 1) for name, num in space.num_ordinals.items() if num > 1}


def told(
    architecture: Architecture,
    space: SearchSpace,
    distributions: Distributions,
    *,
    state: OptunaState,
    values: Sequence[float] | None,
    losses: Mapping[int, float] | None = None,
    system_attributes: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """Return a trial in Optuna's words: where its architecture stands on each axis, and what came of it.

    Args:
        architecture: One of ``space``.
        space: Whose ordinals are told.
        distributions: See ``distributions_of``.
        state: See ``OPTUNA_STATES``.
        values: Of the objectives; None where it has not completed.
        losses: On its way, by tokens.
        system_attributes: What a sampler of Optuna's notes down of a trial that it proposed.
    """
    ordinals = space.ordinals(architecture)
    return _Told(
        number=-1,  # the study counts
        trial_id=-1,
        state=state,
        value=None,
        values=values,
        params={name: ordinals[name] for name in distributions},
        distributions=dict(distributions),
        intermediate_values=dict(losses or {}),
        user_attrs={},
        system_attrs=dict(system_attributes or {}),
        datetime_start=None,
        datetime_complete=None,
    )


def ask(
    sampler: BaseSampler,
    trials: Sequence[FrozenTrial],
    distributions: Distributions,
    *,
    num_objectives: int = 1,
) -> dict[str, int]:
    """Return where on each axis a sampler of Optuna's would try next, all objectives being minimised."""
    with quiet():
        # Past ``Study.add_trials``, which validates what was just made: a third of a proposal.
        storage = InMemoryStorage()
        study_id = storage.create_new_study([StudyDirection.MINIMIZE] * num_objectives, "proposal")
        for trial in trials:
            storage.create_new_trial(study_id, template_trial=trial)
        study = optuna.load_study(study_name="proposal", storage=storage, sampler=sampler)
        return study.ask(dict(distributions)).params


@contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna say nothing of studies that live for one question."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
