"""What a search is in Optuna's words: a study, a trial for each trial, a distribution for each axis.

Values only; ``study_storage.py`` writes them. Optuna's tools read them, and this service never does: it
proposes from the store alone. Times are local and naive, as Optuna's own are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from minitron.architecture import Architecture
from nas.auto_axes import is_auto, resolved
from nas.axes import AXIS_NAMES, Axes, Multiples, Range
from nas.parent import architecture_of
from nas.rungs import losses_by_trial
from nas.samplers.told import OPTUNA_STATES
from nas.search import Search, SearchSpec
from nas.spec import spec_to_json
from nas.storage.store import TrialPoint
from nas.trial import Trial, TrialRole

OF_HIDDEN = "intermediate_size.of_hidden"
"""The MLP's axis where its choices are multiples of the hidden size."""
NOT_COMPARED = {"constraints": [1.0]}
"""The system attribute by which Optuna and its dashboard count a trial as infeasible: a baseline was never meant to
win, however low its loss."""


def study_attributes(search: Search) -> dict[str, Any]:
    """Return what a study says of its search; what is not known yet is left out."""
    attributes = {
        "search_id": search.id,
        "name": search.spec.name or None,
        "parent": search.spec.parent,
        "parent_parameters": search.parent_parameters,
        "parent_loss": search.parent_loss,
        "corrected_loss": search.corrected_loss,
        "budget": _known(spec_to_json(search.spec)["budget"]),
        "num_priors": search.num_priors or None,
        "winner": search.winner.trial_number if search.winner else None,
        "failure": search.failure.message if search.failure else None,
        "state": search.state.value,
    }
    return _known(attributes)


def study_directions(spec: SearchSpec) -> list[StudyDirection]:
    """Return what the study minimises: the loss, and after it the cost that the search weighs against it."""
    return [StudyDirection.MINIMIZE] * (2 if spec.objective else 1)


def study_trials(search: Search, trials: Sequence[Trial], points: Iterable[TrialPoint]) -> list[FrozenTrial]:
    """Return every trial of a search as one of Optuna's, by number."""
    spec = search.measured_spec
    if any(is_auto(getattr(spec.axes, name)) for name in AXIS_NAMES):
        spec = replace(spec, axes=resolved(spec.axes, architecture_of(spec)))
    distributions, losses = _distributions(spec.axes), losses_by_trial(points)
    return [_study_trial(trial, spec, distributions, losses.get(trial.number, {})) for trial in trials]


def _study_trial(
    trial: Trial, spec: SearchSpec, distributions: dict[str, BaseDistribution], losses: dict[int, float]
) -> FrozenTrial:
    measured = trial.measurement
    costs = [float(spec.weighed.of(trial.architecture))] if spec.weighed else []
    attributes = {
        "search_id": trial.search_id,
        "number": trial.number,
        "role": trial.role.value,
        "state": trial.state.value,
        "architecture": trial.architecture.name,
        "parameters": trial.architecture.parameter_count,
        "loss_before_retraining": measured.loss_before_retraining if measured else losses.get(0),
        "checkpoint": trial.checkpoint,
        "enqueued_by": trial.enqueued_by,
        "reused_from": str(trial.reused_from) if trial.reused_from else None,
        "failure": trial.failure.message if trial.failure else None,
    }
    told = create_trial(
        state=OPTUNA_STATES[trial.state],
        values=[measured.loss, *costs] if measured else None,
        params={name: _choice(name, spec.axes, trial.architecture) for name in distributions},
        distributions=distributions,
        intermediate_values=losses,
        user_attrs=_known(attributes),
        system_attrs={} if trial.role is TrialRole.SEARCH else dict(NOT_COMPARED),
    )
    told.datetime_start = _local(trial.started_at or trial.created_at)
    told.datetime_complete = _local(trial.finished_at) if trial.finished_at else None
    return told


def _distributions(axes: Axes) -> dict[str, BaseDistribution]:
    """Return what each axis of a spec may be, by the name of Optuna's parameter for it."""
    found: dict[str, BaseDistribution] = {}
    for name in AXIS_NAMES:
        choices = axes.chosen(name)
        if isinstance(choices, Multiples):
            found[OF_HIDDEN] = FloatDistribution(min(choices.of_hidden), max(choices.of_hidden))
        elif isinstance(choices, Range):
            found[name] = IntDistribution(choices.start, choices.last, step=choices.step)
        elif choices is not None:
            # The widest step that lands on every choice: sizes stay numbers, which plots and importance order.
            step = math.gcd(*(size - min(choices) for size in choices))
            found[name] = IntDistribution(min(choices), max(choices), step=step or 1)
    return found


def _choice(name: str, axes: Axes, architecture: Architecture) -> int | float:
    """Return where an architecture stands on an axis."""
    if name != OF_HIDDEN:
        return int(getattr(architecture, name))
    assert isinstance(axes.intermediate_size, Multiples)
    hidden, neurons = architecture.hidden_size, architecture.intermediate_size
    multiples = sorted(axes.intermediate_size.of_hidden)
    return min(multiples, key=lambda multiple: abs(round(multiple * hidden) - neurons))


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _local(at: datetime) -> datetime:
    return at.astimezone().replace(tzinfo=None)
