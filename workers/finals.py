"""Puts teacher and finalists of a search to tasks, one after another, each found again where it was asked before.

Knows no Ray; runs in a worker process that has the extra ``[eval]``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from minitron import extras
from minitron.checkpoint import (
    fingerprint,
    load_parent,
    load_tokenizer,
    tokenizer_fingerprint,
)
from minitron.files import file_digest, new_file
from minitron.progress import Progress, Report
from minitron.stage_recipes import EvaluationRecipe, TaskScore
from nas.finals import Evaluated
from nas.layout import student_of
from nas.search import SearchSpec
from nas.trial import Trial
from workers.device import device_of, use_threads
from workers.report import Prepared

if TYPE_CHECKING:
    from minitron.tasks import Tasks


def require_tasks(spec: SearchSpec, report: Report) -> None:
    """Read the tasks of a search before anything is trained: what is wrong with them is told now, not at its end.

    Raises:
        MissingExtra: This Python has no lm-eval.
        UnreadableTask: As ``minitron.tasks.Tasks``.
    """
    if spec.evaluation is None:
        return
    extras.require(extras.EVAL, extras.EXTRA_EVAL, field="evaluation.tasks")
    from minitron.tasks import Tasks

    Tasks(spec.evaluation, report)


def evaluate_finals(
    spec: SearchSpec, finalists: Sequence[Trial], prepared: Prepared, root: Path, report: Report
) -> tuple[Evaluated, ...]:
    """Return what the teacher and the finalists score, in this order.

    Raises:
        UnreadableTask: A task whose files or data have gone since the search began.
        DivergedTraining: A score is not finite.
    """
    assert spec.evaluation is not None
    use_threads(spec)
    models: list[tuple[int | None, Path]] = [(None, prepared.answering_dir)]
    models += [(trial.number, student_of(root, trial)) for trial in finalists]
    asked = _Asked(spec, root)
    return tuple(
        Evaluated(trial_number=number, scores=asked.scores(directory, _named(number, report)))
        for number, directory in models
    )


class _Asked:
    """The tasks of a search, read when the first model must be asked."""

    def __init__(self, spec: SearchSpec, root: Path) -> None:
        assert spec.evaluation is not None
        self._spec = spec
        self._root = root
        # How many are asked is no part of what one of them scores.
        self._recipe = EvaluationRecipe(
            **{each.name: getattr(spec.evaluation, each.name) for each in fields(EvaluationRecipe)}
        )
        self._tasks: Tasks | None = None

    def scores(self, directory: Path, report: Report) -> tuple[TaskScore, ...]:
        """Return what the model of a checkpoint directory scores."""
        path = self._root / "evaluations" / f"{self._key(directory)}.json"
        if path.exists():
            report(Progress(stage="tasks", is_cached=True))
            return tuple(TaskScore(**score) for score in json.loads(path.read_text(encoding="utf-8")))
        from minitron.tasks import Tasks

        self._tasks = self._tasks or Tasks(self._recipe, report)
        model = load_parent(directory, device=device_of(self._spec.resources))
        scores = self._tasks.put_to(model, load_tokenizer(directory), report)
        with new_file(path) as scratch:
            scratch.write_text(json.dumps([asdict(score) for score in scores]), encoding="utf-8")
        return scores

    def _key(self, directory: Path) -> str:
        """Return a name made from all that the scores follow from; data that tasks take from elsewhere is not seen."""
        parts = [
            fingerprint(directory), tokenizer_fingerprint(directory), asdict(self._recipe), version("lm-eval"),
            _content(self._recipe.task_path),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _content(task_path: str | None) -> list[tuple[str, str]]:
    """Return the names and digests of all files in a directory of tasks."""
    if task_path is None:
        return []
    found = []
    for path in sorted(Path(task_path).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found.append((path.relative_to(task_path).as_posix(), file_digest(path)))
    return found


def _named(number: int | None, report: Report) -> Report:
    """Return a report that says whose tasks these are."""
    who = "the teacher" if number is None else f"trial {number}"

    def told(progress: Progress) -> None:
        report(replace(progress, stage=f"{who}: {progress.stage}"))

    return told
