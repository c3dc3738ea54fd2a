"""Names of parents and what their config says; free of torch, so that a search can be planned
without loading a model.

A parent is ``builtin:tiny``, ``builtin:smollm2-135m``, ``hub:ORG/NAME[@REVISION][#FILE.gguf]``, a local
Hugging Face directory or a local GGUF file. ``minitron.builtin`` makes or fetches those that are not local
directories. Only what is on the hub needs the network, and nothing where its config is given.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.checkpoint_files import check_tokenizer, check_weights
from minitron.errors import (
    HubError,
    InvalidRecipe,
    UnreadableCheckpoint,
    UnsupportedModel,
)
from minitron.families import checked_architecture, num_positions
from minitron.foreign_json import read_parsed
from minitron.gguf_header import SUFFIX, VERSION, read_header_of
from minitron.hub import PREFIX, HubName, look_up
from minitron.hub_parent import CONFIG, examine
from minitron.local_paths import expanded, is_directory

BUILTIN_PREFIX = "builtin:"
TINY = "builtin:tiny"
SMOLLM2 = "builtin:smollm2-135m"

BUILTIN_CONFIGS: dict[str, dict[str, Any]] = {
    TINY: {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 6,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "vocab_size": 1024,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    SMOLLM2: {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
}
"""The shapes of the builtin parents; ``minitron.builtin`` asserts them on the real models."""


FORMS = "a local directory or GGUF file, hub:ORG/NAME[@REVISION][#FILE.gguf]"
"""What a parent may be besides the builtin ones."""


def hub_name(parent: str) -> HubName | None:
    """Return what a parent is called on the hub, or None where it is not there.

    Raises:
        HubError: ``hub:`` and then no name of a repository.
    """
    return HubName.parse(parent) if parent.startswith(PREFIX) else None


def is_local(parent: str) -> bool:
    """Return whether a parent is a path."""
    return not parent.startswith((BUILTIN_PREFIX, PREFIX))


def is_gguf(parent: str) -> bool:
    """Return whether a parent is a local GGUF file."""
    return is_local(parent) and parent.endswith(SUFFIX) and not is_directory(expanded(parent))


def pinned(parent: str) -> str:
    """Return the name of a parent that never moves: on the hub, with the commit that its revision is now.

    Raises:
        HubError: As ``read_config``.
    """
    name = hub_name(parent)
    return parent if name is None or name.commit is not None else str(look_up(name).name)


def fetched_directory(name: HubName, root: Path) -> Path:
    """Return where a parent from the hub lies once it is fetched; its revision must be a commit."""
    return root / "parents" / (f"{name.directory}--v{VERSION}" if name.file else name.directory)


def read_config(parent: str) -> dict[str, Any]:
    """Return the config of a parent; of a GGUF file, what its header says in the same words.

    Raises:
        UnreadableCheckpoint: An unknown builtin name, no readable ``config.json``, a damaged file.
        UnsupportedModel: A GGUF file of a family that cannot be pruned here.
        HubError: The hub does not have it, does not give it, or does not answer.
    """
    if parent.startswith(BUILTIN_PREFIX):
        if parent not in BUILTIN_CONFIGS:
            raise UnreadableCheckpoint(
                f"parent: found {parent!r}, allowed: {', '.join(BUILTIN_CONFIGS)}, {FORMS}"
            )
        return BUILTIN_CONFIGS[parent]
    name = hub_name(parent)
    if name is not None:
        return examine(name).config
    if is_gguf(parent):
        return _gguf_config(expanded(parent))
    path = expanded(parent) / CONFIG
    try:
        if path.parent.is_file():
            raise UnreadableCheckpoint(f"parent: {path.parent}: found a file, allowed: {FORMS}")
        config = read_parsed(path)
    except FileNotFoundError:
        raise UnreadableCheckpoint(
            f"parent: {path}: no such file; a checkpoint directory holds one{_perhaps(parent)}"
        ) from None
    except (OSError, ValueError) as error:
        raise UnreadableCheckpoint(f"parent: {path}: cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise UnreadableCheckpoint(f"parent: {path}: holds no JSON object")
    return config


def parent_architecture(parent: str, config: Mapping[str, Any] | None = None) -> Architecture:
    """Return the checked shape of a parent, from its config alone.

    Args:
        parent: As users write it.
        config: What its config is known to say; None reads it, from the hub if need be.

    Raises:
        UnreadableCheckpoint: No such parent, or no readable config.
        UnsupportedModel, InvalidArchitecture: A family or a shape that cannot be pruned here.
        HubError: As ``read_config``.
    """
    if config is None:
        return checked_architecture(read_config(parent), _where(parent))
    return checked_architecture(config, "parent_config")


def check_parent(parent: str) -> Architecture:
    """Return the shape of a parent that can be loaded, as far as its files tell without loading it.

    Raises:
        UnreadableCheckpoint: Also for files of a local directory that are missing or damaged.
        UnsupportedModel, InvalidArchitecture: As ``parent_architecture``; also for quantized weights.
        HubError: As ``read_config``.
    """
    architecture = parent_architecture(parent)
    if is_local(parent) and not is_gguf(parent):
        directory = expanded(parent)
        check_weights(directory, read_config(parent))
        check_tokenizer(directory, vocab_size=architecture.vocab_size)
    return architecture


def check_sequence_length(parent: str, sequence_length: int, config: Mapping[str, Any] | None = None) -> None:
    """Raise InvalidRecipe when blocks are longer than the positions that the parent was trained on.

    Args:
        parent: As users write it.
        sequence_length: Tokens of a block.
        config: As in ``parent_architecture``.
    """
    most = num_positions(read_config(parent) if config is None else config)
    if most is not None and sequence_length > most:
        raise InvalidRecipe(
            "data.sequence_length",
            f"found {sequence_length}, allowed by max_position_embeddings of {parent}: at most {most}",
        )


def _gguf_config(path: Path) -> dict[str, Any]:
    try:
        return read_header_of(path).config
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def _where(parent: str) -> str:
    """Return where the config of a parent stands, for people."""
    if is_gguf(parent):
        return parent
    return str(expanded(parent) / CONFIG) if is_local(parent) else f"{parent}/{CONFIG}"


def _perhaps(parent: str) -> str:
    """Say what was perhaps meant by a path that is none."""
    path = Path(parent)
    if path.is_relative_to(Path.cwd()):  # services have made it absolute
        path = path.relative_to(Path.cwd())
    try:
        meant = HubName.parse(f"{PREFIX}{path}")
    except HubError:
        return ""
    return f"; a model of the Hugging Face hub is written {meant}"
