"""Whole files or nothing: what is written appears under its name only when it is complete.

Knows no format. What has its name is on the disk, also after a power cut. A process killed in the middle leaves at most a hidden sibling, never half an artifact.
"""

import errno
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minitron.errors import OutOfSpace

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left", as Python or as safetensors tells it, into OutOfSpace for ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(f"{path}: no space left on the disk that holds it") from error
        raise
    except SafetensorError as error:  # it tells the number of the OSError in its text only
        if any(f"os error {code})" in str(error) for code in _FULL):
            raise OutOfSpace(f"{path}: no space left on the disk that holds it") from error
        raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give an empty directory to fill; rename it to ``path`` at the end, remove it on any error.

    Where ``path`` is already there, the work of whoever was first stands: both have the same content,
    because artifacts are named by what they are made from.

    Raises:
        OutOfSpace: The disk is full.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield scratch
            scratch.chmod(0o755)
            _flush(scratch)
            try:
                scratch.rename(path)
                _flush_entry(path.parent)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; rename it to ``path`` at the end, replacing what was there.

    Raises:
        OutOfSpace: The disk is full.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            yield scratch
            _flush(scratch)
            scratch.rename(path)
            _flush_entry(path.parent)
        finally:
            scratch.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Bring a file, or all that a directory holds, to the disk: a name must not outlive its content."""
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        _flush_entry(each)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy of it where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in _FULL:
            raise
        shutil.copyfile(source, target)


class ChunkStream(io.RawIOBase):
    """Chunks of bytes as a file to read once, so that what arrives by network is used while it arrives."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the next chunk goes."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
