"""One architecture on trial: its states, the points on its way and what became of it.

Values only: a change is a new value, made by the methods of ``Trial``, which allow legal moves only.
Times are aware UTC.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from minitron.architecture import Architecture
from nas.errors import FinalTrialChanged
from nas.promotion import Promotion


class TrialState(StrEnum):
    """PROPOSED -> RUNNING -> WAITING -> RUNNING ... -> one of the four final states."""

    PROPOSED = "PROPOSED"
    """Not begun yet, or to be gone on with once its paused search is resumed."""
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    """At a rung, with a checkpoint; resumable, not final."""
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    """Compared at a rung and not advanced."""
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Ended by people: it, or its search. Never compared, so it is no verdict on its architecture."""

    @property
    def is_final(self) -> bool:
        """Whether a trial in this state never changes again."""
        return self in {TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED, TrialState.CANCELLED}


class TrialRole(StrEnum):
    """Why a trial is run. Only SEARCH trials are proposed from and stopped at rungs; the best one wins, unless students
    were promoted.
    """

    SEARCH = "SEARCH"
    RANDOM_ARCHITECTURE = "RANDOM_ARCHITECTURE"
    """Baseline: an architecture drawn evenly from the space, retrained to the last rung."""
    RANDOM_INDICES = "RANDOM_INDICES"
    """Baseline: the winner's architecture with randomly kept indices, retrained to the last rung."""
    PROMOTION = "PROMOTION"
    """The student of another trial, retrained for longer by a recipe of its own."""

    @property
    def tells_of_architecture(self) -> bool:
        """Whether its loss compares with the search's own: by the same recipe, of the indices that importance keeps."""
        return self in {TrialRole.SEARCH, TrialRole.RANDOM_ARCHITECTURE}


class FailureKind(StrEnum):
    """What ended a trial or a search early."""

    ERROR = "ERROR"
    """The code raised; the traceback is in the message's detail."""
    NON_FINITE = "NON_FINITE"
    """A loss or gradient became NaN or infinite."""
    OUT_OF_SPACE = "OUT_OF_SPACE"
    WORKER_LOST = "WORKER_LOST"
    """The worker process died; retried from the last checkpoint up to ``max_attempts``."""
    UNFIT_NODE = "UNFIT_NODE"
    """The node may run no trial, and is used no more; the trial goes to another, at no cost of attempts."""

    UNREACHABLE = "UNREACHABLE"
    """Something outside does not answer, such as the hub; the search waits and is taken up again."""

    @property
    def is_retryable(self) -> bool:
        """Whether another attempt may succeed."""
        return self in {FailureKind.WORKER_LOST, FailureKind.UNFIT_NODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a trial or search ended: one line for people, traceback and log for engineers."""

    kind: FailureKind
    message: str
    traceback: str | None = None
    log_tail: str | None = None
    """What the worker had printed last; None where it printed into no log."""


RUNNER_LOST = Failure(kind=FailureKind.WORKER_LOST, message="the search's runner was lost")
"""Of attempts that nobody had ended when it was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The held-out loss after ``num_tokens`` of retraining; 0 tokens is the pruned model itself."""

    num_tokens: int
    loss: float
    """Nats per held-out token."""
    train_loss: float | None = None
    """Mean distillation loss since the point before; None at 0 tokens."""
    seconds: float = 0.0
    """Seconds of training since the point before, evaluation excluded."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The final numbers of a trial."""

    num_tokens: int
    loss: float
    """Nats per held-out token."""
    loss_before_retraining: float
    """Of the student that this training began from."""
    num_parameters: int
    """Counted on the real student."""
    train_seconds: float
    peak_memory_bytes: int | None = None
    """Of the accelerator, since its worker last took the trial up; None on a CPU."""
    shard_losses: tuple[float, ...] = ()
    """Of a promotion: the loss on each of the equal shards of the held-out tokens, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The trial, of this search or another, that measured something."""

    search_id: str
    trial_number: int

    def __str__(self) -> str:
        return f"search {self.search_id}, trial {self.trial_number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of a trial by one worker, from dispatch to rung, end or loss."""

    search_id: str
    trial_number: int
    number: int
    """1-based within its trial."""
    worker: str
    """Host and process id."""
    started_at: datetime
    ended_at: datetime | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One architecture on trial. Moves only through its own methods, each a new Trial."""

    search_id: str
    number: int
    """0-based within its search; with the search's seed it fixes the proposal."""
    architecture: Architecture
    role: TrialRole = TrialRole.SEARCH
    state: TrialState = TrialState.PROPOSED
    rung: int = 0
    """Index of the rung that this trial trains towards or waits at."""
    num_attempts: int = 0
    measurement: Measurement | None = None
    failure: Failure | None = None
    checkpoint: str | None = None
    """Path of the student below the artifact root, once there is one."""
    enqueued_by: str | None = None
    """Who wanted this architecture tried, empty where that is not known; None: it was proposed by the search."""
    kept_layers: tuple[int, ...] | None = None
    """Of the parent, ascending from 0; None until a worker has pruned it."""
    reused_from: Origin | None = None
    """The trial whose measurement and student stand for this one's, which was never run; None: it was run itself."""
    promoted_from: int | None = None
    """Of a promotion: the number of the trial of the same search whose student is retrained."""
    promotion: Promotion | None = None
    """Of a promotion: how."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def own_processes(self) -> int | None:
        """By how many processes it is trained, where its promotion says so; None: by as many as its search's trials."""
        resources = self.promotion.resources if self.promotion else None
        return resources.processes if resources else None

    @property
    def saved_tokens(self) -> int:
        """Tokens that it was not trained on, since another trial had been."""
        return self.measurement.num_tokens if self.reused_from and self.measurement else 0

    def _moved(self, allowed: Iterable[TrialState], **changes: object) -> "Trial":
        if self.state.is_final:
            raise FinalTrialChanged(f"trial {self.number}: {self.state} is final and cannot change")
        assert self.state in allowed, f"trial {self.number}: illegal move from {self.state}"
        return replace(self, **changes)  # type: ignore[arg-type]

    def started(self, at: datetime) -> "Trial":
        """A worker begins or resumes this trial."""
        return self._moved(
            (TrialState.PROPOSED, TrialState.WAITING, TrialState.RUNNING),
            state=TrialState.RUNNING,
            num_attempts=self.num_attempts + 1,
            started_at=self.started_at or at,
        )

    def reused(self, earlier: "Trial", *, rung: int, at: datetime) -> "Trial":
        """A trial of the same by another search has reached the last rung, ``rung``; this one need not be run."""
        assert earlier.state is TrialState.COMPLETED, f"trial {earlier.number}: {earlier.state}"
        return self._moved(
            (TrialState.PROPOSED,),
            state=TrialState.COMPLETED,
            rung=rung,
            measurement=earlier.measurement,
            checkpoint=earlier.checkpoint,
            kept_layers=earlier.kept_layers,
            reused_from=Origin(search_id=earlier.search_id, trial_number=earlier.number),
            finished_at=at,
        )

    def interrupted(self) -> "Trial":
        """Its execution was ended, to be gone on with later."""
        return self._moved((TrialState.RUNNING,), state=TrialState.PROPOSED)

    def pruned(self, kept_layers: tuple[int, ...]) -> "Trial":
        """The worker has made the student of these layers of the parent."""
        assert len(kept_layers) == self.architecture.num_layers, f"trial {self.number}: {kept_layers}"
        return self._moved((TrialState.RUNNING,), kept_layers=kept_layers)

    def saved(self, checkpoint: str) -> "Trial":
        """The worker has written a student that the trial can go on from."""
        return self._moved((TrialState.RUNNING,), checkpoint=checkpoint)

    def parked(self) -> "Trial":
        """The trial has reached its rung and waits there to be compared, with what it saved there if it has trained."""
        return self._moved((TrialState.PROPOSED, TrialState.RUNNING), state=TrialState.WAITING)

    def advanced(self) -> "Trial":
        """The trial may train on to the next rung; a waiting one is started when a worker is free."""
        return self._moved((TrialState.RUNNING, TrialState.WAITING), rung=self.rung + 1)

    def completed(self, measurement: Measurement, checkpoint: str, at: datetime) -> "Trial":
        """The trial has reached the last rung."""
        return self._moved(
            (TrialState.RUNNING,),
            state=TrialState.COMPLETED,
            measurement=measurement,
            checkpoint=checkpoint,
            finished_at=at,
        )

    def stopped(self, at: datetime) -> "Trial":
        """The trial was compared at its rung and does not advance."""
        return self._moved((TrialState.WAITING,), state=TrialState.STOPPED, finished_at=at)

    def failed(self, failure: Failure, at: datetime) -> "Trial":
        """The trial cannot go on."""
        return self._moved(
            (TrialState.PROPOSED, TrialState.RUNNING, TrialState.WAITING),
            state=TrialState.FAILED,
            failure=failure,
            finished_at=at,
        )

    def cancelled(self, at: datetime) -> "Trial":
        """People have ended the trial, or its search."""
        return self._moved(
            (TrialState.PROPOSED, TrialState.RUNNING, TrialState.WAITING),
            state=TrialState.CANCELLED,
            finished_at=at,
        )
