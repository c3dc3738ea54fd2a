"""What a runner makes sure of before it begins: a root that can be written, losses that compare, and how much of a cluster is
its own.
"""

import errno
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from minitron.errors import ArtifactMismatch
from nas.errors import InvalidSettings
from nas.search import Artifacts, Search, SearchSpec


def require_writable(root: Path) -> None:
    """Raise InvalidSettings where nothing can be written below the artifact root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk has an error of its own
        raise InvalidSettings(
            f"NAS_ARTIFACT_ROOT: {root}: cannot be written: {error.strerror}, allowed: a directory that workers "
            "can write"
        ) from error


def require_same(search: Search, now: Artifacts) -> None:
    """Raise ArtifactMismatch where a search that had ended would measure something else by now."""
    before = search.made_from
    if before is None:
        return
    instead = f"so that losses would not compare; allowed: nas clone {search.id}"
    if (before.parent, before.validation) != (now.parent, now.validation):
        raise ArtifactMismatch(
            f"search {search.id}: its parent or its data have changed since it ended, {instead}"
        )
    if before.loss_version != now.loss_version:
        raise ArtifactMismatch(
            f"search {search.id}: was measured by version {before.loss_version} of the held-out loss, and would be by version "
            f"{now.loss_version}, {instead}"
        )


def num_beside(spec: SearchSpec) -> int:
    """Return for how many processes there is room beside the trials."""
    return int(spec.correction is not None and spec.correction.mode == "alongside")


def with_all_cpus(spec: SearchSpec) -> SearchSpec:
    """Return ``spec`` with the CPUs of all its trials for one task: on a local cluster nothing else runs yet."""
    resources = spec.resources
    trials = resources.cpus * resources.processes * spec.max_parallel
    cpus = max(resources.cpus, min(os.cpu_count() or 1, trials))
    return replace(spec, resources=replace(resources, cpus=cpus))
