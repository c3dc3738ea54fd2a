"""What a source of text is: named ones and local files, told without reading a document.

Free of torch and of readers, so that a source is checked when a search is submitted. A source tells its
content's digest without parsing it, so that blocks made from it earlier are found again cheaply.
"""

import glob
import hashlib
from pathlib import Path

from minitron.errors import UnreadableData
from minitron.python_docs import python_docs

PYTHON_DOCS = "builtin:python-docs"
"""The documentation and library source of the running Python."""

PLAIN = (".txt", ".md", ".py")
STRUCTURED = (".json", ".jsonl", ".csv", ".parquet")
SUFFIXES = (*PLAIN, *STRUCTURED)


def check_source(source: str) -> None:
    """Raise UnreadableData for an unknown name, a missing path, or nothing readable there."""
    if source != PYTHON_DOCS:
        local_files(source)


def source_digest(source: str) -> str:
    """Return the SHA-256 of all that a source holds, independent of where it lies.

    Raises:
        UnreadableData: An unknown name, a missing path, or nothing readable there.
    """
    digest = hashlib.sha256()
    if source == PYTHON_DOCS:
        for document in python_docs():
            digest.update(hashlib.sha256(document.encode()).digest())
    else:
        for path in local_files(source):
            digest.update(path.suffix.encode() + _file_digest(path))
    return digest.hexdigest()


def local_files(source: str) -> list[Path]:
    """Return the files of a known suffix at a path, below a directory, or matching a pattern; sorted.

    Raises:
        UnreadableData: As ``check_source``.
    """
    if source.startswith("builtin:"):
        raise UnreadableData(f"data.source: found {source!r}, allowed: {PYTHON_DOCS} or a local path")
    path = Path(source).expanduser()
    allowed = ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UnreadableData(f"data.source: {path}: found suffix {path.suffix!r}, allowed: {allowed}")
        return [path]
    if path.is_dir():
        candidates = [file for file in path.rglob("*") if file.is_file()]
    else:
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
        if not candidates:
            raise UnreadableData(f"data.source: {path}: no such file, directory or match")
    files = sorted(file for file in candidates if file.suffix in SUFFIXES)
    if not files:
        raise UnreadableData(f"data.source: {path}: holds no file with a suffix of {allowed}")
    return files


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UnreadableData(f"data.source: {path}: cannot be read: {error}") from error
