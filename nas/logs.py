"""The logs of workers: one file for each search, which its worker process prints into.

They lie on the machine of the worker, so a failure takes the end of its log along into the store.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

FAILURE_LINES = 40
"""Of the log, at most, that a failure takes along."""
FAILURE_BYTES = 16_384
MAX_BYTES = 1 << 20
"""Of a log, at most, that is read at once, however long its lines are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTail:
    """The end of a log."""

    source: Literal["file", "failure"]
    """The file itself, or what the search's failure took along of it."""
    lines: tuple[str, ...]
    is_whole: bool
    """Whether nothing comes before."""
    updated_at: datetime | None
    """When the last line was written, as far as is known."""


def log_path(directory: Path, search_id: str) -> Path:
    """Return the log of a search's worker."""
    return directory / f"{search_id}.log"


def read_tail(path: Path, num_lines: int, *, max_bytes: int = MAX_BYTES) -> LogTail:
    """Return at most so many lines and bytes of the end of a log; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        begin = max(0, status.st_size - max_bytes)
        file.seek(begin)
        lines = file.read(max_bytes).decode(errors="replace").splitlines()
    if begin and len(lines) > 1:
        del lines[0]  # begins in the middle
    return LogTail(
        source="file",
        lines=tuple(lines[-num_lines:]),
        is_whole=not begin and len(lines) <= num_lines,
        updated_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def stored_tail(text: str, num_lines: int, at: datetime | None) -> LogTail:
    """Return the end of what a failure took along."""
    lines: Sequence[str] = text.splitlines()
    return LogTail(source="failure", lines=tuple(lines[-num_lines:]), is_whole=False, updated_at=at)


def tail_for_failure(path: Path, printed_to: TextIO | None = None) -> str | None:
    """Return what a failure takes along of a log; None without one.

    Args:
        path: The log.
        printed_to: Where this process prints; a log that it does not print into is another's.
    """
    try:
        if printed_to and not os.path.samestat(os.fstat(printed_to.fileno()), path.stat()):
            return None
        return "\n".join(read_tail(path, FAILURE_LINES, max_bytes=FAILURE_BYTES).lines)
    except OSError:
        return None
