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
MAX_BYTES = 2**27
"""Of a whole header: the largest vocabularies, with a whole ``tokenizer.json`` beside them, take a third."""
MAX_ENTRIES = 2**16
"""Of fields, and of tensors: real files have some dozens, and some thousands."""
MAX_TEXTS = 2**21
"""Of texts in arrays: the largest vocabularies and their merges have a million."""
_PART_BYTES = 2**20
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


class Length(int):
    """Of an array, whose items are read over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Everything before the weights."""

    fields: dict[str, Any]
    """By key; of an array its ``Length``."""
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
                config[name] = self._one(f"{found}.{key}")
        return {"vocab_size": int(self.fields[_TOKENS])} | config

    def _check(self, architecture: str) -> None:
        """Refuse what transformers would leave out without a word."""
        if self._number("split.count") > 1:
            raise UnsupportedModel(
                "split.count: found one file of several, allowed: a whole model in one file"
            )
        if self._number(f"{architecture}.expert_count"):
            raise UnsupportedModel(f"{architecture}.expert_count: found a mixture of experts, allowed: none")
        if not isinstance(self.fields.get(_TOKENS), Length):
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

    def _number(self, key: str) -> int:
        """Return a whole number, 0 where there is none."""
        found = self._one(key) if key in self.fields else 0
        if not isinstance(found, int):
            raise UnsupportedModel(f"{key}: found {found!r}, allowed: a whole number")
        return found

    def _one(self, key: str) -> Any:
        """Return a value that is none of many: layers that differ cannot be pruned here."""
        found = self.fields[key]
        if isinstance(found, Length):
            raise UnsupportedModel(f"{key}: found an array of {found}, allowed: one value for all layers")
        return found


def read_header_of(path: Path) -> GgufHeader:
    """Return the header of a local file.

    Raises:
        UnreadableCheckpoint: As ``read_header``; also where there is no file.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UnreadableCheckpoint(f"{path}: cannot be read: it is no ordinary file")
        with path.open("rb") as file:
            return read_header(file, str(path))
    except OSError as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read: {error.strerror}") from error


def read_header(file: BinaryIO, where: str) -> GgufHeader:
    """Return the header at the beginning of a stream, of which no more is read.

    Raises:
        UnreadableCheckpoint: No GGUF, of another version, cut short, or larger than any real header.
    """
    stream = _Stream(file)
    try:
        num_tensors, num_fields = _counts(stream)
        fields = {_text(stream): _value(stream) for _ in range(num_fields)}
        names = frozenset(_tensor(stream) for _ in range(num_tensors))
    except (ValueError, EOFError) as error:
        raise UnreadableCheckpoint(f"{where}: cannot be read as GGUF: {error}") from error
    return GgufHeader(fields=fields, tensors=names)


class _Stream:
    """What is left of a header's allowance is taken from the front of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes_left = MAX_BYTES
        self._texts_left = MAX_TEXTS

    def take(self, num_bytes: int) -> bytes:
        """Return exactly so many bytes."""
        self._allow(num_bytes)
        self._bytes_left -= num_bytes
        content = self._file.read(num_bytes)
        if len(content) < num_bytes:
            raise EOFError("the file is cut short")
        return content

    def skip(self, num_bytes: int) -> None:
        """Read over so many bytes, and hold few at a time."""
        self._allow(num_bytes)  # of the whole, before any of it is read
        while num_bytes:
            num_bytes -= len(self.take(min(num_bytes, _PART_BYTES)))

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Return numbers in a layout of ``struct``."""
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def skip_texts(self, num_texts: int) -> None:
        """Read over so many texts."""
        if num_texts > self._texts_left:
            raise ValueError(f"found arrays of more than {MAX_TEXTS:,} texts")
        self._texts_left -= num_texts
        for _ in range(num_texts):
            self.skip(*self.unpack("Q"))

    def _allow(self, num_bytes: int) -> None:
        if num_bytes > self._bytes_left:
            raise ValueError(f"found a header of more than {MAX_BYTES:,} bytes")


def _counts(stream: _Stream) -> tuple[int, int]:
    """Return how many tensors and fields are told of, once it is clear that this is GGUF."""
    if stream.take(len(_MAGIC)) != _MAGIC:
        raise ValueError(f"it does not begin with {_MAGIC.decode()}")
    version, num_tensors, num_fields = stream.unpack("IQQ")
    if version not in (2, 3):
        raise ValueError(f"found version {version}, allowed: 2 or 3")
    if max(num_fields, num_tensors) > MAX_ENTRIES:
        raise ValueError(f"found {num_fields} fields and {num_tensors} tensors, allowed: {MAX_ENTRIES:,}")
    return num_tensors, num_fields


def _tensor(stream: _Stream) -> str:
    """Read the name of a tensor, and over its shape, type and place."""
    name = _text(stream)
    (num_dimensions,) = stream.unpack("I")
    if num_dimensions > 8:
        raise ValueError(f"found a tensor of {num_dimensions} dimensions")
    stream.unpack(f"{num_dimensions}QIQ")
    return name


def _value(stream: _Stream) -> Any:
    """Read the type of a value, and the value; of an array return the length."""
    (kind,) = stream.unpack("I")
    if kind == _TEXT:
        return _text(stream)
    if kind != _ARRAY:
        return stream.unpack(_layout(kind))[0]
    of, length = stream.unpack("IQ")
    if of == _TEXT:
        stream.skip_texts(length)
    else:
        stream.skip(length * struct.calcsize(_layout(of)))
    return Length(length)


def _layout(kind: int) -> str:
    if kind == _ARRAY:
        raise ValueError("found an array of arrays, allowed: of numbers or texts")
    if kind not in _NUMBERS:
        raise ValueError(f"found a value of type {kind}, allowed: 0 to {max(_NUMBERS)}")
    return _NUMBERS[kind]


def _text(stream: _Stream) -> str:
    return stream.take(*stream.unpack("Q")).decode("utf-8", errors="replace")
