"""The command ``minitron distill``."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minitron.card import model_card
from minitron.cli_options import (
    ARTIFACTS,
    Artifacts,
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
from minitron.errors import ArtifactMismatch
from minitron.parents import check_sequence_length, parent_architecture, pinned
from minitron.progress import Progress, Report
from minitron.recipe import (
    CacheForm,
    DistillationRecipe,
    TeacherSource,
    TrainingRecipe,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from minitron.data import Blocks
    from minitron.teacher import Teacher

# The defaults of the options are those of the recipes.
_TRAINING = TrainingRecipe()
_DISTILLATION = DistillationRecipe()


def distill(
    *,
    student: Annotated[Path, typer.Argument(help="Checkpoint directory of a pruned model.")],
    teacher: Annotated[str, typer.Option(help="The parent: a builtin name or a checkpoint directory.")],
    output: NewDirectory,
    tokens: Annotated[int, typer.Option(help="Length of the training.")] = _TRAINING.num_tokens,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of an optimiser step.")] = _TRAINING.batch_tokens,
    micro_batch_size: Annotated[
        int, typer.Option(help="Blocks per forward and backward pass.")
    ] = _TRAINING.micro_batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Peak of the schedule.")
    ] = _TRAINING.peak_learning_rate,
    teacher_source: Annotated[
        TeacherSource, typer.Option(help="Answers computed once and kept, or asked for on the way.")
    ] = _DISTILLATION.teacher,
    cache_form: Annotated[
        CacheForm, typer.Option(help="What is kept of an answer.")
    ] = _DISTILLATION.cache_form,
    top_k: Annotated[int, typer.Option(help="Tokens kept of an answer.")] = _DISTILLATION.top_k,
    data: Sources = DEFAULT_SOURCES,
    validation: Validation = None,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    validation_tokens: ValidationTokens = DATA.validation_tokens,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Retrain a pruned model to answer as its parent does."""
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint, tokenizer_fingerprint
    from minitron.data import prepare_blocks
    from minitron.device import pick_device
    from minitron.evaluate import held_out_loss
    from minitron.train import Retraining

    check_new(output)
    teacher, after = pinned(teacher), parent_architecture(str(student))
    recipe = data_recipe(
        data, validation, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=validation_tokens, seed=seed,
    )  # fmt: skip
    check_sequence_length(teacher, sequence_length)
    training = TrainingRecipe(
        num_tokens=tokens,
        batch_tokens=batch_tokens,
        micro_batch_size=micro_batch_size,
        peak_learning_rate=learning_rate,
        seed=seed,
    )
    distillation = DistillationRecipe(teacher=teacher_source, cache_form=cache_form, top_k=top_k)
    step_blocks = training.blocks_per_step(sequence_length)
    with console_progress() as report:
        directory = materialize(teacher, artifacts, report)
        if tokenizer_fingerprint(student) != tokenizer_fingerprint(directory):
            raise ArtifactMismatch(f"{student}: its tokenizer differs from {directory}'s; allowed: the same")
        parent_fingerprint = fingerprint(directory)
        blocks = prepare_blocks(
            recipe,
            directory,
            calibration_blocks=0,
            training_blocks=training.num_steps(sequence_length) * step_blocks,
            root=artifacts,
            report=report,
        )
        parent, model = load_model(directory, threads), load_model(student, threads)
        losses = {
            "parent": held_out_loss(parent, blocks.validation_NT, report=report),
            "student before retraining": held_out_loss(model, blocks.validation_NT, report=report),
        }
        answers = teacher_answers(
            parent, blocks, training, distillation,
            parent_fingerprint=parent_fingerprint, artifacts=artifacts, report=report,
        )  # fmt: skip
        retraining = Retraining(
            model, blocks.training_NT, answers,
            training=training, distillation=distillation, device=pick_device(),
        )  # fmt: skip
        total = blocks.training_NT.size
        while retraining.num_tokens < total:
            retraining.advance(total, max_seconds=1.0)
            report(Progress(stage="retraining", done=retraining.num_tokens, total=total, unit="tokens"))
        losses["student"] = held_out_loss(model, blocks.validation_NT, report=report)
        card = model_card(
            title=output.name,
            parent=teacher,
            parent_fingerprint=parent_fingerprint,
            before=parent_architecture(str(directory)),
            after=after,
            recipes={"data": recipe, "training": training, "distillation": distillation},
            losses=losses,
        )
        save_student(model, after, output, companions=directory, card=card, report=report)
    for name, loss in losses.items():
        typer.echo(f"{name}: {loss:.4f} nats per token")


def teacher_answers(
    parent: "PreTrainedModel",
    blocks: "Blocks",
    training: TrainingRecipe,
    distillation: DistillationRecipe,
    *,
    parent_fingerprint: str,
    artifacts: Path,
    report: Report,
) -> "Teacher":
    """The parent's answers to the training blocks: kept where they fit, else live."""
    from minitron.head import head_of
    from minitron.teacher import CACHE_VERSION, LiveTeacher, build_teacher_cache, open_teacher_cache

    num_tokens, hidden_size = blocks.training_NT.size, parent.config.hidden_size
    if distillation.asks_live(num_tokens=num_tokens, hidden_size=hidden_size):
        return LiveTeacher(parent, training.precision)
    made_from = [
        CACHE_VERSION, parent_fingerprint, blocks.fingerprint, distillation.cache_form, distillation.top_k,
        training.precision,
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    directory = artifacts / "teachers" / key
    build_teacher_cache(
        parent,
        blocks.training_NT,
        distillation,
        directory,
        fingerprint=key,
        batch_size=training.micro_batch_size,
        precision=training.precision,
        report=report,
    )
    return open_teacher_cache(directory, expected_fingerprint=key, head=head_of(parent))
