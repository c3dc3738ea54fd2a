"""A parent on the Hugging Face hub, as far as can be told without its weights; free of torch.

Reads its list of files, its config and its index of shards, or the header of a GGUF file: all that can
make it unusable is told before anything large is fetched. Knows nothing of where parents are kept.
"""

import io
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from minitron.checkpoint_files import (
    COMPANION_FILES,
    TOKENIZER_FILES,
    WEIGHTS,
    WEIGHTS_INDEX,
    check_plain,
    weight_names,
)
from minitron.errors import PickledCheckpoint, RefusedByHub, UnreadableCheckpoint, UnsupportedModel
from minitron.families import checked_architecture
from minitron.foreign_json import MAX_BYTES, parsed
from minitron.gguf_header import SUFFIX, read_header
from minitron.hub import HubName, Snapshot, look_up, reading

CONFIG = "config.json"
BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HubParent:
    """What can be fetched and loaded."""

    snapshot: Snapshot
    config: dict[str, Any]
    """Its ``config.json``; of a GGUF file, what its header says in the same words."""
    files: tuple[str, ...]
    """Paths of all that a parent needs: no pickles, no code."""


def examine(name: HubName) -> HubParent:
    """Ask the hub for what can be known of a parent before it is fetched.

    Raises:
        RefusedByHub, UnreachableHub: As ``minitron.hub.asking``; gated without access, unknown, no network.
        PickledCheckpoint: Weights only as pickles.
        UnreadableCheckpoint: No config, no weights, no tokenizer, a shard that is missing, a damaged file.
        UnsupportedModel, InvalidArchitecture: Quantized weights; a model that cannot be pruned here.
    """
    snapshot = look_up(name)
    paths = {file.path for file in snapshot.files}
    return _file(snapshot, paths) if name.file else _checkpoint(snapshot, paths)


def _file(snapshot: Snapshot, paths: set[str]) -> HubParent:
    name = snapshot.name
    assert name.file
    if not name.file.endswith(SUFFIX):
        raise UnreadableCheckpoint(f"{name}: found {name.file!r}, allowed after #: a {SUFFIX} file")
    if name.file not in paths:
        raise RefusedByHub(f"{name}: holds no such file, allowed: {_some(_ggufs(paths)) or 'none'}")
    with reading(snapshot, name.file) as stream:
        header = read_header(cast("BinaryIO", io.BufferedReader(stream, BUFFER_BYTES)), str(name))
    try:
        config = header.config
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{name}: {error}") from None
    checked_architecture(config, str(name))
    return HubParent(snapshot=snapshot, config=config, files=(name.file,))


def _checkpoint(snapshot: Snapshot, paths: set[str]) -> HubParent:
    name = snapshot.name
    if CONFIG not in paths:
        raise UnreadableCheckpoint(f"{name}: holds no {CONFIG}{_instead(name, paths)}")
    config = _json(snapshot, CONFIG)
    checked_architecture(config, f"{name}/{CONFIG}")
    check_plain(config, str(name))
    try:
        weights = weight_names(paths, str(name), lambda path: _text(snapshot, path))
    except PickledCheckpoint:
        raise
    except UnreadableCheckpoint as error:
        raise UnreadableCheckpoint(f"{error}{_instead(name, paths)}") from None
    if not paths & set(TOKENIZER_FILES):
        raise UnreadableCheckpoint(f"{name}: holds no tokenizer; allowed: {', '.join(TOKENIZER_FILES)}")
    wanted = {CONFIG, *weights, *(paths & set(COMPANION_FILES))}
    if WEIGHTS not in weights:
        wanted.add(WEIGHTS_INDEX)
    return HubParent(snapshot=snapshot, config=config, files=tuple(sorted(wanted)))


def _json(snapshot: Snapshot, path: str) -> dict[str, Any]:
    try:
        content = parsed(_text(snapshot, path))
    except ValueError as error:
        raise UnreadableCheckpoint(f"{snapshot.name}/{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnreadableCheckpoint(f"{snapshot.name}/{path}: holds no JSON object")
    return content


def _text(snapshot: Snapshot, path: str) -> bytes:
    with reading(snapshot, path) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UnreadableCheckpoint(f"{snapshot.name}/{path}: is longer than {MAX_BYTES:,} bytes")
    return content


def _instead(name: HubName, paths: set[str]) -> str:
    """Say what else of a repository without safetensors could be a parent."""
    found = _ggufs(paths)
    return f"; allowed: one of its GGUF files, for example {replace(name, file=found[0])}" if found else ""


def _ggufs(paths: set[str]) -> list[str]:
    return sorted(path for path in paths if path.endswith(SUFFIX))


def _some(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
