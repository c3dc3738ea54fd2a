"""Make or fetch a parent: a name, a file or a local directory becomes a checkpoint directory.

What is no local directory is made once under ``root/parents`` by ``minitron.tiny`` and ``minitron.smollm2``,
or fetched from the hub, or unpacked from GGUF; a lock keeps two processes from making the same one side
by side. From then on it is found by path, without the network.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from minitron.checkpoint_files import WEIGHTS_INDEX, companion_files, weight_files
from minitron.errors import ArtifactMismatch, MinitronError, OutOfSpace
from minitron.files import file_digest, link_or_copy, new_directory
from minitron.gguf_header import VERSION
from minitron.hub import HubName
from minitron.hub_files import PARTIAL, fetch_files
from minitron.hub_parent import CONFIG, examine
from minitron.local_paths import expanded
from minitron.parents import TINY, fetched_directory, hub_name, is_gguf, is_local, parent_architecture, pinned
from minitron.progress import Progress, Report, silent


def materialize(parent: str, root: Path, report: Report = silent, *, is_shared: bool = False) -> Path:
    """Return the checkpoint directory of a parent, which is made or fetched when it is not there yet.

    Args:
        parent: As ``minitron.parents`` names them.
        root: The artifact root.
        report: Told of long steps, and when the parent was found.
        is_shared: Whether other machines are to find it, which see nothing but ``root``: a local directory
            is then brought there.

    Raises:
        UnreadableCheckpoint: An unknown name, a directory without config, a damaged file, or a download
            that fails.
        UnsupportedModel, InvalidArchitecture: A model that cannot be pruned here.
        HubError: The hub does not have it, does not give it, or does not answer.
        ArtifactMismatch: What was made or fetched is not what it should be.
        OutOfSpace: The disk is full.
    """
    name = hub_name(pinned(parent))
    if name is not None:
        return _from_hub(name, root, report)
    if is_gguf(parent):
        return _from_gguf(expanded(parent), root, report)
    expected = parent_architecture(parent)
    if is_local(parent):
        directory = expanded(parent).resolve()
        return _brought(directory, root, report) if is_shared else directory
    # Imported late: a local parent needs neither.
    from minitron.smollm2 import fetch_smollm2, smollm2_name
    from minitron.tiny import tiny_name, train_tiny

    made, make = (tiny_name(), train_tiny) if parent == TINY else (smollm2_name(), fetch_smollm2)
    directory = root / "parents" / made
    _once(directory, parent, lambda: make(directory, report=report), report)
    found = parent_architecture(str(directory))
    if found != expected:
        raise ArtifactMismatch(f"{directory}: found {found}, expected {expected}")
    return directory


def _brought(source: Path, root: Path, report: Report) -> Path:
    """Return a checkpoint below ``root`` with the content of a local one, linked where that is possible."""
    if source.is_relative_to(root.resolve()):
        return source
    from minitron.checkpoint import fingerprint, tokenizer_fingerprint

    report(Progress(stage=f"bringing {source} to where all nodes see it"))
    content = hashlib.sha256(f"{fingerprint(source)} {tokenizer_fingerprint(source)}".encode()).hexdigest()
    directory = root / "parents" / f"local--{source.name}--{content[:32]}"

    def bring() -> None:
        with new_directory(directory) as scratch:
            for path in (source / CONFIG, *weight_files(source), *companion_files(source)):
                link_or_copy(path, scratch / path.name)
            if (source / WEIGHTS_INDEX).is_file():
                shutil.copyfile(source / WEIGHTS_INDEX, scratch / WEIGHTS_INDEX)

    _once(directory, str(source), bring, report)
    return directory


def _from_hub(name: HubName, root: Path, report: Report) -> Path:
    """Fetch a parent, named by its commit."""
    directory = fetched_directory(name, root)
    _once(directory, str(name), lambda: _fetch(name, directory, report), report)
    return directory


def _fetch(name: HubName, directory: Path, report: Report) -> None:
    found = examine(name)
    if not name.file:
        fetch_files(found.snapshot, found.files, directory, report=report)
        return
    from minitron.dequantize import dequantize

    fetched = fetch_files(
        found.snapshot, found.files, directory.with_name(f".{directory.name}-file"), report=report
    )
    try:
        dequantize(fetched / name.file, directory, report=report)
    except OutOfSpace:
        raise  # with room made for it, the file need not be fetched again
    except MinitronError:
        shutil.rmtree(fetched)
        raise
    shutil.rmtree(fetched)


def _from_gguf(file: Path, root: Path, report: Report) -> Path:
    """Unpack a local GGUF file, once for its content."""
    parent_architecture(str(file))
    from minitron.dequantize import dequantize

    report(Progress(stage=f"reading {file.name}"))
    directory = root / "parents" / f"{file.stem}--{file_digest(file)[:32]}--v{VERSION}"
    _once(directory, str(file), lambda: dequantize(file, directory, report=report), report)
    return directory


def _once(directory: Path, parent: str, make: Callable[[], None], report: Report) -> None:
    """Make a directory unless it is there, one process at a time."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_name(f".{directory.name}.lock")):
        if directory.is_dir():
            report(Progress(stage=parent, is_cached=True))
            return
        for abandoned in directory.parent.glob(f".{directory.name}.*/"):
            if abandoned.suffix != PARTIAL:
                shutil.rmtree(abandoned)  # of a process that was killed: nobody else holds the lock
        make()
