"""What a search knows of its parent: asked for once, when it is submitted, and kept in its spec.

So that whatever is computed later needs neither the network nor the parent's files, and a search of a
parent on the hub stays with the commit that it began with. Loads no model.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.errors import UnreachableHub
from minitron.families import planning_config
from minitron.hub_parent import examine
from minitron.parents import (
    check_parent,
    check_sequence_length,
    fetched_directory,
    hub_name,
    is_gguf,
    parent_architecture,
    read_config,
)
from nas.errors import InvalidSpec
from nas.search import SearchSpec


def described(spec: SearchSpec, artifact_root: Path) -> SearchSpec:
    """Return a spec whose parent can be loaded, as far as can be told without loading it.

    A parent on the hub is named by its commit, and of one that is no local directory the spec holds the
    config. Without network, a parent on the hub must have been fetched before, or be given by commit and
    config.

    Args:
        spec: With absolute paths.
        artifact_root: Where fetched parents lie.

    Raises:
        InvalidSpec: ``parent_config`` is not the parent's.
        InvalidRecipe: Blocks are longer than the parent's positions.
        MinitronError: As ``minitron.parents.check_parent``.
    """
    parent, config = _known(spec, artifact_root)
    check_sequence_length(parent, spec.data.sequence_length, config)
    if spec.parent_config is not None:
        given = parent_architecture(parent, spec.parent_config)
        differences = differing_fields(given, parent_architecture(parent, config))
        if differences:
            raise InvalidSpec((("parent_config", f"differs from {parent}: {differences}"),))
    if hub_name(parent) is None and not is_gguf(parent):
        return spec
    return replace(spec, parent=parent, parent_config=planning_config(config))


def architecture_of(spec: SearchSpec) -> Architecture:
    """Return the shape of a spec's parent, from what the spec holds where it holds it.

    Raises:
        MinitronError: As ``minitron.parents.parent_architecture``.
    """
    return parent_architecture(spec.parent, spec.parent_config)


def differing_fields(found: Architecture, allowed: Architecture) -> str:
    """Return in words where two shapes differ; nothing where they are the same."""
    before, after = asdict(found), asdict(allowed)
    return "; ".join(
        f"{name}: found {before[name]}, allowed: {after[name]}"
        for name in before
        if before[name] != after[name]
    )


def _known(spec: SearchSpec, artifact_root: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a checked parent that never moves, and its config."""
    name = hub_name(spec.parent)
    if name is None:
        check_parent(spec.parent)
        return spec.parent, read_config(spec.parent)
    if name.commit is not None and (fetched := fetched_directory(name, artifact_root)).is_dir():
        return spec.parent, read_config(str(fetched))
    try:
        found = examine(name)
    except UnreachableHub as error:
        if name.commit is None or spec.parent_config is None:
            raise UnreachableHub(f"{error}, or name a commit and give parent_config") from None
        return spec.parent, spec.parent_config
    return str(found.snapshot.name), found.config
