"""The spaces that tables are made of."""

from collections.abc import Callable
from pathlib import Path

from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.search import Rungs, SearchSpec

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of a whole training, at which students are measured: where rungs may stand."""


def llama(_: Path) -> SearchSpec:
    """200 students of ``builtin:tiny``, of 40 to 60 % of its parameters; 64 steps of light retraining."""
    return SearchSpec(
        name="llama",
        parent="builtin:tiny",
        budget=Budget(max_parameters=600_000, min_parameters=400_000),
        axes=Axes(
            num_layers=(2, 3, 4, 5, 6),
            hidden_size=Range(start=64, stop=128, step=16),
            intermediate_size=Range(start=64, stop=256, step=16),
            num_attention_heads=(4, 8),
        ),
        data=DataRecipe(sequence_length=128, validation_tokens=8_192),
        calibration=CalibrationRecipe(num_tokens=32_768, batch_size=32),
        distillation=DistillationRecipe(teacher="cached"),
        training=TrainingRecipe(
            num_tokens=65_536,
            batch_tokens=1_024,
            micro_batch_size=8,
            peak_learning_rate=2e-3,
            warmup_tokens=4_096,
            precision="float32",
        ),
        num_points=1,
        rungs=Rungs(fractions=FRACTIONS),
        checkpoint_seconds=3_600,
    )


SPECS: dict[str, Callable[[Path], SearchSpec]] = {"llama": llama}
"""By the name of the table; each is given where what it makes may lie."""
