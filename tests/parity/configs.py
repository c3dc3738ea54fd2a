"""The configs of published models, as their ``config.json`` files say, and of the papers' shapes.

Only entries that fix the shape are kept.
"""

from typing import Any

_NEMOTRON = {
    "model_type": "nemotron", "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 256_000,
    "tie_word_embeddings": False,
}  # fmt: skip
_LLAMA_3 = {
    "model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128_256, "tie_word_embeddings": False,
}  # fmt: skip
_NEMO = {
    "model_type": "mistral", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 131_072, "tie_word_embeddings": False,
}  # fmt: skip


def _shape(layers: int, hidden: int, mlp: int, **rest: Any) -> dict[str, Any]:
    return {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": mlp, **rest}


CONFIGS: dict[str, dict[str, Any]] = {
    "Nemotron-4-15B": _NEMOTRON | _shape(32, 6144, 24576, num_attention_heads=48),
    "Nemotron-3-8B": _NEMOTRON | _shape(32, 4096, 16384, num_attention_heads=32, num_key_value_heads=32),
    "Minitron-8B": _NEMOTRON | _shape(32, 4096, 16384, num_attention_heads=48),
    "Minitron-4B": _NEMOTRON | _shape(32, 3072, 9216, num_attention_heads=24),
    "Llama-3.1-8B": _LLAMA_3 | _shape(32, 4096, 14336),
    "Llama-3.1-Minitron-4B-Width": _LLAMA_3 | _shape(32, 3072, 9216),
    "Llama-3.1-Minitron-4B-Depth": _LLAMA_3 | _shape(16, 4096, 14336),
    "Mistral-NeMo-12B": _NEMO | _shape(40, 5120, 14336),
    "MN-Minitron-8B": _NEMO | _shape(40, 4096, 11520),
    "SmolLM2-135M": {
        "model_type": "llama", "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49_152,
        "tie_word_embeddings": True,
    } | _shape(30, 576, 1536),
    "SmolLM2-1.7B": {
        "model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 49_152,
        "tie_word_embeddings": True,
    } | _shape(24, 2048, 8192),
    "Llama-3.2-1B": _LLAMA_3 | {"head_dim": 64, "tie_word_embeddings": True} | _shape(16, 2048, 8192),
    "Mistral-7B-v0.1": {
        "model_type": "mistral", "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32_000,
        "tie_word_embeddings": False,
    } | _shape(32, 4096, 14336),
    "Qwen2-1.5B": {
        "model_type": "qwen2", "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151_936,
        "tie_word_embeddings": True,
    } | _shape(28, 1536, 8960),
    "Qwen2.5-7B": {
        "model_type": "qwen2", "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064,
        "tie_word_embeddings": False,
    } | _shape(28, 3584, 18944),
    "Qwen3-0.6B": {
        "model_type": "qwen3", "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151_936, "tie_word_embeddings": True,
    } | _shape(28, 1024, 3072),
    "Qwen3-8B": {
        "model_type": "qwen3", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151_936, "tie_word_embeddings": False,
    } | _shape(36, 4096, 12288),
    "Gemma-2-2B": {
        "model_type": "gemma2", "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "vocab_size": 256_000,
    } | _shape(26, 2304, 9216),
    "Gemma-2-9B": {
        "model_type": "gemma2", "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "vocab_size": 256_000,
    } | _shape(42, 3584, 14336),
    "Gemma-3-1B": {
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "vocab_size": 262_144, "sliding_window_pattern": 6,
    } | _shape(26, 1152, 6912),
    "Phi-3-mini-4k": {
        "model_type": "phi3", "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32_064,
        "tie_word_embeddings": False,
    } | _shape(32, 3072, 8192),
    "Phi-4-mini": {
        "model_type": "phi3", "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 200_064,
        "tie_word_embeddings": True, "partial_rotary_factor": 0.75, "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48},
    } | _shape(32, 3072, 8192),
    "Phi-4": {
        "model_type": "phi3", "num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 100_352,
        "tie_word_embeddings": False,
    } | _shape(40, 5120, 17920),
    "OLMo-2-1B": {
        "model_type": "olmo2", "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 100_352,
        "tie_word_embeddings": False,
    } | _shape(16, 2048, 8192),
    "OLMo-2-7B": {
        "model_type": "olmo2", "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100_352,
        "tie_word_embeddings": False,
    } | _shape(32, 4096, 11008),
    "SmolLM3-3B": {
        "model_type": "smollm3", "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 128_256,
        "tie_word_embeddings": True,
    } | _shape(36, 2048, 11008),
    "Granite-3.1-2B": {
        "model_type": "granite", "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 49_155,
        "tie_word_embeddings": True, "attention_multiplier": 0.015625, "embedding_multiplier": 12.0,
        "logits_scaling": 8.0, "residual_multiplier": 0.22,
    } | _shape(40, 2048, 8192),
    "GPT-NeoX-20B": {
        "model_type": "gpt_neox", "num_attention_heads": 64, "vocab_size": 50_432, "tie_word_embeddings": False,
    } | _shape(44, 6144, 24576),
    "Pythia-160M": {
        "model_type": "gpt_neox", "num_attention_heads": 12, "vocab_size": 50_304, "tie_word_embeddings": False,
    } | _shape(12, 768, 3072),
    "GPT-2": {
        "model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024,
        "vocab_size": 50_257,
    },
    "GPT-2-XL": {
        "model_type": "gpt2", "n_layer": 48, "n_embd": 1600, "n_head": 25, "n_positions": 1024,
        "vocab_size": 50_257,
    },
}  # fmt: skip
