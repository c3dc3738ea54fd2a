"""From documents to token blocks: split, tokenize, pack, keep.

Knows no model. Every document is on one side of the split; blocks are full, so there is no padding.
Blocks are kept under a name that is a hash of all they were made from and reopened memory-mapped.
"""

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from minitron.checkpoint import load_tokenizer, tokenizer_fingerprint
from minitron.documents import passages, read_documents
from minitron.errors import ArtifactMismatch, DatasetTooSmall
from minitron.files import new_directory
from minitron.progress import Progress, Report, silent
from minitron.recipe import DataRecipe
from minitron.sources import source_digest

# N blocks, T tokens of a block

BlockArray = npt.NDArray[np.int32]

PACKING_VERSION = 2
"""Raised when the same recipe and documents would give other blocks than before."""

VALIDATION_SHARE = 0.05
CALIBRATION_SHARE = 0.10
"""A document's side is a function of its text alone, so no recipe or seed moves it to another; only when a
side holds too few tokens does it borrow from training."""

LOWER = {
    "validation": "data.validation_tokens",
    "calibration": "calibration.num_samples",
    "training": "training.num_tokens",
}
"""What asks for the tokens of each side."""

_META = "blocks.json"
_PASSAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Token blocks of the three sides of the split, each ``(N, T)`` int32, memory-mapped."""

    calibration_NT: BlockArray
    training_NT: BlockArray
    validation_NT: BlockArray
    fingerprint: str
    """A hash of the data recipe, the source's content, the tokenizer and the numbers of blocks."""
    validation_bytes: int
    """UTF-8 bytes of the text that the validation blocks decode to, special tokens left out."""


def prepare_blocks(
    recipe: DataRecipe,
    tokenizer_dir: Path,
    *,
    calibration_blocks: int,
    training_blocks: int,
    root: Path,
    report: Report = silent,
) -> Blocks:
    """Return the blocks of a recipe, made once and kept under ``root/blocks/<fingerprint>``.

    Raises:
        UnreadableData: The source is missing, unreadable or holds no text.
        DatasetTooSmall: A side of the split holds fewer tokens than were asked for.
        OutOfSpace: The disk is full.
    """
    needed = {
        "validation": recipe.validation_blocks,
        "calibration": calibration_blocks,
        "training": training_blocks,
    }
    fingerprint = _fingerprint(recipe, tokenizer_dir, needed)
    directory = root / "blocks" / fingerprint
    total = sum(needed.values()) * recipe.sequence_length
    if directory.is_dir():
        report(Progress(stage="token blocks", done=total, total=total, unit="tokens", is_cached=True))
        return open_blocks(directory)
    tokenizer = load_tokenizer(tokenizer_dir)
    sides = split_documents(read_documents(recipe.source, text_field=recipe.text_field), seed=recipe.seed)
    done = 0
    with new_directory(directory) as scratch:
        for side, num_blocks in needed.items():
            blocks_NT = _pack(
                sides, side, num_blocks, recipe, tokenizer, report=report, done=done, total=total
            )
            np.save(scratch / f"{side}.npy", blocks_NT)
            done += blocks_NT.size
            if side == "validation":
                texts = tokenizer.batch_decode(blocks_NT.tolist(), skip_special_tokens=True)
        meta = {"fingerprint": fingerprint, "validation_bytes": sum(len(text.encode()) for text in texts)}
        (scratch / _META).write_text(json.dumps(meta), encoding="utf-8")
    return open_blocks(directory)


def open_blocks(directory: Path) -> Blocks:
    """Return the blocks that ``prepare_blocks`` left in a directory, memory-mapped.

    Raises:
        ArtifactMismatch: The directory holds no such blocks.
    """
    try:
        meta = json.loads((directory / _META).read_text(encoding="utf-8"))
        arrays = {side: np.load(directory / f"{side}.npy", mmap_mode="r") for side in LOWER}
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactMismatch(f"{directory}: cannot be read as token blocks: {error}") from error
    return Blocks(
        calibration_NT=arrays["calibration"],
        training_NT=arrays["training"],
        validation_NT=arrays["validation"],
        fingerprint=meta["fingerprint"],
        validation_bytes=meta["validation_bytes"],
    )


def _fingerprint(recipe: DataRecipe, tokenizer_dir: Path, needed: dict[str, int]) -> str:
    parts = {
        "packing": PACKING_VERSION,
        # The same text gives the same blocks wherever it lies.
        "recipe": asdict(recipe) | {"source": source_digest(recipe.source)},
        "tokenizer": tokenizer_fingerprint(tokenizer_dir),
        "blocks": needed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def split_documents(documents: list[str], *, seed: int) -> dict[str, list[str]]:
    """Assign each document to a side by a hash of its text, then shuffle each side by the seed.

    Returns:
        The documents of "validation", "calibration" and "training".
    """
    sides: dict[str, list[str]] = {side: [] for side in LOWER}
    for document in documents:
        position = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") / 2**64
        if position < VALIDATION_SHARE:
            sides["validation"].append(document)
        elif position < VALIDATION_SHARE + CALIBRATION_SHARE:
            sides["calibration"].append(document)
        else:
            sides["training"].append(document)
    for side in sides.values():
        side.sort()
        random.Random(seed).shuffle(side)  # noqa: S311 - an order, not a secret
    return sides


def _pack(
    sides: dict[str, list[str]],
    side: str,
    num_blocks: int,
    recipe: DataRecipe,
    tokenizer: PreTrainedTokenizerBase,
    *,
    report: Report,
    done: int,
    total: int,
) -> BlockArray:
    """Tokenize passages of a side, then of what it must borrow from training, until the blocks are full.

    Passages of all documents are shuffled, so that few blocks are still drawn from many documents; what is
    borrowed is whole documents, so that none is on two sides.
    """
    needed = num_blocks * recipe.sequence_length
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    pending = [passage for document in sides.pop(side) for passage in passages(document)]
    random.Random(recipe.seed).shuffle(pending)  # noqa: S311 - an order, not a secret
    tokens: list[int] = []
    while len(tokens) < needed:
        if not pending and sides.get("training"):
            pending = passages(sides["training"].pop())
        if not pending:
            raise DatasetTooSmall(
                f"data.source: {recipe.source}: {side}: found {len(tokens)} tokens, needed {needed}; "
                f"lower {LOWER[side]} or give more text"
            )
        batch, pending = pending[:_PASSAGES_AT_ONCE], pending[_PASSAGES_AT_ONCE:]
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            tokens += ids + end
        now = done + min(len(tokens), needed)
        report(Progress(stage="token blocks", done=now, total=total, unit="tokens"))
    return np.array(tokens[:needed], dtype=np.int32).reshape(num_blocks, recipe.sequence_length)
