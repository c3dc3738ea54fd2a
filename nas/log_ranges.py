"""Logs by ranges of bytes: of a search's worker, and of each attempt of a trial. Knows no HTTP.

A reader asks from where the range before ended, while the log grows and after it has ended.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from nas.errors import LogUnavailable, NotFound
from nas.layout import attempt_log
from nas.logs import log_path
from nas.storage.store import SearchStore

DEFAULT_BYTES = 1 << 16
MAX_BYTES = 1 << 20
"""Of a range."""
MAX_OFFSET = 1 << 53
_CHARACTER = 4
"""Bytes of the longest character in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """A part of a log."""

    text: str
    """Whole lines, unless one is longer than the range, or the last is still being written."""
    offset: int
    """In bytes; the first of ``text``."""
    next_offset: int
    """The first after it: where the next range begins."""
    total_bytes: int
    """Of the log by now."""


def read_range(path: Path, offset: int, limit: int) -> LogRange:
    """Return at most so many bytes of a log; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        file.seek(min(offset, total))
        data = file.read(min(limit, MAX_BYTES))
    begin = min(offset, total)
    if begin + len(data) < total and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    else:
        data = data[: len(data) - _num_cut(data)]
    return LogRange(
        text=data.decode(errors="replace"), offset=begin, next_offset=begin + len(data), total_bytes=total
    )


def _num_cut(data: bytes) -> int:
    """Return how many bytes at the end begin a character that ends behind it; none where nothing else is there."""
    for length in range(1, min(_CHARACTER, len(data))):
        lead = data[-length]
        if lead >= 0xC0:
            needed = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return length if length < needed else 0
        if lead < 0x80:
            return 0
    return 0


class LogRanges:
    """The use cases. Unknown ids raise NotFound, logs that are not to be had here LogUnavailable.

    Args:
        store: Knows which attempts there were.
        artifact_root: Below it lie the logs of attempts.
        logs: The directory of the logs of workers; None where they are elsewhere.
    """

    def __init__(self, store: SearchStore, *, artifact_root: Path, logs: Path | None) -> None:
        self._store = store
        self._artifact_root = artifact_root
        self._logs = logs

    def of_attempt(
        self, search_id: str, trial_number: int, number: int, *, offset: int = 0, limit: int = DEFAULT_BYTES
    ) -> LogRange:
        """Return a part of what one attempt of a trial logged and printed."""
        search = self._store.get_search(search_id)
        path = attempt_log(self._artifact_root, search.id, trial_number, number)
        try:
            return read_range(path, offset, limit)
        except OSError as error:
            what = f"search {search_id}: trial {trial_number}: attempt {number}"
            found = {(each.trial_number, each.number) for each in self._store.attempts(search_id)}
            if (trial_number, number) not in found:
                raise NotFound(f"{what}: not found") from None
            raise LogUnavailable(f"log: {what}: {path}: {error.strerror}") from error

    def of_search(self, search_id: str, *, offset: int = 0, limit: int = DEFAULT_BYTES) -> LogRange:
        """Return a part of what the workers of a search printed, all attempts one after another."""
        search = self._store.get_search(search_id)
        where = f"below NAS_HOME/logs where its worker runs, as {search_id}.log"
        if self._logs is None:
            raise LogUnavailable(f"log: search {search_id}: to be found {where}")
        path = log_path(self._logs, search.id)
        try:
            return read_range(path, offset, limit)
        except OSError as error:
            raise LogUnavailable(f"log: search {search_id}: {path}: {error.strerror}; {where}") from error
