"""Names made from what an artifact is made from, and the locks of those who make it. Knows no artifact."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout

from minitron.data import BlockArray
from minitron.progress import Progress, Report

LOCK_POLL_SECONDS = 1.0


def digest(*parts: Any) -> str:
    """Return a name for what follows from these JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def content(blocks_NT: BlockArray) -> str:
    """Hash the blocks themselves: their number on the other sides of the split does not matter."""
    return hashlib.sha256(np.ascontiguousarray(blocks_NT).data).hexdigest()


@contextmanager
def alone(path: Path, report: Report) -> Iterator[None]:
    """Hold a lock between processes, so that two searches on one parent do not compute the same twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while not _is_acquired(lock):
        report(Progress(stage="waiting for another search that prepares the same parent"))
    try:
        yield
    finally:
        lock.release()


def _is_acquired(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=LOCK_POLL_SECONDS)
    except Timeout:
        return False
    return True
