"""The two parents that findings are tried on, and how their students are retrained."""

from dataclasses import replace
from pathlib import Path

from minitron.builtin import materialize
from minitron.console import console_progress
from minitron.parents import SMOLLM2, parent_architecture
from minitron.recipe import CalibrationRecipe, DataRecipe, TrainingRecipe
from minitron.tiny import TRAINING, tiny_name, train_tiny
from tests.fidelity.laboratory import Protocol

PARENT_TRAINING = replace(
    TRAINING, num_tokens=2_560_000, batch_tokens=1_024, micro_batch_size=8, warmup_tokens=128_000
)
"""Five times what ``builtin:tiny`` gets: a teacher that the same tokens without it soon overtake shows nothing."""


def tiny(root: Path) -> Protocol:
    """A Llama of a million parameters, trained here."""
    parent = root / "parents" / tiny_name(PARENT_TRAINING)
    if not parent.exists():
        with console_progress() as report:
            train_tiny(parent, training=PARENT_TRAINING, report=report)
    source = parent_architecture(str(parent))
    return Protocol(
        name="tiny",
        parent_dir=parent,
        width=replace(source, hidden_size=96, intermediate_size=144),
        depth=replace(source, num_layers=3),
        quarter=replace(source, hidden_size=64, intermediate_size=96),
        data=DataRecipe(sequence_length=128, validation_tokens=16_384),
        calibration=CalibrationRecipe(num_tokens=32_768, batch_size=32),
        training=TrainingRecipe(
            num_tokens=102_400,
            batch_tokens=2_048,
            micro_batch_size=16,
            peak_learning_rate=2e-3,
            warmup_tokens=8_192,
            precision="float32",
        ),
        correction_rate=PARENT_TRAINING.peak_learning_rate / 5,
        points=(0, 20_480, 51_200, 102_400),
    )


def smollm2(root: Path) -> Protocol:
    """SmolLM2-135M."""
    with console_progress() as report:
        parent = materialize(SMOLLM2, root, report)
    source = parent_architecture(str(parent))
    return Protocol(
        name="smollm2",
        parent_dir=parent,
        width=replace(source, hidden_size=504, intermediate_size=1_280),
        depth=replace(source, num_layers=22),
        quarter=replace(source, hidden_size=360, intermediate_size=640),
        data=DataRecipe(sequence_length=256, validation_tokens=8_192),
        calibration=CalibrationRecipe(num_tokens=16_384, batch_size=8),
        training=TrainingRecipe(
            num_tokens=16_384,
            batch_tokens=512,
            micro_batch_size=2,
            peak_learning_rate=6e-4,
            warmup_tokens=2_048,
        ),
        correction_rate=6e-4 / 5,
        points=(0, 4_096, 8_192, 16_384),
    )


PROTOCOLS = {"tiny": tiny, "smollm2": smollm2}
