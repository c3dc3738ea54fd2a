"""The command ``minitron align``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from minitron import extras
from minitron.card import model_card
from minitron.cli_options import NewDirectory, Threads, check_new, load_model, own_files, save_student
from minitron.console import console_progress
from minitron.conversations import Chat, Pair, held_out, read_chats, read_pairs
from minitron.errors import InvalidRecipe
from minitron.families import num_positions
from minitron.parents import check_parent, read_config
from minitron.stage_recipes import AlignmentRecipe

_SFT = AlignmentRecipe(learning_rate=2e-5)
_DPO = AlignmentRecipe(learning_rate=1e-6)


def align(
    *,
    student: Annotated[Path, typer.Argument(help="Checkpoint directory of a student with a chat template.")],
    output: NewDirectory,
    sft: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with messages: supervised fine-tuning.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    dpo: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with prompt, chosen and rejected: preference optimisation, after --sft if both are "
            "given.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    sft_learning_rate: Annotated[float, typer.Option(help="Peak of its schedule.")] = _SFT.learning_rate,
    dpo_learning_rate: Annotated[float, typer.Option(help="Peak of its schedule.")] = _DPO.learning_rate,
    beta: Annotated[float, typer.Option(help="How near --dpo holds the student to what it was.")] = _DPO.beta,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = _SFT.num_epochs,
    batch_size: Annotated[int, typer.Option(help="Rows of an optimiser step.")] = _SFT.batch_size,
    max_length: Annotated[int, typer.Option(help="Tokens of a row, the rest is cut.")] = _SFT.max_length,
    validation_share: Annotated[
        float, typer.Option(help="Of the rows, held out to measure on.", min=0.0, max=1.0)
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Shuffles the rows.")] = _SFT.seed,
    threads: Threads = None,
) -> None:
    """Align a student: supervised fine-tuning on chats, preference optimisation (DPO) on pairs, or both in turn."""
    check_new(output)
    if sft is None and dpo is None:
        raise InvalidRecipe("--sft, --dpo", "found neither, allowed: at least one file")
    extras.require(extras.ALIGN, extras.EXTRA_ALIGN, field="align")
    common = {"num_epochs": epochs, "batch_size": batch_size, "max_length": max_length, "seed": seed}
    recipes = {
        **({"sft": AlignmentRecipe(learning_rate=sft_learning_rate, **common)} if sft else {}),  # type: ignore[arg-type]
        **({"dpo": AlignmentRecipe(learning_rate=dpo_learning_rate, beta=beta, **common)} if dpo else {}),  # type: ignore[arg-type]
    }
    architecture, positions = check_parent(str(student)), num_positions(read_config(str(student)))
    chats = held_out(read_chats(sft), validation_share, where=sft) if sft else None
    pairs = held_out(read_pairs(dpo), validation_share, where=dpo) if dpo else None
    from minitron.align import answer_loss, fine_tune, optimize_preferences, preference_accuracy, require_fit
    from minitron.checkpoint import fingerprint, load_tokenizer, require_chat_template

    measured: dict[str, tuple[float, float]] = {}
    with console_progress() as report:
        tokenizer = load_tokenizer(student)
        require_chat_template(tokenizer, field="student")
        rows = {"sft": chats, "dpo": pairs and (_answered(pairs[0]), _answered(pairs[1]))}
        for name, recipe in recipes.items():
            taught, measured_on = rows[name] or ([], [])
            require_fit(tokenizer, taught, measured_on, recipe, positions=positions)
        model = load_model(student, threads)
        if chats:
            training, held = chats
            before = answer_loss(model, tokenizer, held)
            fine_tune(model, tokenizer, training, recipes["sft"], report)
            measured["held-out answers, nats per token"] = before, answer_loss(model, tokenizer, held)
        if pairs:
            preferences, held_pairs = pairs
            before = preference_accuracy(model, tokenizer, held_pairs)
            optimize_preferences(model, tokenizer, preferences, recipes["dpo"], report)
            after = preference_accuracy(model, tokenizer, held_pairs)
            measured["held-out pairs, share with the chosen answer likelier"] = before, after
        card = model_card(
            title=output.name,
            parent=str(student),
            parent_fingerprint=fingerprint(student),
            before=architecture,
            after=architecture,
            summary=f"aligned by {' and then '.join(_METHODS[name] for name in recipes)}; not pruned further.",
            recipes=recipes,
            losses={},
            origin={name: f"{before:.4f} -> {after:.4f}" for name, (before, after) in measured.items()},
        )
        save_student(
            model, architecture, output,
            companions=student, card=card, report=report, others=own_files(student),
        )  # fmt: skip
    for name, (before, after) in measured.items():
        typer.echo(f"{name}: {before:.4f} -> {after:.4f}")


def _answered(pairs: Sequence[Pair]) -> list[Chat]:
    """Return both chats of each pair."""
    return [
        Chat(prompt=pair.prompt, answer=answer) for pair in pairs for answer in (pair.chosen, pair.rejected)
    ]


_METHODS = {"sft": "supervised fine-tuning", "dpo": "direct preference optimisation"}
