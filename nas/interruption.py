"""Ctrl-C where it cannot be lost."""

import signal
from types import FrameType
from typing import Self


class Interruption:
    """Within, the first Ctrl-C or SIGTERM waits until it is looked for; the second is raised at once.

    Raised wherever the program happens to be, it can be lost: pydantic's core drops it while it builds a schema.
    """

    def __init__(self) -> None:
        self._has_come = False
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def check(self) -> None:
        """Raise KeyboardInterrupt if it has come."""
        if self._has_come:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        for number in self._handlers:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self.check()
        self._has_come = True
