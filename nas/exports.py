"""What was measured as tables for other programs: rows with columns that never change their meaning, as CSV or JSON.

Made while they are read, so that no table is ever held whole. Knows no store.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from unicodedata import category, normalize

from nas.axes import AXIS_NAMES
from nas.history import Entry
from nas.standing import TrialRecord
from nas.storage.store import TrialPoint

Row = Mapping[str, Any]
_SIGNS = frozenset("=+-@")
"""How a text begins that spreadsheets would run: as OWASP says, such get an apostrophe before them."""
_INVISIBLE = frozenset({"Cc", "Cf"})


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    """RFC 4180 in UTF-8, texts in quotes; nothing is an empty cell."""
    JSONL = "jsonl"
    """A JSON object in each line."""


_SHAPE = {
    "architecture": "name of the shape, such as L24-D2048-F5632-N16-K8",
    "num_layers": "layers",
    "hidden_size": "hidden channels",
    "intermediate_size": "neurons of each MLP",
    "num_attention_heads": "query heads",
    "num_key_value_heads": "key-value heads",
    "num_parameters": "parameters, embeddings included",
}
_LOSSES = {
    "num_tokens": "tokens of retraining at the last evaluation",
    "loss_before": "held-out nats per token of the pruned student before retraining",
    "loss": "held-out nats per token at the last evaluation",
    "train_seconds": "seconds of training, evaluation excluded",
}
TRIAL_COLUMNS: Mapping[str, str] = {
    "search_id": "id of the search",
    "trial": "number of the trial, from 0",
    "role": "SEARCH, or the baseline that it is",
    "state": "where the trial stands",
    **_SHAPE,
    "rung": "index of the rung that it trains towards, waits at or was stopped at",
    **_LOSSES,
    "is_whole": "whether the loss is that of the last rung, which alone compares",
    "peak_memory_bytes": "most memory of the accelerator, in bytes; empty on a CPU",
    "num_attempts": "executions",
    "created_at": "UTC, ISO 8601",
    "started_at": "UTC, ISO 8601",
    "finished_at": "UTC, ISO 8601",
    "failure": "why it failed, in one line",
    "checkpoint": "path of the student below the artifact root",
    "reused_from_search": "id of the search that measured it, where it was not run again",
    "reused_from_trial": "number of the trial there",
}
POINT_COLUMNS: Mapping[str, str] = {
    "search_id": "id of the search",
    "trial": "number of the trial, from 0",
    "num_tokens": "tokens of retraining; 0 is the pruned student itself",
    "loss": "held-out nats per token",
    "train_loss": "mean distillation loss since the point before",
    "train_seconds": "seconds of training since the point before, evaluation excluded",
    "at": "UTC, ISO 8601",
}
HISTORY_COLUMNS: Mapping[str, str] = {
    "search_id": "id of the search",
    "search": "name of the search",
    "owner": "whose the search is",
    "tags": "of the search, with spaces between them",
    "trial": "number of the trial, from 0",
    "role": "SEARCH, or the baseline that it is",
    "state": "how the trial ended",
    "parent": "as the search names it",
    **_SHAPE,
    "rung": "index of the rung that it came to",
    **_LOSSES,
    "is_partial": "whether it ended before the last rung",
    "is_reusable": "whether it can stand for a trial with the same reuse_key and architecture",
    "parent_loss": "held-out nats per token of the parent",
    "at": "when the trial ended; UTC, ISO 8601",
    "parent_key": "equal where the parent is the same",
    "data_key": "equal where the data are",
    "recipe_key": "equal where importance, pruning, teacher and training are",
    "reuse_key": "equal where all that decides a result is, besides the architecture; empty where that is not known",
}


def trial_row(record: TrialRecord) -> Row:
    """Return a trial in ``TRIAL_COLUMNS``; losses of one without a measurement are those of its points."""
    trial, measured, points = record.trial, record.trial.measurement, record.points
    first, last = (points[0], points[-1]) if points else (None, None)
    before = first.loss if first and first.num_tokens == 0 else None
    return {
        "search_id": trial.search_id,
        "trial": trial.number,
        "role": trial.role.value,
        "state": trial.state.value,
        **_shape(trial.architecture),
        "num_parameters": measured.num_parameters if measured else trial.architecture.parameter_count,
        "rung": trial.rung,
        "num_tokens": measured.num_tokens if measured else last.num_tokens if last else None,
        "loss_before": measured.loss_before_retraining if measured else before,
        "loss": measured.loss if measured else last.loss if last else None,
        "train_seconds": measured.train_seconds if measured else sum(point.seconds for point in points),
        "is_whole": measured is not None,
        "peak_memory_bytes": measured.peak_memory_bytes if measured else None,
        "num_attempts": trial.num_attempts,
        "created_at": trial.created_at,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
        "failure": trial.failure.message if trial.failure else None,
        "checkpoint": trial.checkpoint,
        "reused_from_search": trial.reused_from.search_id if trial.reused_from else None,
        "reused_from_trial": trial.reused_from.trial_number if trial.reused_from else None,
    }


def point_row(search_id: str, each: TrialPoint) -> Row:
    """Return a point in ``POINT_COLUMNS``."""
    return {
        "search_id": search_id,
        "trial": each.trial_number,
        "num_tokens": each.point.num_tokens,
        "loss": each.point.loss,
        "train_loss": each.point.train_loss,
        "train_seconds": each.point.seconds,
        "at": each.point.at,
    }


def history_row(entry: Entry) -> Row:
    """Return a measurement in ``HISTORY_COLUMNS``."""
    found = entry.measured
    same = {
        field.name: getattr(found, field.name) for field in fields(found) if field.name in HISTORY_COLUMNS
    }
    return {
        **same,
        "search": entry.search_name,
        "owner": entry.owner,
        "tags": " ".join(entry.tags),
        "trial": found.trial_number,
        "role": found.role.value,
        "state": found.state.value,
        **_shape(found.architecture),
        "is_reusable": found.is_reusable,
        "parent_loss": entry.parent_loss,
    }


def written(rows: Iterable[Row], columns: Mapping[str, str], form: Format) -> Iterator[str]:
    """Yield a table in pieces, a row in each."""
    names = list(columns)
    if form is Format.CSV:
        yield _csv_line(names)
    line: Callable[[list[Any]], str] = (
        _csv_line if form is Format.CSV else lambda values: _json_line(names, values)
    )
    for row in rows:
        assert row.keys() == columns.keys(), f"{row.keys() ^ columns.keys()}"
        yield line([row[name] for name in names])


def _shape(architecture: Any) -> dict[str, Any]:
    return {"architecture": architecture.name, **{name: getattr(architecture, name) for name in AXIS_NAMES}}


def _json_line(names: list[str], values: list[Any]) -> str:
    return json.dumps(dict(zip(names, values, strict=True)), default=_time, ensure_ascii=False) + "\n"


def _time(value: datetime) -> str:
    return value.isoformat()


def _csv_line(values: list[Any]) -> str:
    return ",".join(_cell(value) for value in values) + "\r\n"


def _cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula, or for several cells; numbers stay numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        escaped = value.replace('"', '""')
        return f'"\'{escaped}"' if _is_like_formula(value) else f'"{escaped}"'
    return str(value)


def _is_like_formula(text: str) -> bool:
    """Return whether a text begins with what nobody sees, or to the eye with a sign, of whatever width."""
    seen = next((each for each in text if not each.isspace() and category(each) not in _INVISIBLE), "")
    return normalize("NFKC", seen) in _SIGNS or (text != "" and category(text[0]) in _INVISIBLE)
