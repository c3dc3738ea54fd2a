"""Temporary directories of processes that may be killed: whoever comes next clears away what they left."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
SETTLED_SECONDS = 60.0
"""A directory younger than this may not have been locked by its owner yet."""


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Give a new directory in the system's temporary one, and remove it at the end.

    Its owner holds a lock in it, so that one which nobody holds was left by a killed process; those with
    the same prefix are removed first. The path is short: Unix sockets below it may not exceed 107 bytes.
    """
    _clear_abandoned(prefix)
    path = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with FileLock(path / LOCK):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _clear_abandoned(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            if time.time() - path.stat().st_mtime > SETTLED_SECONDS and (path / LOCK).exists():
                with FileLock(path / LOCK, timeout=0):
                    shutil.rmtree(path, ignore_errors=True)
        except (OSError, Timeout):
            continue  # somebody's, or gone by now
