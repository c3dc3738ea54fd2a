"""What lies below the artifact root, how much of it there is, and what may go.

Reads the store and the file system; deletes only what it is handed. What is in use is touched by its users
again and again, so age tells what nobody uses, on every node that shares the root.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nas import layout
from nas.errors import NotFound
from nas.search import Search
from nas.storage.store import SearchStore
from nas.trial import Trial, TrialState

IN_USE_SECONDS = 3600.0
"""What was touched within this time is left alone; users touch at least once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that can be deleted whole."""

    path: Path
    num_bytes: int
    reason: str
    """Why it may go, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes below the artifact root."""

    shared: dict[str, int]
    """By folder of what searches share."""
    searches: dict[str, int]
    """By search id."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.shared.values()) + sum(self.searches.values())


def tree_bytes(path: Path) -> int:
    """Return the bytes of a file or of all files below a directory, each once however often it is linked."""
    sizes = {}
    for file in _files(path):
        with suppress(FileNotFoundError):  # gone between listing and looking
            status = file.lstat()
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def usage(root: Path) -> Usage:
    """Return what lies where below ``root``."""
    searches = layout.search_directory(root, "").glob("*/") if root.is_dir() else ()
    return Usage(
        shared={kind: tree_bytes(root / kind) for kind in layout.SHARED if (root / kind).is_dir()},
        searches={directory.name: tree_bytes(directory) for directory in sorted(searches)},
    )


def touch(paths: Iterable[Path]) -> None:
    """Mark shared artifacts as in use; what is gone, or may not be marked, is passed over."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)


def least_recently_used(root: Path, *, max_bytes: int) -> list[Item]:
    """Return which shared artifacts go, the longest unused first, until at most ``max_bytes`` are left.

    What was used within ``IN_USE_SECONDS`` stays even where that leaves more.
    """
    found = [
        (path.stat().st_mtime, path, tree_bytes(path))
        for kind in layout.SHARED
        for path in sorted((root / kind).glob("[!.]*"))
    ]
    excess = sum(size for _, _, size in found) - max_bytes
    going = []
    for used_at, path, size in sorted(found):
        if excess <= 0 or time.time() - used_at < IN_USE_SECONDS:
            break
        hours = (time.time() - used_at) / 3600
        going.append(
            Item(path=path, num_bytes=size, reason=f"cache over its limit; unused for {hours:.0f} h")
        )
        excess -= size
    return going


def leftovers(root: Path, store: SearchStore, *, keeps_students: bool = True) -> list[Item]:
    """Return what ended searches and killed processes left that nothing will read again.

    Args:
        root: The artifact root.
        store: Knows which searches have ended. A search that it does not know is another store's: it stays.
        keeps_students: Whether the students of ended searches that did not win stay.
    """
    hidden = [path for kind in layout.SHARED for path in (root / kind).glob(".*") if path.suffix != ".lock"]
    found = [(path, "left by a process that was killed") for path in hidden if _is_old(path)]
    for directory in sorted(layout.search_directory(root, "").glob("*/")):
        try:
            search, trials = store.get_search(directory.name), store.trials(directory.name)
        except NotFound:
            continue
        found += _of_search(root, search, trials, keeps_students=keeps_students)
    return [Item(path=path, num_bytes=tree_bytes(path), reason=reason) for path, reason in found]


def delete(items: Iterable[Item]) -> None:
    """Delete, each out of sight first, so that nobody finds half of it."""
    for item in items:
        hidden = item.path.with_name(f".{item.path.name}.deleted")
        with suppress(FileNotFoundError):
            item.path.rename(hidden)
            if hidden.is_dir():
                shutil.rmtree(hidden, ignore_errors=True)
            else:
                hidden.unlink()


def _of_search(
    root: Path, search: Search, trials: Iterable[Trial], *, keeps_students: bool
) -> Iterator[tuple[Path, str]]:
    if not search.state.is_final:
        return  # its runner sweeps after its trials
    winner = search.winner.trial_number if search.winner else None
    for trial in trials:
        states, student = layout.states_directory(root, trial), layout.student_directory(root, trial)
        if states.exists():
            yield states, f"resumable state of a trial that is {trial.state.lower()}"
        is_spare = trial.state is not TrialState.COMPLETED or not keeps_students
        if student.exists() and is_spare and trial.number != winner:
            yield student, "student that did not win"


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for directory, _, names in os.walk(path):
            yield from (Path(directory) / name for name in names)
    elif path.exists():
        yield path


def _is_old(path: Path) -> bool:
    """Return whether nothing in it was written within ``IN_USE_SECONDS``: a large file may take longer."""
    with suppress(FileNotFoundError):
        written_at = max(each.lstat().st_mtime for each in (path, *_files(path)))
        return time.time() - written_at > IN_USE_SECONDS
    return False
