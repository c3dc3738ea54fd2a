"""Names of parents and what their ``config.json`` says; free of torch, so that a search can be
planned without loading a model.

A parent is ``builtin:tiny``, ``builtin:smollm2-135m`` or a local Hugging Face directory.
``minitron.builtin`` makes the two builtin ones.
"""

import json
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.errors import UnreadableCheckpoint
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
    path = Path(parent).expanduser() / "config.json"
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
    """Return the checked shape of a parent, from its config alone."""
    architecture = read_architecture(read_config(parent))
    family_named(architecture.family).check(architecture)
    return architecture
