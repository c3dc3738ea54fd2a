"""The command ``minitron evaluate``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minitron import extras
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
from minitron.errors import InvalidRecipe
from minitron.parents import check_parent, check_sequence_length, parent_architecture
from minitron.stage_recipes import EvaluationRecipe, TaskScore

if TYPE_CHECKING:
    from minitron.evaluate import HeldOut

# The defaults of the options are those of the recipe.
_TASKS = EvaluationRecipe()


def evaluate(
    *,
    checkpoint: Checkpoint,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            help="Tasks of the lm-evaluation-harness, with commas between or given several times; needs the extra "
            "[eval].",
            show_default=False,
        ),
    ] = None,
    task_path: Annotated[
        Path | None,
        typer.Option(
            help="Directory of further tasks, as YAML files.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples before a question; by default as each task says.")
    ] = _TASKS.num_fewshot,
    limit: Annotated[int | None, typer.Option(help="Questions of each task; by default all.")] = _TASKS.limit,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask through the chat template, for instruct models.")
    ] = _TASKS.chat,
    batch_size: Annotated[int, typer.Option(help="Questions' rows per forward pass.")] = _TASKS.batch_size,
    loss: Annotated[bool, typer.Option(help="Measure the held-out loss.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Sources = DEFAULT_SOURCES,
    validation: Validation = None,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    validation_tokens: ValidationTokens = DATA.validation_tokens,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Measure the held-out loss of a checkpoint, and its scores at tasks."""
    asked = EvaluationRecipe(
        tasks=tuple(name.strip() for each in tasks or () for name in each.split(",")),
        task_path=None if task_path is None else str(task_path.resolve()),
        num_fewshot=num_fewshot,
        limit=limit,
        chat=chat,
        batch_size=batch_size,
    )
    if not asked.tasks and (not loss or asked != EvaluationRecipe()):
        raise InvalidRecipe(
            "--tasks", "found none, allowed with options of tasks, or with --no-loss: at least one"
        )
    if asked.tasks:
        extras.require(extras.EVAL, extras.EXTRA_EVAL, field="--tasks")
    recipe = data_recipe(
        data, validation, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=validation_tokens, seed=seed,
    )  # fmt: skip
    check_sequence_length(checkpoint, sequence_length)
    check_parent(checkpoint)
    from minitron.builtin import materialize
    from minitron.checkpoint import load_tokenizer, require_chat_template
    from minitron.data import prepare_blocks
    from minitron.evaluate import HeldOut, held_out_loss

    held_out: HeldOut | None = None
    scores: Sequence[TaskScore] = ()
    with console_progress() as report:
        directory = materialize(checkpoint, artifacts, report)
        if asked.tasks:
            from minitron.tasks import Tasks

            tokenizer = load_tokenizer(directory)
            if chat:
                require_chat_template(tokenizer, field="--chat")
            found = Tasks(asked, report)
        if loss:
            blocks = prepare_blocks(
                recipe, directory, calibration_blocks=0, training_blocks=0, root=artifacts, report=report
            )
        model = load_model(directory, threads)
        if loss:
            held_out = HeldOut(
                nats_per_token=held_out_loss(model, blocks.validation_NT, report=report),
                num_tokens=int(blocks.validation_NT.size),
                num_bytes=blocks.validation_bytes,
            )
        if asked.tasks:
            scores = found.put_to(model, tokenizer, report)
    if as_json:
        parameters = parent_architecture(str(directory)).parameter_count
        typer.echo(json.dumps(_document(checkpoint, parameters, held_out, scores), indent=1))
    else:
        _print(checkpoint, held_out, scores)


def _document(
    checkpoint: str, parameters: int, held_out: "HeldOut | None", scores: Sequence[TaskScore]
) -> dict[str, Any]:
    """Return all that was measured, as JSON."""
    losses = held_out and {
        "nats_per_token": held_out.nats_per_token,
        "bits_per_byte": held_out.bits_per_byte,
        "perplexity": held_out.perplexity,
        "num_tokens": held_out.num_tokens,
        "num_bytes": held_out.num_bytes,
    }
    return {
        "checkpoint": checkpoint,
        "num_parameters": parameters,
        "held_out": losses,
        "scores": [asdict(score) for score in scores],
    }


def _print(checkpoint: str, held_out: "HeldOut | None", scores: Sequence[TaskScore]) -> None:
    from rich.console import Console
    from rich.table import Table

    if held_out:
        typer.echo(
            f"{checkpoint}: {held_out.nats_per_token:.4f} nats per token, "
            f"{held_out.bits_per_byte:.4f} bits per byte, perplexity {held_out.perplexity:.4f}"
        )
    if scores:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("task", "metric"):
            table.add_column(column, no_wrap=True)
        for column in ("score", "standard error", "questions", "examples shown"):
            table.add_column(column, justify="right", no_wrap=True)
        for score in scores:
            table.add_row(
                score.task,
                score.metric if score.higher_is_better else f"{score.metric} (lower is better)",
                f"{score.value:.4f}",
                "" if score.stderr is None else f"{score.stderr:.4f}",
                f"{score.num_samples:,}",
                str(score.num_fewshot),
            )
        Console(highlight=False, markup=False, emoji=False).print(table)
