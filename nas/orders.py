"""What people want of a search once it is submitted: given at any time, kept beside the spec, obeyed by its runner.

Values only. People write them and a runner reads them, at each beat, and never writes them: a runner that was killed
finds them again. What an order makes of a search is decided in ``nas.storage.ordered``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minitron.architecture import Architecture
from nas.promotion import Promoted, Promotion

MAX_ENQUEUED = 100
"""Architectures at a time that are enqueued and not tried yet."""
MAX_PROMOTED = 100
"""Promotions that may be ordered of one search."""
EXTENDABLE = ("num_trials", "max_tokens", "max_parallel")
"""Fields of a spec that may be changed later: none of them changes what a trial is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """An architecture that a person wants tried before the next proposal."""

    architecture: Architecture
    by: str = ""
    """Who wants that; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """All that is ordered of a search by now."""

    is_paused: bool = False
    is_killed: bool = False
    """Whether it was ended without waiting for what ran."""
    killed_by: str = ""
    """Who ended it so; empty: not known."""
    num_trials: int | None = None
    """This and the next two in place of the spec's, which stays as it was asked."""
    max_tokens: int | None = None
    max_parallel: int | None = None
    enqueued: tuple[Enqueued, ...] = ()
    """In the order to be tried; those that were tried since are dropped when others are added."""
    stopped: tuple[int, ...] = ()
    """Numbers of trials to be ended."""
    promoted: tuple[Promoted, ...] = ()
    """Trials to be promoted beside those that the spec promotes."""

    @property
    def limits(self) -> Mapping[str, Any]:
        """The fields of the spec that have another value by now."""
        values = {name: getattr(self, name) for name in EXTENDABLE}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the search in order: trials that run end at their next report, a moment later if they hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End the search now, whatever its workers do: nobody is waited for, and what they still report is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Give everything back that runs, to go on later as if nothing had been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Queue a paused search again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Other limits than the spec's; None leaves one as it is."""

    num_trials: int | None = None
    max_tokens: int | None = None
    max_parallel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """Try an architecture of the space before the next proposal."""

    architecture: Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTrial:
    """End one trial; the search goes on without it."""

    trial_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Retrain the student of a completed trial for longer; a search that had ended is queued again for that."""

    trial_number: int
    promotion: Promotion | None = None
    """How; None: as the spec says, which must say so then. How many are the best is of no account here."""


Order = Cancel | Kill | Pause | Resume | Extend | Enqueue | StopTrial | Promote

NAMES: Mapping[type, str] = {
    Cancel: "cancel",
    Kill: "kill",
    Pause: "pause",
    Resume: "resume",
    Extend: "extend",
    Enqueue: "enqueue",
    StopTrial: "stop_trial",
    Promote: "promote",
}
"""What events call orders."""
