"""Students that are not where their search looks for them: brought from where they were made, or made again.

Knows no Ray; runs in a worker process.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from minitron.files import link_or_copy, new_directory
from minitron.progress import Progress, Report
from nas.layout import student_directory
from nas.trial import Trial
from workers.report import Evaluate

logger = logging.getLogger(__name__)


def missing_students(root: Path, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose students are not with their search: reused ones, or deleted since.

    Promotions are no part of these: only by their own recipe can they be made again.
    """
    return [
        trial for trial in trials if trial.promotion is None and not student_directory(root, trial).is_dir()
    ]


def bring_students(
    trials: Sequence[Trial], root: Path, make_evaluate: Callable[[], Evaluate], report: Report
) -> None:
    """Put the students of trials where they lie once these have been run.

    One that is gone where it was made is trained again, which comes to the same: all that decides it is the same.

    Args:
        trials: Completed, of one search.
        root: The artifact root.
        make_evaluate: Called where one is to be trained.
        report: Told how far that is.
    """
    evaluate: Evaluate | None = None
    for trial in trials:
        assert trial.checkpoint is not None, "it has completed"
        source = trial.reused_from or "itself"
        report(Progress(stage=f"student of trial {trial.number}: from {source}"))
        if _is_brought(root / trial.checkpoint, student_directory(root, trial)):
            continue
        logger.info("trial %d: %s is gone, its student is trained again", trial.number, trial.checkpoint)
        evaluate = evaluate or make_evaluate()
        total = trial.measurement.num_tokens if trial.measurement else 0
        for told in evaluate(trial):
            stage = f"student of trial {trial.number}: trained again, since it is gone"
            report(Progress(stage=stage, done=told.num_tokens, total=total, unit="tokens"))


def _is_brought(made: Path, wanted: Path) -> bool:
    """Link a student, whole or not at all; return whether it was there."""
    if not made.is_dir():
        return False
    try:
        with new_directory(wanted) as scratch:
            for path in made.iterdir():
                (link_or_copy if path.suffix == ".safetensors" else shutil.copyfile)(
                    path, scratch / path.name
                )
    except FileNotFoundError:  # deleted meanwhile
        return False
    return True
