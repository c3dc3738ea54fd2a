"""Which nodes of a cluster may run trials: those with the same code, the same packages and the artifact root.

Different versions would give different students, and a node without the root would find neither parent nor
answers. Nodes are asked when a search begins; those that join later ask themselves before their first trial.
"""

import hashlib
import logging
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray.exceptions import RayError

from nas.layout import probes
from nas.resources import Resources

logger = logging.getLogger(__name__)

KEY_PACKAGES = ("torch", "transformers", "ray", "safetensors", "tokenizers", "numpy", "torchao")
"""What a result depends on."""
OURS = ("minitron", "nas", "workers")
ANSWER_SECONDS = 60.0
"""A node starts a worker process to answer."""
NODE_LABEL = "ray.io/node-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a node must be like to run the trials of one search."""

    python: str
    packages: dict[str, str]
    """Versions by name."""
    code: str
    """A hash of this project's source."""
    probe: Path
    """A folder that was made below the artifact root."""


class UnfitNode(Exception):
    """Raised in a worker process whose node may run no trial."""

    def __init__(self, node_id: str, reason: str) -> None:
        super().__init__(node_id, reason)
        self.node_id = node_id
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@contextmanager
def site(root: Path) -> Iterator[Site]:
    """Give what the nodes are held to, with a probe below ``root`` for as long as the context lasts."""
    probe = probes(root) / uuid.uuid4().hex
    probe.mkdir(parents=True)
    try:
        yield Site(
            python=platform.python_version(),
            packages={name: _version(name) for name in KEY_PACKAGES},
            code=code_hash(),
            probe=probe,
        )
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def fault(wanted: Site) -> str | None:
    """Return why this process's node may run no trial of a search, or None when it may."""
    if not wanted.probe.is_dir():
        root = wanted.probe.parent.parent
        return f"artifact root: {root} is not the one of the search here, allowed: a directory that all nodes share"
    try:
        (wanted.probe / uuid.uuid4().hex).touch()
    except OSError as error:
        return f"artifact root: {wanted.probe.parent.parent} cannot be written here: {error.strerror}"
    found = {"Python": platform.python_version()} | {name: _version(name) for name in wanted.packages}
    allowed = {"Python": wanted.python} | wanted.packages
    other = [
        f"{name} {found[name]}, allowed: {allowed[name]}" for name in allowed if found[name] != allowed[name]
    ]
    if other:
        return f"packages: found {'; '.join(other)}"
    if code_hash() != wanted.code:
        return "code: found another version of this project, allowed: the one that runs the search"
    return None


def require_fit(wanted: Site) -> None:
    """Raise UnfitNode when this process's node may run no trial."""
    reason = fault(wanted)
    if reason is not None:
        raise UnfitNode(ray.get_runtime_context().get_node_id(), reason)


def unfit_nodes(wanted: Site) -> dict[str, str]:
    """Ask every node of the connected cluster; return why some may run no trial, by node id."""
    ask = ray.remote(num_cpus=0, max_retries=0)(fault)
    answers = {
        node["NodeID"]: ask.options(label_selector={NODE_LABEL: node["NodeID"]}).remote(wanted)
        for node in ray.nodes()
        if node["Alive"]
    }
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_SECONDS)
    reasons = {}
    for node_id, answer in answers.items():
        try:
            reason = ray.get(answer, timeout=0)
        except RayError as error:  # also where this project cannot be imported
            lines = str(error).splitlines() or [type(error).__name__]
            reason = f"it does not answer: {lines[-1]}"
        if reason is not None:
            reasons[node_id] = reason
    return reasons


def elsewhere(refused: dict[str, str]) -> dict[str, str]:
    """Return the label selector, for Ray's options, of all nodes but these."""
    return {NODE_LABEL: f"!in({','.join(sorted(refused))})"} if refused else {}


def here(resources: Resources, refused: dict[str, str]) -> dict[str, str]:
    """Return the label selector of this process's node, which sees what the user named, where it has room.

    Else of all nodes that are not refused.
    """
    node_id = ray.get_runtime_context().get_node_id()
    own: dict[str, float] = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == node_id), {})
    has_room = own.get("CPU", 0) >= resources.cpus and own.get("GPU", 0) >= resources.gpus
    return {NODE_LABEL: node_id} if has_room and node_id not in refused else elsewhere(refused)


def name_of(node_id: str) -> str:
    """Return what people call a node."""
    found = next((node for node in ray.nodes() if node["NodeID"] == node_id), None)
    return f"{found['NodeName']} ({found['NodeManagerAddress']})" if found else node_id[:8]


@cache
def code_hash() -> str:
    """Return a hash of this project's source, as it lies where this process imports it from."""
    digest = hashlib.sha256()
    for package in OURS:
        directory = Path(__import__(package).__path__[0])
        for path in sorted(directory.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(directory)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return "none"
