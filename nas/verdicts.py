"""What a driver answers to whoever runs its trials, and how it is told of the end of an execution."""

from dataclasses import dataclass
from enum import Enum

from nas.trial import Failure, Measurement


class Next(Enum):
    """Answers of ``next_trial`` that are no trial."""

    WAIT = "WAIT"
    """Nothing to run until a running trial reports; ask again then."""
    DONE = "DONE"
    """Nothing will be run any more; end what still runs."""


class Verdict(Enum):
    """What a running trial does next. After the latter two its execution ends without an ``on_end``."""

    CONTINUE = "CONTINUE"
    WAIT_AT_RUNG = "WAIT_AT_RUNG"
    """The trial is handed out again if it advances, or once its paused search is resumed."""
    STOP = "STOP"
    """The trial is final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The trial has reached the last rung."""

    measurement: Measurement
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The execution ended early."""

    failure: Failure
