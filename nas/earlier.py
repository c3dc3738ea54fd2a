"""What a search may take from what was measured before it: values of its spec, and what it has taken."""

from dataclasses import dataclass

from minitron.architecture import Architecture
from nas.errors import InvalidSpec
from nas.trial import Origin

MOST_NAMED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryUse:
    """What of earlier searches of the same workspace is used. Only measurements of the same parent ever are."""

    reuse: bool = True
    """Whether a trial that was measured before, with all that decides its result the same, is taken over instead of
    being trained. The result is the same to rounding, at no tokens."""
    warm_start: bool = True
    """Whether proposals begin from what searches with another budget or recipe measured. Never a result: what is
    proposed is trained."""
    warm_start_from: tuple[str, ...] = ()
    """Ids of the searches to begin from; none: whichever there are."""

    def __post_init__(self) -> None:
        if self.warm_start_from and not self.warm_start:
            reason = f"found {len(self.warm_start_from)} searches, allowed with warm_start: false: none"
            raise InvalidSpec((("history.warm_start_from", reason),))
        if len(self.warm_start_from) > MOST_NAMED:
            reason = f"found {len(self.warm_start_from)} searches, allowed: at most {MOST_NAMED}"
            raise InvalidSpec((("history.warm_start_from", reason),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What an earlier trial tells about an architecture of a search's space, before that search has tried any."""

    architecture: Architecture
    """In the space: the nearest to what was measured, where that is outside its budget."""
    loss: float
    """Held-out nats per token as measured there, less what the difference in size is worth there."""
    standing: float | None = None
    """Where recipe or data are others, so that losses do not compare: its rank among those measured like it, from 0,
    the best, to 1. None: its loss compares with the search's own."""
    source: Origin
