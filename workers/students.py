"""Students of trials that were not run here: brought from where they were made, or made again.

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
    """Return the reused trials whose students are not with their search."""
    return [trial for trial in trials if trial.reused_from and not student_directory(root, trial).is_dir()]


def bring_students(
    trials: Sequence[Trial], root: Path, make_evaluate: Callable[[], Evaluate], report: Report
) -> None:
    """Put the students of reused trials where they would lie had these been run.

    One that is gone where it was made is trained again, which comes to the same: all that decides it is the same.

    Args:
        trials: Completed and reused, of one search.
        root: The artifact root.
        make_evaluate: Called where one is to be trained.
        report: Told how far that is.
    """
    evaluate: Evaluate | None = None
    for trial in trials:
        assert trial.checkpoint is not None, "it has completed"
        report(Progress(stage=f"student of trial {trial.number}: from {trial.reused_from}"))
        if _is_brought(root / trial.checkpoint, student_directory(root, trial)):
            continue
        logger.info("trial %d: %s is gone, its student is trained again", trial.number, trial.checkpoint)
        evaluate = evaluate or make_evaluate()
        total = trial.saved_tokens
        for told in evaluate(trial):
            stage = f"student of trial {trial.number}: trained again, {trial.reused_from} has it no more"
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
