"""How long work tells what it is doing; free of torch."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One stage of long work, for people."""

    stage: str
    """For example "teacher answers"."""
    done: int = 0
    total: int = 0
    """0 when unknown."""
    unit: str = ""
    """What ``done`` and ``total`` count, for example "tokens"."""
    is_cached: bool = False
    """Whether the stage found its result from earlier work."""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Report to nobody."""
