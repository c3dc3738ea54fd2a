"""The command ``minitron distill``."""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minitron.architecture import Architecture
from minitron.card import model_card
from minitron.cli_options import (
    ARTIFACTS,
    Artifacts,
    NewDirectory,
    Threads,
    check_new,
    load_model,
    own_files,
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
from minitron.parents import check_parent, check_sequence_length, parent_architecture, pinned
from minitron.progress import Progress, Report
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.training_options import (
    DISTILLATION,
    TRAINING,
    BatchTokens,
    Betas,
    Checkpointing,
    FinalRatio,
    Form,
    LabelWeight,
    LearningRate,
    LossOnLogits,
    LossOnStates,
    MaxCacheBytes,
    MaxNorm,
    MicroBatchSize,
    Moments,
    Precisions,
    Source,
    StateDirectory,
    States,
    StateSeconds,
    Temperature,
    Tokens,
    TopK,
    WarmupTokens,
    WeightDecay,
    WeightsIn,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from minitron.data import Blocks
    from minitron.teacher import Teacher
    from minitron.train import Retraining

SLICE_SECONDS = 1.0
"""Of training between two lines of progress."""


def distill(
    *,
    student: Annotated[Path, typer.Argument(help="Checkpoint directory of a pruned model.")],
    teacher: Annotated[str, typer.Option(help="The parent: a builtin name or a checkpoint directory.")],
    output: NewDirectory,
    loss: LossOnLogits = DISTILLATION.loss,
    temperature: Temperature = DISTILLATION.temperature,
    label_weight: LabelWeight = DISTILLATION.label_weight,
    intermediate: States = DISTILLATION.intermediate,
    intermediate_loss: LossOnStates = DISTILLATION.intermediate_loss,
    teacher_source: Source = DISTILLATION.teacher,
    cache_form: Form = DISTILLATION.cache_form,
    top_k: TopK = DISTILLATION.top_k,
    max_cache_bytes: MaxCacheBytes = DISTILLATION.max_cache_bytes,
    tokens: Tokens = TRAINING.num_tokens,
    batch_tokens: BatchTokens = TRAINING.batch_tokens,
    micro_batch_size: MicroBatchSize = TRAINING.micro_batch_size,
    learning_rate: LearningRate = TRAINING.peak_learning_rate,
    final_learning_rate_ratio: FinalRatio = TRAINING.final_learning_rate_ratio,
    warmup_tokens: WarmupTokens = TRAINING.warmup_tokens,
    weight_decay: WeightDecay = TRAINING.weight_decay,
    betas: Betas = (TRAINING.beta1, TRAINING.beta2),
    max_gradient_norm: MaxNorm = TRAINING.max_gradient_norm,
    precision: Precisions = TRAINING.precision,
    weights: WeightsIn = TRAINING.weights,
    optimizer_state: Moments = TRAINING.optimizer_state,
    activation_checkpointing: Checkpointing = TRAINING.activation_checkpointing,
    state: StateDirectory = None,
    state_seconds: StateSeconds = 300.0,
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
    check_new(output)
    teacher, after = pinned(teacher), check_parent(str(student))
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
        final_learning_rate_ratio=final_learning_rate_ratio,
        warmup_tokens=warmup_tokens,
        weight_decay=weight_decay,
        beta1=betas[0],
        beta2=betas[1],
        max_gradient_norm=max_gradient_norm,
        precision=precision,
        weights=weights,
        optimizer_state=optimizer_state,
        activation_checkpointing=activation_checkpointing,
        seed=seed,
    )
    training.require_a_step(sequence_length)
    distillation = DistillationRecipe(
        loss=loss,
        temperature=temperature,
        label_weight=label_weight,
        intermediate=intermediate,
        intermediate_loss=intermediate_loss,
        teacher=teacher_source,
        cache_form=cache_form,
        top_k=top_k,
        max_cache_bytes=max_cache_bytes,
    )
    _check_pair(after, check_parent(teacher), training, distillation, sequence_length=sequence_length)
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint, tokenizer_fingerprint
    from minitron.data import prepare_blocks
    from minitron.device import pick_device
    from minitron.evaluate import held_out_loss
    from minitron.train import STATE_FILE, Retraining

    others = own_files(student)
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
        _train(retraining, blocks.training_NT.size, state, state_seconds, report)
        losses["student"] = held_out_loss(model, blocks.validation_NT, report=report)
        card = model_card(
            title=output.name,
            parent=teacher,
            parent_fingerprint=parent_fingerprint,
            before=parent_architecture(str(directory)),
            after=after,
            recipes={"data": recipe, "training": training, "distillation": distillation},
            losses=losses,
            origin={"student": f"SHA-256 of its config and weights {fingerprint(student)}"}
            | {name: f"{name}, of the student before this training" for name in others},
        )
        save_student(model, after, output, companions=directory, card=card, report=report, others=others)
        if state is not None:
            (state / STATE_FILE).unlink(missing_ok=True)
    typer.echo(f"learnt from: {distillation.described(retraining.states)}")
    for name, measured in losses.items():
        typer.echo(f"{name}: {measured:.4f} nats per token")


def _check_pair(
    student: Architecture,
    parent: Architecture,
    training: TrainingRecipe,
    distillation: DistillationRecipe,
    *,
    sequence_length: int,
) -> None:
    """Refuse before any work what this student cannot learn from this teacher."""
    if student.vocab_size != parent.vocab_size:
        raise ArtifactMismatch(
            f"student: found a vocabulary of {student.vocab_size} tokens, allowed: the teacher's {parent.vocab_size}"
        )
    num_tokens = (
        training.num_steps(sequence_length) * training.blocks_per_step(sequence_length) * sequence_length
    )
    is_live = distillation.asks_live(num_tokens=num_tokens, hidden_size=parent.hidden_size)
    distillation.states(student_layers=student.num_layers, parent_layers=parent.num_layers, is_live=is_live)


def _train(
    retraining: "Retraining", total: int, state: Path | None, state_seconds: float, report: Report
) -> None:
    """Train to the end, from the state that is there, and keep one meanwhile."""
    from minitron.train import STATE_FILE

    if state is not None and (state / STATE_FILE).exists():
        retraining.load(state)
    saved_at = time.monotonic()
    while retraining.num_tokens < total:
        retraining.advance(total, max_seconds=SLICE_SECONDS)
        report(Progress(stage="retraining", done=retraining.num_tokens, total=total, unit="tokens"))
        if state is not None and time.monotonic() - saved_at >= state_seconds:
            state.mkdir(parents=True, exist_ok=True)
            retraining.save(state)
            saved_at = time.monotonic()


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
