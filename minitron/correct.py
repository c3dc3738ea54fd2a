"""Teacher correction: the parent learns the distillation data itself before it teaches, by the label loss.

Without it a teacher that never saw such text guides students badly. The student is pruned from the parent as it
was, with the scores of the parent as it was; only the answers are the corrected model's. Knows no student.
"""

import shutil
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from minitron.progress import Progress, Report, silent
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.train import STATE_FILE, Retraining

CORRECTION_VERSION = 1
"""Raised when the same correction of the same parent comes to mean something else."""

SLICE_SECONDS = 1.0
SAVE_SECONDS = 60.0


def correct(
    parent: PreTrainedModel,
    training_NT: npt.NDArray[np.int32],
    training: TrainingRecipe,
    *,
    device: torch.device,
    state: Path,
    save_seconds: float = SAVE_SECONDS,
    report: Report = silent,
) -> None:
    """Train ``parent``, in place, to the end of ``training``; go on from what an interrupted call left in ``state``.

    The result is the same to the bit however often it was interrupted. ``state`` is the caller's to remove, by
    ``forget``, once the result is safe.

    Raises:
        ArtifactMismatch: ``state`` is of another parent, other data or another recipe.
        DivergedTraining: A loss or a gradient is not finite.
        OutOfSpace: The disk is full.
    """
    retraining = Retraining(
        parent, training_NT, None, training=training, distillation=DistillationRecipe(), device=device
    )
    if (state / STATE_FILE).is_file():
        retraining.load(state)
    total = training.num_steps(training_NT.shape[1]) * retraining.step_tokens
    saved_at = time.monotonic()
    while retraining.num_tokens < total:
        retraining.advance(total, max_seconds=min(SLICE_SECONDS, save_seconds))
        if time.monotonic() - saved_at >= save_seconds and retraining.num_tokens < total:
            retraining.save(state)
            saved_at = time.monotonic()
        report(
            Progress(stage="correcting the teacher", done=retraining.num_tokens, total=total, unit="tokens")
        )


def forget(state: Path) -> None:
    """Remove what an interrupted correction would go on from."""
    shutil.rmtree(state, ignore_errors=True)
