"""Fetch files of a hub repository into a directory: with progress, whole or not at all, resumable.

Knows neither models nor data. A file that arrived stays when the process is killed; the one on its way
begins anew, because ``huggingface_hub`` trusts no half-written file.
"""

import os
import shutil
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from minitron.errors import ArtifactMismatch, OutOfSpace, UnreachableHub
from minitron.files import file_digest, naming_full_disk
from minitron.hub import LIBRARY, HubFile, Snapshot, asking, without_token
from minitron.progress import Progress, Report, silent

NUM_THREADS = 4
PARTIAL = ".partial"
"""How the name of a directory ends while files are missing in it."""


def fetch_files(
    snapshot: Snapshot, paths: Collection[str], directory: Path, *, report: Report = silent
) -> Path:
    """Make ``directory`` hold these files of a snapshot, and return it.

    They are fetched into a hidden sibling, which another call of the same goes on from; hold a lock,
    for one process at a time. A directory that is there already stands.

    Args:
        snapshot: As ``look_up`` found it.
        paths: Of files that it holds.
        directory: Named by content, for example by ``HubName.directory``.
        report: Told of the bytes that have arrived.

    Raises:
        RefusedByHub, UnreachableHub: As ``minitron.hub.asking``.
        ArtifactMismatch: What arrived is not what the hub says it has.
        OutOfSpace: The disk is full, or has too little room from the start.
    """
    if directory.is_dir():
        return directory
    files = [file for file in snapshot.files if file.path in paths]
    assert len(files) == len(paths), "only files that the snapshot holds can be fetched"
    partial_directory = directory.with_name(f".{directory.name}{PARTIAL}")
    with naming_full_disk(directory):
        partial_directory.mkdir(parents=True, exist_ok=True)
        _require_room(files, partial_directory)
        meter = _Meter(f"fetching {snapshot.name}", sum(file.size for file in files), report)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            fetches = [pool.submit(_fetch, snapshot, file, partial_directory, meter) for file in files]
            try:
                for each in fetches:
                    each.result()
            finally:
                pool.shutdown(cancel_futures=True)
        shutil.rmtree(partial_directory / ".cache", ignore_errors=True)  # notes of huggingface_hub
        _sync(files, partial_directory)
        partial_directory.rename(directory)
    return directory


def _fetch(snapshot: Snapshot, file: HubFile, directory: Path, meter: "_Meter") -> None:
    target = directory / file.path
    if target.is_file() and target.stat().st_size == file.size:
        meter.add(file.size)  # renamed into place when it was whole
    else:
        try:
            _download(snapshot, file, directory, meter)
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            reason = without_token(" ".join(str(error).split()))
            raise UnreachableHub(f"{snapshot.name}: {file.path}: {reason}") from None
    if file.sha256 is not None:
        found = file_digest(target)
        if found != file.sha256:
            target.unlink()
            raise ArtifactMismatch(
                f"{snapshot.name}: {file.path}: found SHA-256 {found}, allowed by the hub: {file.sha256}"
            )


def _download(snapshot: Snapshot, file: HubFile, directory: Path, meter: "_Meter") -> None:
    from huggingface_hub import hf_hub_download

    with asking(snapshot.name):
        hf_hub_download(
            snapshot.name.repository,
            file.path,
            repo_type=snapshot.kind,
            revision=snapshot.name.commit,
            local_dir=directory,
            library_name=LIBRARY,
            tqdm_class=type("_FileBar", (_Bar,), {"meter": meter}),
        )


def _require_room(files: Collection[HubFile], directory: Path) -> None:
    """Refuse at once what would fill the disk in an hour."""
    lacking = sum(file.size for file in files if not (directory / file.path).is_file())
    free = shutil.disk_usage(directory).free
    if lacking > free:
        raise OutOfSpace(
            f"{directory.parent}: found {free:,} bytes free on the disk that holds it, needed: {lacking:,}"
        )


def _sync(files: Collection[HubFile], directory: Path) -> None:
    """Bring the content to the disk before the name says that it is there."""
    for file in files:
        with (directory / file.path).open("rb") as content:
            os.fsync(content.fileno())


class _Meter:
    """Adds up what several threads fetch."""

    def __init__(self, stage: str, total: int, report: Report) -> None:
        self._stage = stage
        self._total = total
        self._done = 0
        self._report = report
        self._lock = threading.Lock()
        self.add(0)

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            self._report(
                Progress(stage=self._stage, done=max(0, self._done), total=self._total, unit="bytes")
            )


class _Bar:
    """What ``huggingface_hub`` takes for a progress bar of one file; ``meter`` is a subclass's."""

    meter: _Meter

    def __init__(self, *_: object, **__: object) -> None:
        """Take what a bar of tqdm takes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End with its file."""

    def update(self, num_bytes: float | None = 1) -> None:
        """Count bytes that were written, or that a retry has lost."""
        self.meter.add(int(num_bytes or 0))

    def update_transfer(self, num_bytes: float | None = 1) -> None:
        """Leave out bytes on the wire: they would count twice."""

    def set_postfix_str(self, *_: object, **__: object) -> None:
        """Leave out the pace."""

    set_transfer_postfix_str = set_postfix_str

    def close(self) -> None:
        """End with its file."""
