"""The command ``minitron compress``."""

from pathlib import Path
from typing import Annotated

import typer

from minitron.cli_distill import teacher_answers
from minitron.cli_options import ARTIFACTS, Artifacts, Checkpoint, Threads, check_place, set_threads
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
from minitron.errors import InvalidRecipe
from minitron.parents import check_parent, check_sequence_length, pinned
from minitron.recipe import (
    CalibrationRecipe,
    DistillationRecipe,
    TrainingRecipe,
)
from minitron.sizes import read_sizes
from minitron.training_options import (
    DISTILLATION,
    TRAINING,
    BatchTokens,
    Form,
    LearningRate,
    MicroBatchSize,
    Source,
    Tokens,
    TopK,
)

# The defaults of the options are those of the recipes.
_CALIBRATION = CalibrationRecipe()


def compress(
    *,
    parent: Checkpoint,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            help="A size, as L24-D512: layers, hidden size, F neurons, N heads. What it does not name is as in the "
            "size before. Given several times.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Directory that gets one for each size; complete ones stay."),
    ],
    calibration_tokens: Annotated[
        int, typer.Option(help="Tokens that importance is measured on.")
    ] = _CALIBRATION.num_tokens,
    tokens: Tokens = TRAINING.num_tokens,
    batch_tokens: BatchTokens = TRAINING.batch_tokens,
    micro_batch_size: MicroBatchSize = TRAINING.micro_batch_size,
    learning_rate: LearningRate = TRAINING.peak_learning_rate,
    teacher_source: Source = DISTILLATION.teacher,
    cache_form: Form = DISTILLATION.cache_form,
    top_k: TopK = DISTILLATION.top_k,
    data: Sources = DEFAULT_SOURCES,
    validation: Validation = None,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    validation_tokens: ValidationTokens = DATA.validation_tokens,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Make several sizes in sequence, each cut from the nearest larger one and taught by the parent.

    An interrupted family goes on when the same command is given again.
    """
    if output.exists() and not output.is_dir():
        raise InvalidRecipe("--output", f"found the file {output}, allowed: a directory, or nothing yet")
    check_place(output)
    parent = pinned(parent)
    recipe = data_recipe(
        data, validation, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=validation_tokens, seed=seed,
    )  # fmt: skip
    check_sequence_length(parent, sequence_length)
    calibration = CalibrationRecipe(num_tokens=calibration_tokens)
    training = TrainingRecipe(
        num_tokens=tokens,
        peak_learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        micro_batch_size=micro_batch_size,
        seed=seed,
    )
    training.require_a_step(sequence_length)
    distillation = DistillationRecipe(teacher=teacher_source, cache_form=cache_form, top_k=top_k)
    whole = check_parent(parent)
    targets = read_sizes(whole, to)
    training_blocks = training.num_steps(sequence_length) * training.blocks_per_step(sequence_length)
    distillation.asks_live(num_tokens=training_blocks * sequence_length, hidden_size=whole.hidden_size)
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.compress import Compression, Recipes
    from minitron.data import prepare_blocks

    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        set_threads(directory, threads)
        blocks = prepare_blocks(
            recipe,
            directory,
            calibration_blocks=calibration.num_blocks(sequence_length),
            training_blocks=training_blocks,
            root=artifacts,
            report=report,
        )
        compression = Compression(
            parent,
            directory,
            blocks,
            Recipes(data=recipe, calibration=calibration, distillation=distillation, training=training),
            answers=lambda model: teacher_answers(
                model, blocks, training, distillation,
                parent_fingerprint=fingerprint(directory), artifacts=artifacts, report=report,
            ),
            output=output,
            report=report,
        )  # fmt: skip
        sizes = list(compression.sizes(targets))
    for size in sizes:
        source = size.lineage[-2]
        typer.echo(
            f"{size.directory}: {size.architecture.parameter_count:,} parameters, from {source.name}: "
            f"{size.loss_before_retraining:.4f} -> {size.loss:.4f} nats per token, parent {size.lineage[0].loss:.4f}"
        )
