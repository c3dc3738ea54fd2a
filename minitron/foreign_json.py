"""JSON that others wrote: every way in which it can be malformed is a ValueError of one line.

Knows no format, and no more of files than that they may be devices, or without end.
"""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 2**25
"""Of a config or an index of shards: real ones have at most a few hundred kB."""
MAX_DEPTH = 64
"""Levels of nesting: real configs, indexes and tokenizers have at most a dozen."""


def parsed(text: str | bytes) -> Any:
    """Return what a text says.

    Raises:
        ValueError: It is no JSON, no UTF-8, or nested too deeply.
    """
    try:
        content = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise _too_deep() from None
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [each for held in level for each in _held_by(held)]
        if not level:
            return content
    raise _too_deep()


def read_parsed(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Return what a file says.

    Raises:
        OSError: It cannot be read.
        ValueError: As ``parsed``; or it is no ordinary file, or longer than ``max_bytes``.
    """
    return parsed(read_whole(path, max_bytes))


def read_whole(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ordinary file, or longer than ``max_bytes``.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no ordinary file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes:,} bytes")
    return content


def _held_by(value: Any) -> list[Any]:
    """Return what a list or an object holds that may hold something itself."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict | list)]


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {MAX_DEPTH} levels deep")
