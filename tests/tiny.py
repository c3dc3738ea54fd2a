"""Tiny random Hugging Face models of every family, and blocks of tokens for them.

Norm weights and biases are random too, so that a wrongly permuted or sliced one shows.
"""

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCAB_SIZE = 128
SEQUENCE_LENGTH = 16

_SHAPE: dict[str, Any] = {
    "num_hidden_layers": 4,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "llama-untied": {"model_type": "llama"},
    "llama-biased": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", "head_dim": 10},
    "qwen2": {
        "model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 12},
    "nemotron": {"model_type": "nemotron"},
}  # fmt: skip
"""What each differs in from the common shape; 6 heads in 2 groups, so that groups have an inside."""

NAMES = tuple(CONFIGS)


def tiny_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The entries of a ``config.json``."""
    return _SHAPE | CONFIGS[name] | overrides


def tiny_model(name: str = "llama", *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A random model in evaluation mode; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**tiny_config(name, **overrides)))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
                else:
                    parameter.normal_(std=0.15)
    return model.eval()


def random_blocks(
    num_blocks: int, *, sequence_length: int = SEQUENCE_LENGTH, vocab_size: int = VOCAB_SIZE, seed: int = 0
) -> np.ndarray:
    """Blocks of evenly drawn tokens, int32."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, vocab_size, (num_blocks, sequence_length), dtype=np.int32)


def text_blocks(num_blocks: int, *, sequence_length: int = SEQUENCE_LENGTH, seed: int = 0) -> np.ndarray:
    """Blocks of ASCII bytes of generated sentences: tokens that a model can learn to predict, int32."""
    generator = np.random.default_rng(seed)
    nouns, verbs = ("model", "layer", "head", "token", "budget"), ("prunes", "keeps", "reads", "doubts")
    text = ""
    while len(text) < num_blocks * sequence_length:
        text += f"the {generator.choice(nouns)} {generator.choice(verbs)} a {generator.choice(nouns)}. "
    tokens = np.frombuffer(text.encode("ascii"), dtype=np.uint8)[: num_blocks * sequence_length]
    return tokens.astype(np.int32).reshape(num_blocks, sequence_length)


def logits_of(model: PreTrainedModel, blocks: np.ndarray) -> torch.Tensor:
    """The logits of all blocks in one forward pass."""
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(blocks.astype(np.int64)), use_cache=False).logits
