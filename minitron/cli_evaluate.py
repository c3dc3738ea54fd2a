"""The command ``minitron evaluate``."""

import math

import typer

from minitron.cli_options import ARTIFACTS, Artifacts, Checkpoint, Threads, load_model
from minitron.console import console_progress
from minitron.data_options import (
    DATA,
    DEFAULT_SOURCES,
    Seed,
    SequenceLength,
    Sources,
    TextField,
    Validation,
    ValidationTokens,
    data_recipe,
)
from minitron.parents import check_sequence_length


def evaluate(
    *,
    checkpoint: Checkpoint,
    data: Sources = DEFAULT_SOURCES,
    validation: Validation = None,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    validation_tokens: ValidationTokens = DATA.validation_tokens,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Measure the held-out loss of a checkpoint."""
    from minitron.builtin import materialize
    from minitron.data import prepare_blocks
    from minitron.evaluate import held_out_loss

    recipe = data_recipe(
        data, validation, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=validation_tokens, seed=seed,
    )  # fmt: skip
    check_sequence_length(checkpoint, sequence_length)
    with console_progress() as report:
        directory = materialize(checkpoint, artifacts, report)
        blocks = prepare_blocks(
            recipe, directory, calibration_blocks=0, training_blocks=0, root=artifacts, report=report
        )
        loss = held_out_loss(load_model(directory, threads), blocks.validation_NT, report=report)
    bits_per_byte = loss * blocks.validation_NT.size / blocks.validation_bytes / math.log(2)
    typer.echo(f"{checkpoint}: {loss:.4f} nats per token, {bits_per_byte:.4f} bits per byte")
