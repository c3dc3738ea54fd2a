"""How progress looks: bars in a terminal, lines in a log. Free of torch.

Writes to standard error, so that results on standard output can be piped.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from minitron.progress import Progress, Report

SECONDS_BETWEEN_LINES = 10.0
"""Between two lines of one stage in a log."""


@contextmanager
def console_progress() -> Iterator[Report]:
    """Give a ``Report`` that shows what it is told until the end of the block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield ShowLines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield ShowBars(bars)


def line(progress: Progress) -> str:
    """Return a progress in words."""
    if progress.is_cached:
        return f"{progress.stage}: found from earlier work"
    if not progress.total:
        return progress.stage
    share = progress.done / progress.total
    return f"{progress.stage}: {progress.done:,} of {progress.total:,} {progress.unit} ({share:.0%})"


class ShowLines:
    """A line when a stage begins, at its end, and every few seconds between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._next_at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_last = progress.total > 0 and progress.done >= progress.total
        if progress.stage == self._stage and now < self._next_at and not is_last:
            return
        self._stage, self._next_at = progress.stage, now + SECONDS_BETWEEN_LINES
        self._console.print(line(progress), highlight=False, soft_wrap=True, markup=False)


class ShowBars:
    """A bar for each stage; a stage without a total pulses until the next begins."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.is_cached:
            self._bars.console.print(line(progress), highlight=False, markup=False)
            return
        if progress.stage != self._stage or self._task is None:
            self._stage = progress.stage
            self._task = self._bars.add_task(progress.stage, total=None, unit=progress.unit)
        self._bars.update(self._task, completed=progress.done, total=progress.total or None)
