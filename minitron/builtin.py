"""Make or find a parent: a name or a local directory becomes a checkpoint directory.

Builtin parents are made once under ``root/parents`` by ``minitron.tiny`` and ``minitron.smollm2``; a lock
keeps two processes from making the same one side by side.
"""

import shutil
from pathlib import Path

from filelock import FileLock

from minitron.errors import ArtifactMismatch
from minitron.parents import TINY, parent_architecture
from minitron.progress import Progress, Report, silent


def materialize(parent: str, root: Path, report: Report = silent) -> Path:
    """Return the checkpoint directory of a parent; a builtin one is made when it is not there yet.

    Args:
        parent: ``builtin:tiny``, ``builtin:smollm2-135m`` or a local Hugging Face directory.
        root: The artifact root.
        report: Told of long steps, and when the parent was found.

    Raises:
        UnreadableCheckpoint: An unknown name, a directory without config, or a download that fails.
        UnsupportedModel, InvalidArchitecture: A model that cannot be pruned here.
        OutOfSpace: The disk is full.
    """
    expected = parent_architecture(parent)
    if not parent.startswith("builtin:"):
        return Path(parent).expanduser()
    # Imported late: a local parent needs neither.
    from minitron.smollm2 import fetch_smollm2, smollm2_name
    from minitron.tiny import tiny_name, train_tiny

    name, make = (tiny_name(), train_tiny) if parent == TINY else (smollm2_name(), fetch_smollm2)
    directory = root / "parents" / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_name(f".{name}.lock")):
        if directory.is_dir():
            report(Progress(stage=parent, is_cached=True))
        else:
            for abandoned in directory.parent.glob(f".{name}.*/"):
                shutil.rmtree(abandoned)  # of a process that was killed: nobody else holds the lock
            make(directory, report=report)
    found = parent_architecture(str(directory))
    if found != expected:
        raise ArtifactMismatch(f"{directory}: found {found}, expected {expected}")
    return directory
