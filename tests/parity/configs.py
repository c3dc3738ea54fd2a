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
}  # fmt: skip
