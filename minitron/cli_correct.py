"""The command ``minitron correct``."""

from typing import Annotated

import typer

from minitron.card import model_card
from minitron.cli_options import (
    ARTIFACTS,
    Artifacts,
    Checkpoint,
    NewDirectory,
    Threads,
    check_new,
    load_model,
    save_student,
)
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
from minitron.parents import check_parent, check_sequence_length, parent_architecture, pinned
from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from minitron.training_options import (
    TRAINING,
    BatchTokens,
    LearningRate,
    MicroBatchSize,
    Tokens,
)

# The defaults of the options are those of the recipes.
_CORRECTION = CorrectionRecipe()


def correct(
    *,
    parent: Checkpoint,
    output: NewDirectory,
    tokens: Tokens = TRAINING.num_tokens,
    batch_tokens: BatchTokens = TRAINING.batch_tokens,
    micro_batch_size: MicroBatchSize = TRAINING.micro_batch_size,
    learning_rate: LearningRate = TRAINING.peak_learning_rate,
    learning_rate_ratio: Annotated[
        float, typer.Option(help="Peak of the parent's schedule, as a fraction of the students'.")
    ] = _CORRECTION.learning_rate_ratio,
    data: Sources = DEFAULT_SOURCES,
    validation: Validation = None,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    validation_tokens: ValidationTokens = DATA.validation_tokens,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Fine-tune a parent on the text that it is to teach; the result serves as --teacher of `minitron distill`.

    An interrupted correction goes on when the same command is given again.
    """
    check_new(output)
    parent, correction = pinned(parent), CorrectionRecipe(learning_rate_ratio=learning_rate_ratio)
    recipe = data_recipe(
        data, validation, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=validation_tokens, seed=seed,
    )  # fmt: skip
    check_sequence_length(parent, sequence_length)
    training = correction.training(
        TrainingRecipe(
            num_tokens=tokens,
            peak_learning_rate=learning_rate,
            batch_tokens=batch_tokens,
            micro_batch_size=micro_batch_size,
            seed=seed,
        )
    )
    training.require_a_step(sequence_length)
    check_parent(parent)
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.correct import correct as correct_model
    from minitron.data import prepare_blocks
    from minitron.device import pick_device
    from minitron.evaluate import held_out_loss
    from minitron.resumable import forget

    state = output.with_name(f".{output.name}.correction")
    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        blocks = prepare_blocks(
            recipe,
            directory,
            calibration_blocks=0,
            training_blocks=training.num_steps(sequence_length) * training.blocks_per_step(sequence_length),
            root=artifacts,
            report=report,
        )
        model = load_model(directory, threads)
        losses = {"parent": held_out_loss(model, blocks.validation_NT, report=report)}
        correct_model(model, blocks.training_NT, training, device=pick_device(), state=state, report=report)
        losses["corrected parent"] = held_out_loss(model, blocks.validation_NT, report=report)
        architecture = parent_architecture(str(directory))
        card = model_card(
            title=output.name,
            parent=parent,
            parent_fingerprint=fingerprint(directory),
            before=architecture,
            after=architecture,
            summary="corrected: trained on the text below to teach it, not pruned.",
            recipes={"data": recipe, "correction": training},
            losses=losses,
        )
        save_student(model, architecture, output, companions=directory, card=card, report=report)
        forget(state)
    for name, loss in losses.items():
        typer.echo(f"{name}: {loss:.4f} nats per token")
