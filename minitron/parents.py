"""Names of parents and what their ``config.json`` says; free of torch, so that a search can be
planned without loading a model.

A parent is ``builtin:tiny``, ``builtin:smollm2-135m`` or a local Hugging Face directory.
``minitron.builtin`` makes the two builtin ones.
"""

import json
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.checkpoint_files import check_tokenizer, check_weights
from minitron.errors import InvalidArchitecture, InvalidRecipe, UnreadableCheckpoint, UnsupportedModel
from minitron.families import family_named, read_architecture

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


def read_config(parent: str) -> dict[str, Any]:
    """Return the config of a builtin parent or of a local checkpoint directory.

    Raises:
        UnreadableCheckpoint: An unknown builtin name, or no readable ``config.json``.
    """
    if parent.startswith("builtin:"):
        if parent not in BUILTIN_CONFIGS:
            raise UnreadableCheckpoint(
                f"parent: found {parent!r}, allowed: {', '.join(BUILTIN_CONFIGS)} or a local directory"
            )
        return BUILTIN_CONFIGS[parent]
    path = _config_path(parent)
    if path.parent.is_file():
        raise UnreadableCheckpoint(f"parent: {path.parent}: found a file, allowed: a checkpoint directory")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnreadableCheckpoint(
            f"parent: {path}: no such file; a checkpoint directory holds one"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnreadableCheckpoint(f"parent: {path}: cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise UnreadableCheckpoint(f"parent: {path}: holds no JSON object")
    return config


def parent_architecture(parent: str) -> Architecture:
    """Return the checked shape of a parent, from its config alone.

    Raises:
        UnreadableCheckpoint: No such parent, or no readable config.
        UnsupportedModel, InvalidArchitecture: A family or a shape that cannot be pruned here.
    """
    try:
        architecture = read_architecture(read_config(parent))
        family_named(architecture.family).check(architecture)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{_config_path(parent).parent / str(error)}") from None
    except InvalidArchitecture as error:
        raise InvalidArchitecture(f"{_config_path(parent)}: {error.field}", error.reason) from None
    return architecture


def check_parent(parent: str) -> Architecture:
    """Return the shape of a parent that can be loaded, as far as its files tell without loading it.

    Raises:
        UnreadableCheckpoint: Also for files of a local directory that are missing or damaged.
        UnsupportedModel, InvalidArchitecture: As ``parent_architecture``; also for quantized weights.
    """
    architecture = parent_architecture(parent)
    if parent not in BUILTIN_CONFIGS:
        directory = _config_path(parent).parent
        check_weights(directory, read_config(parent))
        check_tokenizer(directory, vocab_size=architecture.vocab_size)
    return architecture


def check_sequence_length(parent: str, sequence_length: int) -> None:
    """Raise InvalidRecipe when blocks are longer than the positions that the parent was trained on."""
    most = read_config(parent).get("max_position_embeddings")
    if isinstance(most, int) and sequence_length > most:
        raise InvalidRecipe(
            "data.sequence_length",
            f"found {sequence_length}, allowed by max_position_embeddings of {parent}: at most {most}",
        )


def _config_path(parent: str) -> Path:
    return Path(parent).expanduser() / "config.json"
