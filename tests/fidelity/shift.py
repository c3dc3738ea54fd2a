"""Text of another kind than a parent was trained on: the C++ headers that torch brings."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from minitron.recipe import DataRecipe

SUFFIXES = (".h", ".hpp", ".cuh")


def foreign_text(data: DataRecipe, root: Path) -> DataRecipe:
    """Return a recipe of the same sizes on other text, which is gathered into one file below ``root``."""
    path = root / "headers.jsonl"
    if not path.exists():
        headers = sorted(
            header
            for header in (Path(torch.__file__).parent / "include").rglob("*")
            if header.suffix in SUFFIXES
        )
        lines = (
            json.dumps({"text": header.read_text(encoding="utf-8", errors="replace")}) for header in headers
        )
        scratch = path.with_suffix(".part")
        scratch.write_text("\n".join(lines), encoding="utf-8")
        scratch.rename(path)
    return replace(data, source=str(path))
