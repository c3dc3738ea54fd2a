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
    "pad_token_id": None,
}
_NAMES = {
    "num_hidden_layers": "n_layer", "hidden_size": "n_embd", "intermediate_size": "n_inner",
    "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
}  # fmt: skip
"""What GPT-2 calls the entries of the common shape."""
_LACKING = {"gpt2": ("num_key_value_heads", "head_dim"), "gpt_neox": ("num_key_value_heads", "head_dim")}
"""Entries that a family does not have."""

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
    "smollm3": {
        "model_type": "smollm3", "tie_word_embeddings": True, "no_rope_layer_interval": 3,
        "use_sliding_window": True, "sliding_window": 4,
    },
    "granite": {
        "model_type": "granite", "tie_word_embeddings": True, "embedding_multiplier": 3.0,
        "logits_scaling": 4.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2,
    },
    "gemma2": {"model_type": "gemma2", "tie_word_embeddings": True, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "gemma2-untied": {"model_type": "gemma2", "final_logit_softcapping": None, "head_dim": 10},
    "gemma3_text": {
        "model_type": "gemma3_text", "tie_word_embeddings": True, "sliding_window": 4,
        "sliding_window_pattern": 3, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0,
    },
    "phi3": {"model_type": "phi3", "partial_rotary_factor": 0.5, "head_dim": 12},
    "phi3-long": {
        "model_type": "phi3", "original_max_position_embeddings": 256,
        "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0],
        },
    },
    "olmo2": {"model_type": "olmo2"},
    "gpt_neox": {"model_type": "gpt_neox"},
    "gpt_neox-serial": {
        "model_type": "gpt_neox", "use_parallel_residual": False, "attention_bias": False,
        "tie_word_embeddings": True, "rotary_pct": 1.0,
    },
    "gpt2": {"model_type": "gpt2", "tie_word_embeddings": True},
    "gpt2-untied": {"model_type": "gpt2"},
}  # fmt: skip
"""What each differs in from the common shape; 6 heads in 2 groups, so that groups have an inside."""

NAMES = tuple(CONFIGS)


def tiny_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The entries of a ``config.json``, as the family calls those of the common shape."""
    entries = _SHAPE | CONFIGS[name] | overrides
    family = entries["model_type"]
    names = _NAMES if family == "gpt2" else {}
    return {
        names.get(key, key): value for key, value in entries.items() if key not in _LACKING.get(family, ())
    }


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
