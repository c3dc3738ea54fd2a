"""What a checkpoint directory holds, told from its files without loading one; free of torch.

So that a search of a parent that cannot be loaded is refused when it is submitted, in milliseconds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minitron.errors import PickledCheckpoint, UnreadableCheckpoint, UnsupportedModel

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER, "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
COMPANION_FILES = (*TOKENIZER_FILES, "generation_config.json", "chat_template.jinja", "chat_template.json")
"""What belongs to a checkpoint besides its config and weights, and is the same for parent and student."""

_HEADER_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, little-endian."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""


def check_weights(directory: Path, config: dict[str, Any]) -> None:
    """Raise unless the weights of a checkpoint are plain and its files whole, as far as headers tell.

    Args:
        directory: Of the checkpoint.
        config: The content of its ``config.json``.

    Raises:
        UnsupportedModel: Quantized weights.
        PickledCheckpoint: Weights only as pickles.
        UnreadableCheckpoint: A file that is missing, cut short or no safetensors file.
    """
    quantization = config.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedModel(
            f"{directory / 'config.json'}: quantization_config: found {method!r}, allowed: plain weights"
        )
    for path in weight_files(directory):
        _check_whole(path)


def check_tokenizer(directory: Path, *, vocab_size: int) -> None:
    """Raise unless there is a tokenizer that can be read, with no more tokens than the model has.

    Raises:
        UnreadableCheckpoint: As above; formats other than ``tokenizer.json`` are judged when loaded.
    """
    found = tokenizer_files(directory)
    if not found:
        raise UnreadableCheckpoint(f"{directory}: holds no tokenizer; allowed: {', '.join(TOKENIZER_FILES)}")
    path = directory / TOKENIZER
    if path not in found:
        return
    try:
        num_tokens = len(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read as a tokenizer: {error!r}") from error
    check_vocabulary(directory, num_tokens, vocab_size)


def check_vocabulary(directory: Path, num_tokens: int, vocab_size: int) -> None:
    """Raise UnreadableCheckpoint when a tokenizer has more tokens, added ones aside, than its model."""
    if num_tokens > vocab_size:
        raise UnreadableCheckpoint(
            f"{directory}: tokenizer: found {num_tokens} tokens, allowed by vocab_size in config.json: "
            f"at most {vocab_size}"
        )


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that hold a checkpoint's weights, in the order of their names.

    Raises:
        PickledCheckpoint: There are only pickles.
        UnreadableCheckpoint: There is nothing, the index is unreadable, or a shard is missing.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    index = directory / WEIGHTS_INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UnreadableCheckpoint(f"{index}: cannot be read as an index of shards: {error!r}") from error
        missing = [name for name in names if not (directory / name).is_file()]
        if missing:
            raise UnreadableCheckpoint(f"{index}: names shards that are missing: {', '.join(missing)}")
        return [directory / name for name in names]
    pickled = sorted(path.name for path in directory.glob("*") if path.suffix in PICKLED_SUFFIXES)
    if pickled:
        raise PickledCheckpoint(
            f"{directory / pickled[0]}: found pickled weights, which can run code when loaded; "
            "allowed: safetensors; convert to safetensors first"
        )
    raise UnreadableCheckpoint(f"{directory}: holds neither {WEIGHTS} nor {WEIGHTS_INDEX}")


def tokenizer_files(directory: Path) -> list[Path]:
    """Return the files of a checkpoint's tokenizer."""
    return _present(directory, TOKENIZER_FILES)


def companion_files(directory: Path) -> list[Path]:
    """Return the files that a student takes over from its parent."""
    return _present(directory, COMPANION_FILES)


def _check_whole(path: Path) -> None:
    """Compare a safetensors file's length with what its header says."""
    try:
        size, expected = path.stat().st_size, _expected_bytes(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read as safetensors: {error!r}") from error
    if size != expected:
        raise UnreadableCheckpoint(f"{path}: found {size} bytes, allowed by its header: {expected}")


def _expected_bytes(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
        # Longer is none that any writer makes, and would be read whole.
        header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
    ends = (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    return _HEADER_LENGTH_BYTES + length + max(ends, default=0)


def _present(directory: Path, names: Sequence[str]) -> list[Path]:
    return [directory / name for name in names if (directory / name).is_file()]
