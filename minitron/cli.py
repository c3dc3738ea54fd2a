"""The script ``minitron``: one step of compression at a time, on checkpoint directories.

Loads the model framework only inside a command, so that help is instant. Results go to standard output,
progress and errors to standard error.
"""

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minitron import extras
from minitron.architecture import Architecture
from minitron.card import model_card
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
from minitron.errors import ArtifactMismatch, InvalidRecipe, MinitronError
from minitron.families import resized
from minitron.parents import FORMS, SMOLLM2, TINY, check_sequence_length, parent_architecture, pinned
from minitron.progress import Progress, Report
from minitron.recipe import (
    CacheForm,
    CalibrationRecipe,
    DistillationRecipe,
    KvHeads,
    PruningRecipe,
    TeacherSource,
    TrainingRecipe,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from minitron.data import Blocks
    from minitron.teacher import Teacher

app = typer.Typer(
    name="minitron",
    help="Compress one Hugging Face causal language model: measure importance, prune, distil, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# The defaults of the options are those of the recipes.
_CALIBRATION = CalibrationRecipe()
_TRAINING = TrainingRecipe()
_DISTILLATION = DistillationRecipe()
_ARTIFACTS = Path(".nas/artifacts")

Checkpoint = Annotated[str, typer.Argument(help=f"{TINY}, {SMOLLM2}, {FORMS}.")]
NewDirectory = Annotated[Path, typer.Option("--output", "-o", help="New checkpoint directory.")]
Artifacts = Annotated[Path, typer.Option(help="Where parents, token blocks and answers are kept.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Of the CPU; by default 1 for small models, else all.", show_default=False),
]


@app.command()
def importance(
    *,
    parent: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="Safetensors file to write.")],
    tokens: Annotated[int, typer.Option(help="Calibration tokens.")] = _CALIBRATION.num_tokens,
    batch_size: Annotated[int, typer.Option(help="Blocks per forward pass.")] = _CALIBRATION.batch_size,
    data: Sources = DEFAULT_SOURCES,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = _ARTIFACTS,
) -> None:
    """Measure the importance of layers, hidden channels, neurons and heads, in forward passes only."""
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.data import prepare_blocks
    from minitron.importance import measure_importance

    calibration = CalibrationRecipe(num_tokens=tokens, batch_size=batch_size)
    recipe = data_recipe(
        data, None, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=sequence_length, seed=seed,
    )  # fmt: skip
    check_sequence_length(parent, sequence_length)
    num_blocks = calibration.num_blocks(sequence_length)
    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        blocks = prepare_blocks(
            recipe, directory, calibration_blocks=num_blocks, training_blocks=0, root=artifacts, report=report
        )
        scores = measure_importance(
            _load(directory, threads),
            blocks.calibration_NT,
            calibration,
            fingerprint=fingerprint(directory),
            report=report,
        )
        scores.save(output)
    typer.echo(f"{output}: scores of {scores.architecture.name} from {blocks.calibration_NT.size:,} tokens")


@app.command()
def prune(
    *,
    parent: Checkpoint,
    scores: Annotated[
        Path,
        typer.Option(help="What `minitron importance` wrote for this parent.", exists=True, dir_okay=False),
    ],
    output: NewDirectory,
    layers: Annotated[int | None, typer.Option(help="Layers to keep.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden size to keep.")] = None,
    intermediate: Annotated[int | None, typer.Option(help="MLP neurons to keep in each layer.")] = None,
    heads: Annotated[int | None, typer.Option(help="Query heads to keep in each layer.")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="KV heads to keep or pool to in each layer.")] = None,
    pool_kv_heads: Annotated[bool, typer.Option("--pool-kv-heads", help="Pool them, drop none.")] = False,
    head_merge: Annotated[
        bool, typer.Option("--head-merge", help="Fold dropped heads into kept ones.")
    ] = False,
    norm_rescaling: Annotated[bool, typer.Option("--norm-rescaling", help="Keep the size of norms.")] = False,
    artifacts: Artifacts = _ARTIFACTS,
) -> None:
    """Cut a parent down to a smaller architecture, keeping what matters most."""
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.importance import ImportanceScores
    from minitron.plan import plan_pruning
    from minitron.prune import prune as prune_model

    _check_new(output)
    how: KvHeads = "mean" if pool_kv_heads else "drop"
    recipe = PruningRecipe(head_merge=head_merge, norm_rescaling=norm_rescaling, kv_heads=how)
    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        parent_fingerprint = fingerprint(directory)
        measured = ImportanceScores.load(scores, expected_fingerprint=parent_fingerprint)
        before = parent_architecture(str(directory))
        sizes = {
            "num_layers": layers, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        }  # fmt: skip
        after = resized(before, {name: size for name, size in sizes.items() if size is not None})
        student = prune_model(_load(directory, threads=None), plan_pruning(measured, after, recipe))
        card = model_card(
            title=output.name,
            parent=parent,
            parent_fingerprint=parent_fingerprint,
            before=before,
            after=after,
            recipes={"pruning": recipe},
            losses={},
        )
        _save(student, after, output, companions=directory, card=card, report=report)
    typer.echo(f"{output}: {after.name}, {after.parameter_count:,} of {before.parameter_count:,} parameters")


@app.command()
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
    artifacts: Artifacts = _ARTIFACTS,
) -> None:
    """Retrain a pruned model to answer as its parent does."""
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint, tokenizer_fingerprint
    from minitron.data import prepare_blocks
    from minitron.device import pick_device
    from minitron.evaluate import held_out_loss
    from minitron.train import Retraining

    _check_new(output)
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
        parent, model = _load(directory, threads), _load(student, threads)
        losses = {
            "parent": held_out_loss(parent, blocks.validation_NT, report=report),
            "student before retraining": held_out_loss(model, blocks.validation_NT, report=report),
        }
        answers = _answers(
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
        _save(model, after, output, companions=directory, card=card, report=report)
    for name, loss in losses.items():
        typer.echo(f"{name}: {loss:.4f} nats per token")


@app.command()
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
    artifacts: Artifacts = _ARTIFACTS,
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
        loss = held_out_loss(_load(directory, threads), blocks.validation_NT, report=report)
    bits_per_byte = loss * blocks.validation_NT.size / blocks.validation_bytes / math.log(2)
    typer.echo(f"{checkpoint}: {loss:.4f} nats per token, {bits_per_byte:.4f} bits per byte")


def main() -> None:
    """Run the script; a user's mistake is one line on standard error and exit code 1."""
    try:
        app()
    except MinitronError as error:
        reason = str(error)
    except ImportError:
        lacking = extras.missing(extras.LIBRARY)
        if not lacking:
            raise
        names = ", ".join(lacking)
        reason = f"this command needs {names}, which this Python lacks: pip install '{extras.EXTRA}'"
    typer.echo(f"error: {reason}", err=True)
    sys.exit(1)


def _check_new(output: Path) -> None:
    """Refuse to overwrite before any work is done."""
    if output.exists():
        raise InvalidRecipe("--output", f"found {output}, allowed: a path where nothing is yet")


def _load(directory: Path, threads: int | None) -> "PreTrainedModel":
    """Load a model onto the device and set how many threads compute it."""
    import torch

    from minitron.checkpoint import load_parent
    from minitron.device import SMALL_MODEL_PARAMETERS, pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    elif parent_architecture(str(directory)).parameter_count < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    model = load_parent(directory)
    model.to(pick_device())  # type: ignore[arg-type]  # the stub loses self
    return model


def _answers(
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
    from minitron.assemble import output_head
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
    return open_teacher_cache(directory, expected_fingerprint=key, head=output_head(parent))


def _save(
    student: "PreTrainedModel",
    architecture: Architecture,
    output: Path,
    *,
    companions: Path,
    card: str,
    report: Report,
) -> None:
    """Write a student and prove that it reloads as it is."""
    from minitron.checkpoint import save_checkpoint
    from minitron.verify import verify_reload

    save_checkpoint(student, output, companions=companions, card=card)
    report(Progress(stage="reloading in a fresh process"))
    verify_reload(output, student, expected_parameters=architecture.parameter_count)
