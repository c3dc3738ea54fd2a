"""What a checkpoint directory holds, told from its files without loading one; free of torch.

So that a search of a parent that cannot be loaded is refused when it is submitted, in milliseconds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from minitron.errors import PickledCheckpoint, UnreadableCheckpoint, UnsupportedModel
from minitron.families import checked_architecture
from minitron.foreign_json import parsed, read_parsed, read_whole
from minitron.tensor_headers import Shape, check_tensors

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    TOKENIZER, "tokenizer.model", TOKENIZER_CONFIG, "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
COMPANION_FILES = (*TOKENIZER_FILES, "generation_config.json", *CHAT_TEMPLATES)
"""What belongs to a checkpoint besides its config and weights, and is the same for parent and student."""

_MAX_TOKENIZER_BYTES = 2**28
"""Of a ``tokenizer.json``: the largest have a seventh."""
_HEADER_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, little-endian."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""


def check_weights(directory: Path, config: dict[str, Any]) -> None:
    """Raise unless the weights of a checkpoint are plain, its files whole and all its tensors there, as headers tell.

    Args:
        directory: Of the checkpoint.
        config: The content of its ``config.json``.

    Raises:
        UnsupportedModel: A family that cannot be pruned here, or quantized weights.
        InvalidArchitecture: Sizes that contradict each other.
        PickledCheckpoint: Weights only as pickles.
        UnreadableCheckpoint: A file that is missing, cut short or no safetensors file; tensors that are missing or of
            the wrong shape.
    """
    check_plain(config, str(directory))
    shapes: dict[str, Shape] = {}
    for path in weight_files(directory):
        shapes |= _shapes_in(path)
    check_tensors(shapes, checked_architecture(config, f"{directory}/config.json"), str(directory))


def check_plain(config: Mapping[str, Any], where: str) -> None:
    """Raise UnsupportedModel where the ``config.json`` of a checkpoint says that its weights are quantized."""
    quantization = config.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedModel(
            f"{where}/config.json: quantization_config: found {method!r}, allowed: plain weights"
        )


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
        num_tokens = len(read_parsed(path, _MAX_TOKENIZER_BYTES)["model"]["vocab"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read as a tokenizer: {error!r}") from error
    check_vocabulary(directory, num_tokens, vocab_size)


def has_chat_template(directory: Path) -> bool:
    """Return whether a checkpoint brings a template for chats, in a file of its own or in the tokenizer's config."""
    if _present(directory, CHAT_TEMPLATES):
        return True
    try:
        config = read_parsed(directory / TOKENIZER_CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


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
        PickledCheckpoint, UnreadableCheckpoint: As ``weight_names``.
    """
    names = {path.name for path in directory.glob("*") if path.is_file()}
    found = weight_names(names, str(directory), lambda name: read_whole(directory / name))
    return [directory / name for name in found]


def weight_names(names: Collection[str], where: str, read: Callable[[str], bytes]) -> list[str]:
    """Return which of the files of a checkpoint hold its weights, sorted.

    Args:
        names: Of all its files.
        where: The checkpoint lies, for people.
        read: Returns the content of one of the files.

    Raises:
        PickledCheckpoint: There are only pickles.
        UnreadableCheckpoint: There is nothing, the index is unreadable, or a shard is missing.
    """
    if WEIGHTS in names:
        return [WEIGHTS]
    if WEIGHTS_INDEX in names:
        index = f"{where}/{WEIGHTS_INDEX}"
        try:
            shards = sorted(set(map(_named, parsed(read(WEIGHTS_INDEX))["weight_map"].values())))
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise UnreadableCheckpoint(f"{index}: cannot be read as an index of shards: {error!r}") from error
        missing = [name for name in shards if name not in names]
        if missing:
            raise UnreadableCheckpoint(f"{index}: names shards that are missing: {', '.join(missing)}")
        return shards
    pickled = sorted(name for name in names if name.endswith(PICKLED_SUFFIXES))
    if pickled:
        raise PickledCheckpoint(
            f"{where}/{pickled[0]}: found pickled weights, which can run code when loaded; "
            "allowed: safetensors; convert to safetensors first"
        )
    raise UnreadableCheckpoint(f"{where}: holds neither {WEIGHTS} nor {WEIGHTS_INDEX}")


def _named(name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"found a shard called {name!r}")
    return name


def tokenizer_files(directory: Path) -> list[Path]:
    """Return the files of a checkpoint's tokenizer."""
    return _present(directory, TOKENIZER_FILES)


def companion_files(directory: Path) -> list[Path]:
    """Return the files that a student takes over from its parent."""
    return _present(directory, COMPANION_FILES)


def _shapes_in(path: Path) -> dict[str, Shape]:
    """Return the shapes of a safetensors file's tensors, once its length is what its header says."""
    try:
        size, (expected, shapes) = path.stat().st_size, _header_of(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableCheckpoint(f"{path}: cannot be read as safetensors: {error!r}") from error
    if size != expected:
        raise UnreadableCheckpoint(f"{path}: found {size} bytes, allowed by its header: {expected}")
    return shapes


def _header_of(path: Path) -> tuple[int, dict[str, Shape]]:
    """Return the length that a safetensors file must have, and the shapes of its tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
        # Longer is none that any writer makes, and would be read whole.
        header = parsed(file.read(min(length, _MAX_HEADER_BYTES)))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    return _HEADER_LENGTH_BYTES + length + end, {
        name: tuple(entry["shape"]) for name, entry in tensors.items()
    }


def _present(directory: Path, names: Sequence[str]) -> list[Path]:
    return [directory / name for name in names if (directory / name).is_file()]
