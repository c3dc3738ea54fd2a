"""Options that several commands of ``minitron`` take, and what several do first and last. Loads no model framework."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minitron.architecture import Architecture
from minitron.card import PLAN_FILE
from minitron.errors import InvalidRecipe
from minitron.parents import FORMS, SMOLLM2, TINY, parent_architecture
from minitron.progress import Progress, Report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ARTIFACTS = Path(".nas/artifacts")
CARD = "README.md"

Checkpoint = Annotated[str, typer.Argument(help=f"{TINY}, {SMOLLM2}, {FORMS}.")]
NewDirectory = Annotated[Path, typer.Option("--output", "-o", help="New checkpoint directory.")]
Artifacts = Annotated[Path, typer.Option(help="Where parents, token blocks and answers are kept.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Of the CPU; by default 1 for small models, else all.", show_default=False),
]


def check_new(output: Path) -> None:
    """Refuse before any work is done to overwrite, or to write where nothing can be written."""
    if output.exists():
        raise InvalidRecipe("--output", f"found {output}, allowed: a path where nothing is yet")
    check_place(output)


def check_place(output: Path) -> None:
    """Refuse before any work is done to write where nothing can be written."""
    above = next(path for path in output.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InvalidRecipe(
            "--output", f"found {output} below {above}, allowed: below a directory that can be written to"
        )


def load_model(directory: Path, threads: int | None) -> "PreTrainedModel":
    """Load a model onto the device and set how many threads compute it."""
    from minitron.checkpoint import load_parent
    from minitron.device import pick_device

    set_threads(directory, threads)
    return load_parent(directory, device=pick_device())


def set_threads(directory: Path, threads: int | None) -> None:
    """Set how many threads compute the model of a checkpoint directory."""
    import torch

    from minitron.device import SMALL_MODEL_PARAMETERS

    if threads is not None:
        torch.set_num_threads(threads)
    elif parent_architecture(str(directory)).parameter_count < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)


def own_files(student: Path) -> dict[str, str]:
    """Return what tells how a student was made, for what is made of it: its card, as ``STUDENT.md``, and its plan."""
    return {
        name: (student / source).read_text(encoding="utf-8")
        for name, source in {"STUDENT.md": CARD, PLAN_FILE: PLAN_FILE}.items()
        if (student / source).is_file()
    }


def save_student(
    student: "PreTrainedModel",
    architecture: Architecture,
    output: Path,
    *,
    companions: Path,
    card: str,
    report: Report,
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a student, with ``others``, texts by file name, and prove that it reloads as it is."""
    from minitron.checkpoint import save_checkpoint
    from minitron.verify import verify_reload

    save_checkpoint(student, output, companions=companions, card=card, others=others)
    report(Progress(stage="reloading in a fresh process"))
    verify_reload(output, student, expected_parameters=architecture.parameter_count)
