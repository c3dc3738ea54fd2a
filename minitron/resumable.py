"""A training run to its end, which goes on where an interrupted one stopped; the result is the same to the bit.

Knows neither teachers nor students; ``minitron.train`` does the work.
"""

import shutil
import time
from pathlib import Path

from minitron.progress import Progress, Report
from minitron.train import STATE_FILE, Retraining

SLICE_SECONDS = 1.0
"""Of training between two reports."""
SAVE_SECONDS = 60.0
"""Between two resumable states; an interruption costs at most so much."""


def train_through(
    retraining: Retraining,
    *,
    total: int,
    stage: str,
    state: Path,
    report: Report,
    save_seconds: float = SAVE_SECONDS,
) -> None:
    """Train to ``total`` tokens, from what an interrupted call left in ``state``, if there is anything.

    ``state`` is the caller's to remove, by ``forget``, once the result is safe.

    Raises:
        ArtifactMismatch: ``state`` is of another model, other data or another recipe.
        DivergedTraining: A loss or a gradient is not finite.
        OutOfSpace: The disk is full.
    """
    take_up(retraining, state)
    train_on(retraining, total=total, stage=stage, state=state, report=report, save_seconds=save_seconds)


def take_up(retraining: Retraining, state: Path) -> None:
    """Go on from what an interrupted training left in ``state``, if there is anything.

    Raises:
        ArtifactMismatch: It is of another model, other data or another recipe.
    """
    if (state / STATE_FILE).is_file():
        retraining.load(state)


def train_on(
    retraining: Retraining,
    *,
    total: int,
    stage: str,
    state: Path,
    report: Report,
    save_seconds: float = SAVE_SECONDS,
    goal: int | None = None,
) -> None:
    """Train to ``total`` tokens from where ``retraining`` is, and leave resumable states in ``state``.

    ``goal`` is told as the end where ``total`` is only on the way to it.

    Raises:
        DivergedTraining, OutOfSpace: As ``train_through``.
    """
    saved_at = time.monotonic()
    while retraining.num_tokens < total:
        retraining.advance(total, max_seconds=min(SLICE_SECONDS, save_seconds))
        if time.monotonic() - saved_at >= save_seconds and retraining.num_tokens < total:
            retraining.save(state)
            saved_at = time.monotonic()
        report(Progress(stage=stage, done=retraining.num_tokens, total=goal or total, unit="tokens"))


def forget(state: Path) -> None:
    """Remove what an interrupted training would go on from."""
    shutil.rmtree(state, ignore_errors=True)
