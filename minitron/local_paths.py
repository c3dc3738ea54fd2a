"""Paths as people write them: which files one means, found lazily and within bounds.

Knows nothing of what files hold. Links to files are followed, links to directories only where a pattern
names their level, so that no loop of links is walked; what vanishes meanwhile is passed over.
"""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from minitron.errors import TooManyFiles

MAX_ENTRIES = 1_000_000
"""Of directories that are looked through: more are a mistake, as ``/`` would be."""
_ANY_DEPTH = "**"

_Steps = tuple[str, ...]
"""What is left of a pattern: one part for each level below."""


def expanded(text: str) -> Path:
    """Return a path without its ``~``, which stands where it names no user."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_directory(path: Path) -> bool:
    """Return whether a path is a directory; what cannot be looked at is told when it is read."""
    try:
        return path.is_dir()
    except OSError:
        return False


def paths_below(directory: Path) -> Iterator[Path]:
    """Yield all paths below a directory, in no order.

    Raises:
        OSError: A directory cannot be read.
        TooManyFiles: There are more than ``MAX_ENTRIES``.
    """
    return _matches(directory, (_ANY_DEPTH, "*"), sees_hidden=True)


def paths_like(pattern: Path) -> Iterator[Path]:
    """Yield all paths that match a pattern of shells, in no order; ``**`` is any number of directories.

    As in shells, a name that begins with a dot is matched only by a part that does so too.

    Raises:
        OSError, TooManyFiles: As ``paths_below``.
    """
    parts = pattern.parts
    num_plain = next((index for index, part in enumerate(parts) if _is_pattern(part)), len(parts))
    steps = parts[num_plain:]
    if steps and steps[-1] == _ANY_DEPTH:
        steps = (*steps, "*")
    return _matches(Path(*parts[:num_plain]), steps, sees_hidden=False) if steps else iter(())


def _matches(directory: Path, steps: _Steps, *, sees_hidden: bool) -> Iterator[Path]:
    waiting = [(directory, _ways({steps}))]
    num_seen = 0
    while waiting:
        directory, ways = waiting.pop()
        for entry in _entries(directory):
            num_seen += 1
            if num_seen > MAX_ENTRIES:
                raise TooManyFiles(f"found more than {MAX_ENTRIES:,} files and directories, allowed: fewer")
            onward = _ways(_onward(ways, entry, sees_hidden=sees_hidden))
            if () in onward:
                yield Path(entry.path)
            deeper = onward - {()}
            if deeper and (entry.is_dir(follow_symlinks=False) or Path(entry.path).is_dir()):
                waiting.append((Path(entry.path), deeper))


def _ways(left: set[_Steps]) -> frozenset[_Steps]:
    """Return also what is left where ``**`` is no directory at all."""
    found = set(left)
    while more := {steps[1:] for steps in found if steps[:1] == (_ANY_DEPTH,)} - found:
        found |= more
    return frozenset(found)


def _onward(ways: frozenset[_Steps], entry: os.DirEntry[str], *, sees_hidden: bool) -> set[_Steps]:
    """Return what is left of each way behind an entry."""
    found = set()
    for steps in ways - {()}:
        first, rest = steps[0], steps[1:]
        if entry.name.startswith(".") and not (sees_hidden or first.startswith(".")):
            continue
        if first == _ANY_DEPTH:
            if entry.is_dir(follow_symlinks=False):
                found.add(steps)
        elif entry.name == first or fnmatchcase(entry.name, first):
            found.add(rest)
    return found


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return


def _is_pattern(part: str) -> bool:
    return any(sign in part for sign in "*?[")
