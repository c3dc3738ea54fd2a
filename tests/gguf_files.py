"""GGUF files as llama.cpp's converter writes them, of a tiny Llama with a tokenizer of bytes."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers

from tests.tiny import tiny_model

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
}
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|end|>", *ALPHABET, "12"]
MERGES = ["1 2"]
_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(
    path: Path, *, kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0, pre: str = "gpt-2", **fields: Any
) -> dict[str, np.ndarray]:
    """Write a random model, and return the weights that the file holds, by their Hugging Face names.

    Args:
        path: Of the file.
        kind: How the matrices are stored.
        pre: The rule by which text is cut.
        fields: Further ones, by their name with ``__`` for each dot; None leaves one out.
    """
    model = tiny_model("llama", vocab_size=len(TOKENS), **SHAPE)
    config = model.config
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    stated = {
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.rope.dimension_count": config.head_dim,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.eos_token_id": 0,
    } | {name.replace("__", "."): value for name, value in fields.items()}
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    for name, value in stated.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, *[1] * (len(TOKENS) - 1)])
    writer.add_token_merges(MERGES)
    held = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        weight = tensor.numpy()
        held[name] = weight
        if weight.ndim == 2:
            held[name] = dequantize(quantize(weight, kind), kind)
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
            weight = quantize(_permuted(weight, heads.get(name.split(".")[-2])), kind)
        writer.add_tensor(_gguf_name(name), weight, raw_dtype=kind if weight.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _permuted(weight: np.ndarray, heads: int | None) -> np.ndarray:
    """Rows of queries and keys in the order of GGUF's rotary embedding."""
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def reader_of(path: Path) -> gguf.GGUFReader:
    """What the reference implementation reads."""
    return gguf.GGUFReader(path)
