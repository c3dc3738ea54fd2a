"""What lies below the artifact root, how much of it there is, and what may go.

Reads the store and the file system; deletes only what it is handed. What is in use is touched by its users
again and again, and a search notes what it uses until it has ended, so that on every node which shares the
root it can be told what nobody needs.
"""

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nas import layout
from nas.errors import NotFound
from nas.search import Search
from nas.storage.store import SearchStore
from nas.trial import Trial, TrialState

logger = logging.getLogger(__name__)

IN_USE_SECONDS = 3600.0
"""What was touched within this time is left alone; users touch at least once a minute."""
ABANDONED = "left by a process that was killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that can be deleted whole."""

    path: Path
    num_bytes: int
    reason: str
    """Why it may go, for people."""
    used_at: float
    """When it was touched last, as it was looked at; touched since, it stays."""


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


def keep_in_use(root: Path, search_id: str, paths: Iterable[Path]) -> None:
    """Note which shared artifacts a search uses until it has ended, also while nothing runs it."""
    file = layout.uses_file(root, search_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(str(path.relative_to(root)) for path in paths)
    file.write_text(json.dumps(names), encoding="utf-8")


def let_go(root: Path, search_id: str) -> None:
    """Forget which shared artifacts a search used, once it has ended."""
    layout.uses_file(root, search_id).unlink(missing_ok=True)


def least_recently_used(root: Path, *, max_bytes: int) -> list[Item]:
    """Return which shared artifacts go, the longest unused first, until at most ``max_bytes`` are left.

    What was used within ``IN_USE_SECONDS``, or is used by a search that has not ended, stays even where
    that leaves more.
    """
    spared = _in_use(root)
    found = []
    for path in (path for kind in layout.SHARED for path in sorted((root / kind).glob("[!.]*"))):
        with suppress(FileNotFoundError):  # another process deletes too
            found.append((path.lstat().st_mtime, path, tree_bytes(path)))
    excess = sum(size for _, _, size in found) - max_bytes
    going = []
    for used_at, path, size in sorted(found):
        if excess <= 0 or time.time() - used_at < IN_USE_SECONDS:
            break
        if path not in spared:
            reason = f"cache over its limit; unused for {(time.time() - used_at) / 3600:.0f} h"
            going.append(Item(path=path, num_bytes=size, reason=reason, used_at=used_at))
            excess -= size
    return going


def leftovers(
    root: Path,
    store: SearchStore,
    *,
    keeps_students: bool = True,
    untold_since: datetime | None = None,
) -> list[Item]:
    """Return what ended searches and killed processes left that nothing will read again.

    Args:
        root: The artifact root.
        store: Knows which searches have ended. A search that it does not know is another store's: it stays.
        keeps_students: Whether the students of ended searches that did not win stay, and earlier winners with them; promoted
            students do in any case.
        untold_since: What happened since then MLflow is still to be told, with the files of winners; None: nothing.
    """
    hidden = [path for kind in layout.SHARED for path in (root / kind).glob(".*") if path.suffix != ".lock"]
    found = [(path, ABANDONED) for path in (*hidden, *layout.probes(root).glob("*")) if _is_old(path)]
    for directory in sorted(layout.search_directory(root, "").glob("*/")):
        try:
            search, trials = store.get_search(directory.name), store.trials(directory.name)
        except NotFound:
            continue
        if search.state.is_final:  # else its runner sweeps after its trials
            found += _of_search(root, search, trials, keeps_students=keeps_students)
            if not keeps_students and _is_told(search, untold_since):
                found += _earlier_winners(root, search)
    return [
        Item(path=path, num_bytes=tree_bytes(path), reason=reason, used_at=path.lstat().st_mtime)
        for path, reason in found
    ]


def delete(items: Iterable[Item]) -> list[Item]:
    """Delete what nobody has touched since it was looked at, and return what remains.

    Each is moved out of sight first, so that nobody finds half of it; what turns out to be in use by then
    is moved back.
    """
    remaining = []
    for item in items:
        hidden = item.path.with_name(f".{item.path.name}.{uuid.uuid4().hex[:8]}.deleted")
        try:
            if item.path.lstat().st_mtime > item.used_at:
                remaining.append(item)
                continue
            item.path.rename(hidden)
            if hidden.lstat().st_mtime > item.used_at and not item.path.exists():
                hidden.rename(item.path)
                remaining.append(item)
            elif hidden.is_dir() and not hidden.is_symlink():
                shutil.rmtree(hidden)
            else:
                hidden.unlink()
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            logger.warning("%s: cannot be deleted: %s", item.path, error.strerror)
            remaining.append(item)
    return remaining


def _of_search(
    root: Path, search: Search, trials: Iterable[Trial], *, keeps_students: bool
) -> Iterator[tuple[Path, str]]:
    winner = search.winner.trial_number if search.winner else None
    for trial in trials:
        states, student = layout.states_directory(root, trial), layout.student_directory(root, trial)
        if states.exists():
            yield states, f"resumable state of a trial that is {trial.state.lower()}"
        # A promoted student may win yet, beside one that is promoted later, and is made again by its own recipe alone.
        keeps_student = keeps_students or trial.promotion is not None
        is_spare = trial.state is not TrialState.COMPLETED or not keeps_student
        if student.exists() and is_spare and trial.number != winner:
            yield student, "student that did not win"
    directory = layout.search_directory(root, search.id)
    for path in (*directory.glob(".*"), *directory.glob("trials/*/.*")):
        if _is_old(path):
            yield path, ABANDONED
    if (uses := layout.uses_file(root, search.id)).exists():
        yield uses, "note of what an ended search used"


def _is_told(search: Search, untold_since: datetime | None) -> bool:
    """Return whether MLflow was told how a search ended, by clocks that may differ."""
    assert search.finished_at is not None, f"search {search.id}: {search.state}"
    return untold_since is None or untold_since - search.finished_at > timedelta(seconds=IN_USE_SECONDS)


def _earlier_winners(root: Path, search: Search) -> Iterator[tuple[Path, str]]:
    if search.winner is None:
        return
    for path in layout.winner_directories(root, search.id):
        if path != root / search.winner.path:
            yield path, f"earlier winner, which trial {search.winner.trial_number} has succeeded"


def _in_use(root: Path) -> set[Path]:
    """Return the shared artifacts that searches use which have not ended."""
    found: set[Path] = set()
    for file in layout.search_directory(root, "").glob(f"*/{layout.USES}"):
        with suppress(FileNotFoundError):
            found |= {root / name for name in json.loads(file.read_text(encoding="utf-8"))}
    return found


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
