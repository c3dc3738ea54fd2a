"""Directories that only their owner enters: what lies in ``NAS_HOME`` is everybody's work and nobody's to read."""

from itertools import takewhile
from pathlib import Path


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, with mode 700; one that is there stays as it is.

    Raises:
        OSError: It cannot be made, or is no directory.
    """
    missing = list(takewhile(lambda each: not each.exists(), (directory, *directory.parents)))
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(exist_ok=True)
