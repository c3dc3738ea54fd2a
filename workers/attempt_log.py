"""The log of one attempt: what its process logs and prints while it evaluates a trial, in a file of its own.

Written where the service sees it, bounded in size, without secrets. Whatever happens to the file, the attempt goes on.
Knows no Ray and no trial.
"""

import faulthandler
import io
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TextIO

from nas import log_lines
from nas.redact import redacted

logger = logging.getLogger(__name__)

MAX_BYTES = 2 * 2**20
RESERVE_BYTES = 2**16
"""Above that, for what went wrong: it comes last and is what one looks for."""
FULL = f"\n... this log has {MAX_BYTES:,} bytes; from here on it holds only what goes wrong\n"


class AttemptLog:
    """Takes what this process logs and prints, from ``open`` to ``close``; both may be called again.

    Args:
        path: The file; what is in it already stays.
        secrets: What is cut out.
    """

    def __init__(self, path: Path, *, secrets: Sequence[str] = ()) -> None:
        self._path = path
        self._secrets = secrets
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._num_bytes = 0
        self._handlers: tuple[logging.Handler, ...] = ()
        self._streams: tuple[TextIO, TextIO] | None = None

    def open(self) -> None:
        """Begin to take what is logged and printed."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            logger.warning("%s: an attempt keeps no log: %s", self._path, error.strerror)
            return
        self._num_bytes = self._file.tell()
        faulthandler.enable(self._file)  # a crash in compiled code leaves where it was
        mine = _Handler(self)
        # Whatever would be printed for want of a handler still is.
        others = () if logging.root.handlers or logging.lastResort is None else (logging.lastResort,)
        self._handlers = (mine, *others)
        for handler in self._handlers:
            logging.root.addHandler(handler)
        log_lines.hear_ours()
        self._streams = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = (_Tee(stream, self) for stream in self._streams)

    def close(self) -> None:
        """Give everything back."""
        if self._streams is not None:
            sys.stdout, sys.stderr = self._streams
            self._streams = None
        for handler in self._handlers:
            logging.root.removeHandler(handler)
        self._handlers = ()
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            faulthandler.enable(sys.__stderr__ or 2)
            file.close()

    def write(self, text: str, *, is_failure: bool = False) -> None:
        """Append a text, or what of it there is room for."""
        data = redacted(text, self._secrets).encode(errors="replace")
        with self._lock:
            room = MAX_BYTES + (RESERVE_BYTES if is_failure else 0) - self._num_bytes
            if self._file is None or room <= 0:
                return
            is_filling = self._num_bytes <= MAX_BYTES < self._num_bytes + len(data)
            kept = data[:room] + (FULL.encode() if is_filling else b"")
            try:
                self._file.write(kept)
            except OSError:
                self._file = None  # a full disk is told of by what needs it
            self._num_bytes += len(kept)


class _Handler(logging.Handler):
    """Writes records as lines."""

    def __init__(self, log: AttemptLog) -> None:
        super().__init__(logging.INFO)
        self._log = log
        lines = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        lines.converter = time.gmtime
        self.setFormatter(lines)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.write(f"{self.format(record)}\n", is_failure=record.levelno >= logging.ERROR)
        except Exception:
            self.handleError(record)


class _Tee(io.TextIOBase):
    """A stream of this process, and the log beside it."""

    def __init__(self, stream: TextIO, log: AttemptLog) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
