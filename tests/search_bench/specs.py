"""The spaces that tables are made of."""

from collections.abc import Callable
from dataclasses import replace

from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.search import Rungs, SearchSpec

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of a whole training, at which students are measured: where rungs may stand."""


NEMOTRON = "nemotron-tiny"
"""A parent that ``parents`` trains."""
SYMPY = "sympy"
"""The source of the package of that name."""


def llama() -> SearchSpec:
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
        # What follows decides nothing about a table: said, so that other defaults do not make another spec.
        num_trials=200,
        rungs=Rungs(fractions=FRACTIONS, keep=0.5, adaptive=False),
        sampler="random",
        prior="none",
        checkpoint_seconds=3_600,
    )


def nemotron() -> SearchSpec:
    """Students of a Nemotron with untied embeddings, of 30 to 40 % of its parameters, on code; 64 steps."""
    of_llama = llama()
    return replace(
        of_llama,
        name="nemotron",
        parent=NEMOTRON,
        parent_config={
            "architectures": ["NemotronForCausalLM"],
            "model_type": "nemotron",
            "num_hidden_layers": 8,
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 16,
            "vocab_size": 1024,
            "max_position_embeddings": 512,
            "hidden_act": "relu2",
            "initializer_range": 0.08,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        budget=Budget(max_parameters=400_000, min_parameters=300_000),
        axes=Axes(
            num_layers=(3, 4, 5, 6, 7, 8),
            hidden_size=Range(start=48, stop=96, step=8),
            intermediate_size=Range(start=96, stop=384, step=32),
            num_attention_heads=(3, 6),
        ),
        data=replace(of_llama.data, source=SYMPY),
    )


SPECS: dict[str, Callable[[], SearchSpec]] = {"llama": llama, "nemotron": nemotron}
"""By the name of the table; ``parents.located`` finds on this machine what they name."""
