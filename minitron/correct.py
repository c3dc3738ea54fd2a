"""Teacher correction: the parent learns the distillation data itself before it teaches, by the label loss.

Without it a teacher that never saw such text guides students badly. The student is pruned from the parent as it
was, with the scores of the parent as it was; only the answers are the corrected model's. Knows no student.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from minitron.progress import Report, silent
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.resumable import SAVE_SECONDS, train_through
from minitron.train import Retraining

CORRECTION_VERSION = 1
"""Raised when the same correction of the same parent comes to mean something else."""
CORRECTING = "correcting the teacher"
"""The stage, in what is reported of it."""


def correction_of(
    parent: PreTrainedModel,
    training_NT: npt.NDArray[np.int32],
    training: TrainingRecipe,
    *,
    device: torch.device,
) -> Retraining:
    """Return the training of ``parent``, in place, on the labels alone."""
    return Retraining(
        parent, training_NT, None, training=training, distillation=DistillationRecipe(), device=device
    )


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
    """Train ``parent``, in place, to the end of ``training``; see ``minitron.resumable`` for ``state``.

    Raises:
        ArtifactMismatch, DivergedTraining, OutOfSpace: As ``train_through``.
    """
    retraining = correction_of(parent, training_NT, training, device=device)
    train_through(
        retraining,
        total=training.num_steps(training_NT.shape[1]) * retraining.step_tokens,
        stage=CORRECTING,
        state=state,
        save_seconds=save_seconds,
        report=report,
    )
