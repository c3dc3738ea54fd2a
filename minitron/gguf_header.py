"""What a GGUF file says of its model before its weights, read from a stream; free of torch and numpy.

The layout is that of the GGUF specification, versions 2 and 3, little-endian: magic, version, two counts,
keys with typed values, names and shapes of tensors. A stream, because the file may still lie on the hub.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from minitron.errors import UnreadableCheckpoint, UnsupportedModel

SUFFIX = ".gguf"

VERSION = 1
"""Raised when the same file would give another checkpoint than before."""

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "nemotron")
"""Families that can be pruned here and that transformers can read from GGUF."""

_MAGIC = b"GGUF"
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_MAX_BYTES = 2**26
"""Of one text: longer is none that any writer makes, and would be read whole."""
_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
_HEAD_DIM = {"llama": "rope.dimension_count", "mistral": "rope.dimension_count"}
"""Where transformers finds the size of a head; other families have it in ``attention.key_length``."""
_ROPE_FACTORS = "rope_freqs.weight"
_BIAS = "blk.0.attn_q.bias"
_BIASED = ("qwen2",)
"""Families whose attention always has biases."""
_TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Everything before the weights."""

    fields: dict[str, Any]
    """By key; of an array only its length."""
    tensors: frozenset[str]
    """Names."""

    @property
    def config(self) -> dict[str, Any]:
        """The entries of a Hugging Face config that fix the architecture, as transformers reads them.

        Raises:
            UnsupportedModel: An architecture that cannot be pruned here, or one file of several.
        """
        found = self.fields.get("general.architecture")
        if found not in ARCHITECTURES:
            allowed = ", ".join(ARCHITECTURES)
            raise UnsupportedModel(f"general.architecture: found {found!r}, allowed: {allowed}")
        self._check(found)
        family = "mistral" if self.fields.get("general.name") == "mistral" else found
        config = {"model_type": family, "tie_word_embeddings": "output.weight" not in self.tensors}
        head_dim = {_HEAD_DIM.get(family, "attention.key_length"): "head_dim"}
        for key, name in (_SIZES | head_dim).items():
            if f"{found}.{key}" in self.fields:
                config[name] = self.fields[f"{found}.{key}"]
        if "vocab_size" not in config and _TOKENS in self.fields:
            config["vocab_size"] = self.fields[_TOKENS]
        return config

    def _check(self, architecture: str) -> None:
        """Refuse what transformers would leave out without a word."""
        if self.fields.get("split.count", 0) > 1:
            raise UnsupportedModel(
                "split.count: found one file of several, allowed: a whole model in one file"
            )
        if self.fields.get(f"{architecture}.expert_count", 0):
            raise UnsupportedModel(f"{architecture}.expert_count: found a mixture of experts, allowed: none")
        if _TOKENS not in self.fields:
            raise UnsupportedModel(f"{_TOKENS}: missing, allowed: a file with its tokenizer")
        scaling = self.fields.get(f"{architecture}.rope.scaling.type", "none")
        if scaling != "none" or _ROPE_FACTORS in self.tensors:
            raise UnsupportedModel(
                "rope.scaling: found scaled RoPE, which is not read from GGUF; allowed: the model's safetensors"
            )
        if architecture not in _BIASED and _BIAS in self.tensors:
            raise UnsupportedModel(
                f"{_BIAS}: found a bias, which is not read from GGUF; allowed: the model's safetensors"
            )


def read_header_of(path: Path) -> GgufHeader:
    """Return the header of a local file.

    Raises:
        UnreadableCheckpoint: As ``read_header``; also where there is no file.
    """
    try:
        with path.open("rb") as file:
            return read_header(file, str(path))
    except OSError as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read: {error.strerror}") from error


def read_header(file: BinaryIO, where: str) -> GgufHeader:
    """Return the header at the beginning of a stream, of which no more is read.

    Raises:
        UnreadableCheckpoint: No GGUF, of another version, or cut short.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise UnreadableCheckpoint(
            f"{where}: cannot be read as GGUF: it does not begin with {_MAGIC.decode()}"
        )
    try:
        version, num_tensors, num_fields = _unpack(file, "IQQ")
        _check_version(version)
        fields = {_text(file): _value(file, _unpack(file, "I")[0]) for _ in range(num_fields)}
        names = frozenset(_tensor(file) for _ in range(num_tensors))
    except (ValueError, EOFError, KeyError) as error:
        raise UnreadableCheckpoint(f"{where}: cannot be read as GGUF: {error}") from error
    return GgufHeader(fields=fields, tensors=names)


def _check_version(version: int) -> None:
    if version not in (2, 3):
        raise ValueError(f"found version {version}, allowed: 2 or 3")


def _tensor(file: BinaryIO) -> str:
    """Read the name of a tensor, and over its shape, type and place."""
    name = _text(file)
    (num_dimensions,) = _unpack(file, "I")
    if num_dimensions > 8:
        raise ValueError(f"found a tensor of {num_dimensions} dimensions")
    _unpack(file, f"{num_dimensions}QIQ")
    return name


def _value(file: BinaryIO, kind: int) -> Any:
    """Read one value; of an array return the length."""
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY:
        return _unpack(file, _NUMBERS[kind])[0]
    of, length = _unpack(file, "IQ")
    if of in _NUMBERS:
        _skip(file, length * struct.calcsize(_NUMBERS[of]))
    else:
        for _ in range(length):
            _value(file, of)
    return length


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    return _exactly(file, length).decode("utf-8", errors="replace")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{layout}", _exactly(file, struct.calcsize(f"<{layout}")))


def _skip(file: BinaryIO, num_bytes: int) -> None:
    while num_bytes:
        num_bytes -= len(_exactly(file, min(num_bytes, _MAX_BYTES)))


def _exactly(file: BinaryIO, num_bytes: int) -> bytes:
    if num_bytes > _MAX_BYTES:
        raise ValueError(f"found a text of {num_bytes} bytes")
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise EOFError("the file is cut short")
    return content
