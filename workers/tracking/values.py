"""What MLflow is told, as its own values: metrics with the time at which they were measured, flat params.

Every value follows from what is stored alone, its time included, so that what is sent twice is the same.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from mlflow.entities import Metric, Param

from nas.finals import Evaluated
from nas.search import Search
from nas.spec import spec_to_json
from nas.trial import Point, Trial, TrialRole

SIZES = (
    "num_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "vocab_size", "parameter_count", "non_embedding_parameters", "name",
)  # fmt: skip
RECIPES = ("data", "calibration", "distillation", "training", "correction")
MAX_LENGTH = 500
"""Of a param, or of a failure's message."""
_UNNAMED = re.compile(r"[^\w./ -]")
"""What MLflow allows in no name of a metric."""


def search_params(search: Search) -> list[Param]:
    """Return the spec and what followed from it when it was submitted."""
    sizes = {"parent_parameters": search.parent_parameters, "num_feasible": search.num_feasible}
    return _params(dict(_flat(spec_to_json(search.spec))) | sizes)


def trial_params(search: Search, trial: Trial) -> list[Param]:
    """Return the sizes of a trial's architecture and the recipe that it is trained by: its search's, or its own."""
    said = spec_to_json(search.spec)
    if trial.promotion is not None:
        # Taught by the teacher that its search corrected.
        promoted = spec_to_json(search.spec.promoted_by(trial.promotion))
        said = promoted | {"correction": said["correction"]}
    recipe = dict(_flat({name: said[name] for name in RECIPES}))
    return _params({name: getattr(trial.architecture, name) for name in SIZES} | recipe)


def point_metrics(point: Point) -> list[Metric]:
    """Return the losses of a point; the step is in tokens."""
    metrics = [_metric("loss", point.loss, point.at, point.num_tokens)]
    if point.train_loss is not None:
        metrics.append(_metric("train_loss", point.train_loss, point.at, point.num_tokens))
    return metrics


def best_loss(completed: Trial, trials: Iterable[Trial]) -> list[Metric]:
    """Return the lowest loss of the search when ``completed`` had finished; the step is in completed trials."""
    until = completed.finished_at
    assert until is not None
    losses = [
        trial.measurement.loss
        for trial in trials
        if trial.role is TrialRole.SEARCH
        and trial.measurement
        and trial.finished_at
        and trial.finished_at <= until
    ]
    return [_metric("best_loss", min(losses), until, len(losses))]


def parent_loss(search: Search) -> list[Metric]:
    """Return the parent's loss of a search that has measured it."""
    assert search.parent_loss is not None
    return [_metric("parent_loss", search.parent_loss, _begin(search), 0)]


def score_metrics(search: Search, evaluated: Evaluated) -> list[Metric]:
    """Return what a finalist or the teacher scored at tasks."""
    prefix = "teacher/" if evaluated.trial_number is None else ""
    names = (_UNNAMED.sub("_", f"{prefix}{score.task}/{score.metric}") for score in evaluated.scores)
    scores = zip(names, evaluated.scores, strict=True)
    return [_metric(name, score.value, _begin(search), 0) for name, score in scores]


def version_tags(search: Search, winner: Trial) -> dict[str, str]:
    """Return where a winner comes from and what it is, as tags of its version."""
    measurement, architecture = winner.measurement, winner.architecture
    assert measurement is not None
    found = {
        "search_id": search.id,
        "trial": winner.number,
        "workspace": search.workspace,
        "parent": search.spec.parent,
        "parent_fingerprint": search.made_from and search.made_from.parent,
        "architecture": architecture.name,
        "parameters": architecture.parameter_count,
        "loss": measurement.loss,
        "parent_loss": search.parent_loss,
        "tokens": measurement.num_tokens,
        "reused_from": winner.reused_from,
        "promoted_from": winner.promoted_from,
    }
    return {f"nas.{name}": str(value) for name, value in found.items() if value is not None}


def version_description(search: Search, winner: Trial) -> str:
    """Return in a sentence what a winner is."""
    measurement, architecture = winner.measurement, winner.architecture
    assert measurement is not None
    beside = f" (the parent's: {search.parent_loss:.4f})" if search.parent_loss is not None else ""
    return (
        f"{architecture.name}, {architecture.parameter_count:,} parameters: held-out loss {measurement.loss:.4f}"
        f"{beside} after {measurement.num_tokens:,} tokens. Trial {winner.number} of search {search.id}."
    )


def milliseconds(at: datetime) -> int:
    """Return a time as MLflow counts it."""
    return int(at.timestamp() * 1000)


def _begin(search: Search) -> datetime:
    return search.started_at or search.created_at


def _metric(name: str, value: float, at: datetime, step: int) -> Metric:
    return Metric(name, value, milliseconds(at), step)


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(name, str(value)[:MAX_LENGTH]) for name, value in values.items()]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested mappings with dotted names."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
