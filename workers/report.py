"""What passes between runner and workers; knows neither Ray nor torch, so that both sides load it fast."""

import errno
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minitron.errors import DivergedTraining, OutOfSpace, UnreachableHub
from minitron.loss_version import LOSS_VERSION
from nas.search import Artifacts
from nas.trial import Failure, FailureKind, Measurement, Point, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the students' training, in which a parent that is corrected alongside answers as it was at its start.

    What lies where is made while trials run; whoever needs it waits for it.
    """

    first_block: int
    """In the order of training."""
    end_block: int
    model_dir: Path
    """What answers; there where it answers live or its head is needed, and at the end of the correction."""
    teacher_dir: Path | None
    """Its answers to the blocks of this stage; None asks it live."""
    fingerprint: str
    """Of the answers."""

    @property
    def is_empty(self) -> bool:
        """Whether no student asks in it."""
        return self.first_block == self.end_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Where the artifacts that all trials of a search share lie; absolute paths."""

    parent_dir: Path
    parent_fingerprint: str
    parent_loss: float
    """Held-out nats per token."""
    blocks_dir: Path
    blocks_fingerprint: str
    validation_fingerprint: str
    """Of the held-out blocks alone."""
    scores_path: Path
    scores_fingerprint: str
    teacher_dir: Path | None = None
    """None asks the parent live, or in stages."""
    teacher_fingerprint: str = ""
    stages: tuple[Stage, ...] = ()
    """Of a correction alongside; the last begins where it ends."""
    corrected_dir: Path | None = None
    """The corrected parent, whose answers these are; None: the parent's own."""
    corrected_loss: float | None = None
    """Held-out nats per token of the corrected parent; None too until a correction alongside has ended."""

    @property
    def artifacts(self) -> Artifacts:
        """What trials are made from, by content."""
        return Artifacts(
            parent=self.parent_fingerprint,
            blocks=self.blocks_fingerprint,
            validation=self.validation_fingerprint,
            scores=self.scores_fingerprint,
            teacher=self.teacher_fingerprint,
            loss_version=LOSS_VERSION,
        )

    @property
    def answering_dir(self) -> Path:
        """The checkpoint of the model that answers."""
        return self.corrected_dir or self.parent_dir

    @property
    def paths(self) -> tuple[Path, ...]:
        """What must stay where it lies while the search runs."""
        staged = (path for stage in self.stages for path in (stage.model_dir, stage.teacher_dir))
        made = (
            self.parent_dir, self.blocks_dir, self.scores_path, self.teacher_dir, self.corrected_dir, *staged,
        )  # fmt: skip
        return tuple(path for path in made if path is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """A worker has taken the trial up."""

    worker: str
    """Host and process id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The worker's node may run no trial."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """How far a trial is; a heartbeat when it holds nothing but the tokens."""

    num_tokens: int
    point: Point | None = None
    checkpoint: str | None = None
    """Path below the artifact root: resumable state at a rung, the student when finished."""
    finished: Measurement | None = None
    kept_layers: tuple[int, ...] | None = None
    """Of the parent, told with each point on the way."""


Report = Began | Refused | TrialReport | Failure

Evaluate = Callable[[Trial], Iterator[TrialReport]]
"""Evaluates one trial and reports on the way; the last report is the finished one.

It is closed early when the trial waits at a rung or is stopped.
"""


class LostProcess(Exception):
    """Raised when one of the processes that evaluate a trial together died; another attempt may succeed."""


def failure_of(error: BaseException) -> Failure:
    """Return what is stored and shown of an exception: its kind, one line, and the traceback."""
    full_disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, DivergedTraining):
        kind = FailureKind.NON_FINITE
    elif isinstance(error, UnreachableHub):
        kind = FailureKind.UNREACHABLE
    elif isinstance(error, OutOfSpace) or full_disk:
        kind = FailureKind.OUT_OF_SPACE
    elif isinstance(error, LostProcess):
        kind = FailureKind.WORKER_LOST
    else:
        kind = FailureKind.ERROR
    lines = str(error).splitlines()
    return Failure(
        kind=kind,
        message=f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
    )
