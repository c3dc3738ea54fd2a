"""From a data recipe to token blocks: read, split, tokenized, packed, kept.

Knows no model. Every document is on one side of the split; blocks are full, so there is no padding.
Blocks are kept under a name that is a hash of all they were made from and reopened memory-mapped.

The order is drawn by the seed: that of the files of a source, then, through a shuffle buffer for each side,
that of the passages of its documents, so that few blocks are still drawn from many documents. Each block of a
blend is of one source; which blocks are whose is drawn too.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from minitron.block_file import BlockFile
from minitron.checkpoint import load_tokenizer, tokenizer_fingerprint
from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableData
from minitron.files import new_directory
from minitron.hub import PREFIX
from minitron.packing import BUFFER_CHARACTERS, Encoder, Packer, pack, pack_whole
from minitron.progress import Progress, Report, silent
from minitron.reading import read_documents
from minitron.recipe import DataRecipe
from minitron.sources import content_digest, pinned, state_of
from minitron.split import SHARES, SIDES, Side, apportion

# N blocks, T tokens of a block

BlockArray = npt.NDArray[np.int32]
Quotas = dict[str, dict[Side, int]]
"""How many blocks of each side come from each source, by the field that names it."""

PACKING_VERSION = 3
"""Raised when the same recipe and documents would give other blocks than before."""

LOWER: dict[Side, str] = {
    "validation": "data.validation_tokens",
    "calibration": "calibration.num_tokens",
    "training": "training.num_tokens",
}
"""What asks for the tokens of each side."""

VALIDATION = "data.validation"
_META = "blocks.json"
_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
"""Where a tokenizer may keep its template beside its other files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Token blocks of the three sides of the split, each ``(N, T)`` int32, memory-mapped."""

    calibration_NT: BlockArray
    training_NT: BlockArray
    validation_NT: BlockArray
    fingerprint: str
    """A hash of the data recipe, the content of its sources, the tokenizer and the numbers of blocks."""
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

    Sources are read no further than the blocks need, and never held whole. The blocks of each side are
    shared out to the sources of a blend in proportion to their weights, each share less than one block
    from its exact part.

    Raises:
        UnreadableData: A source is missing, unreadable or holds no text.
        HubError: The hub does not have a dataset, does not give it, or does not answer.
        DatasetTooSmall: A source holds fewer tokens than a side of the split needs of it.
        OutOfSpace: The disk is full.
    """
    recipe = pinned(recipe)
    quotas = _quotas(
        recipe,
        {
            "validation": recipe.validation_blocks,
            "calibration": calibration_blocks,
            "training": training_blocks,
        },
    )
    sources = {field: recipe.all_sources[field] for field in quotas}
    before = {field: state_of(field, source) for field, source in sources.items()}
    digests = {field: content_digest(field, source, report) for field, source in sources.items()}
    fingerprint = _fingerprint(recipe, quotas, digests, tokenizer_dir)
    directory = root / "blocks" / fingerprint
    total = sum(sum(quota.values()) for quota in quotas.values()) * recipe.sequence_length
    if directory.is_dir():
        report(Progress(stage="token blocks", done=total, total=total, unit="tokens", is_cached=True))
        return open_blocks(directory)
    tokenizer = load_tokenizer(tokenizer_dir)
    with new_directory(directory) as scratch:
        done = 0

        def count(num_tokens: int) -> None:
            nonlocal done
            done += num_tokens
            report(Progress(stage="token blocks", done=done, total=total, unit="tokens"))

        count(0)
        _write_blocks(recipe, quotas, Encoder(tokenizer), scratch, count)
        for field, source in sources.items():
            if state_of(field, source) != before[field]:
                raise UnreadableData(f"{field}: {source.source}: was written to while it was read; try again")
        meta = {
            "fingerprint": fingerprint,
            "validation_bytes": _num_bytes(tokenizer, np.load(scratch / "validation.npy", mmap_mode="r")),
            "sources": [asdict(source) | {"content": digests[field]} for field, source in sources.items()],
        }
        (scratch / _META).write_text(json.dumps(meta), encoding="utf-8")
    return open_blocks(directory)


def open_blocks(directory: Path) -> Blocks:
    """Return the blocks that ``prepare_blocks`` left in a directory, memory-mapped.

    Raises:
        ArtifactMismatch: The directory holds no such blocks.
    """
    try:
        meta = json.loads((directory / _META).read_text(encoding="utf-8"))
        arrays = {side: np.load(directory / f"{side}.npy", mmap_mode="r") for side in SIDES}
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactMismatch(f"{directory}: cannot be read as token blocks: {error}") from error
    return Blocks(
        calibration_NT=arrays["calibration"],
        training_NT=arrays["training"],
        validation_NT=arrays["validation"],
        fingerprint=meta["fingerprint"],
        validation_bytes=meta["validation_bytes"],
    )


def _quotas(recipe: DataRecipe, needed: dict[Side, int]) -> Quotas:
    """Share out the blocks; sources that get none are left out, and are not read."""
    quotas: Quotas = {}
    if recipe.validation is not None:
        quotas[VALIDATION] = dict.fromkeys(SIDES, 0) | {"validation": needed["validation"]}
        needed = needed | {"validation": 0}
    sources = recipe.sources
    weights = [source.weight for source in sources.values()]
    shares = {side: apportion(needed[side], weights) for side in SIDES}
    for number, field in enumerate(sources):
        quotas[field] = {side: shares[side][number] for side in SIDES}
    return {field: quota for field, quota in quotas.items() if any(quota.values())}


def _fingerprint(recipe: DataRecipe, quotas: Quotas, digests: dict[str, str], tokenizer_dir: Path) -> str:
    templates = [tokenizer_dir / name for name in _CHAT_TEMPLATES if (tokenizer_dir / name).is_file()]
    parts = {
        "packing": PACKING_VERSION,
        "sequence_length": recipe.sequence_length,
        "seed": recipe.seed,
        # The same text gives the same blocks wherever it lies.
        "sources": [
            [digests[field], recipe.all_sources[field].text_field, field == VALIDATION, quota]
            for field, quota in quotas.items()
        ],
        "tokenizer": tokenizer_fingerprint(tokenizer_dir),
        "chat_template": [path.read_text(encoding="utf-8") for path in templates],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write_blocks(
    recipe: DataRecipe, quotas: Quotas, encoder: Encoder, directory: Path, count: Callable[[int], None]
) -> None:
    """Fill a file of blocks for each side from one source after another; ``count`` is told of tokens."""
    seen: set[bytes] = set()
    with ExitStack() as stack:
        files = {}
        for side in SIDES:
            num_blocks = sum(quota[side] for quota in quotas.values())
            file = BlockFile(
                directory / f"{side}.npy", num_blocks, recipe.sequence_length, seed=f"{recipe.seed} {side}"
            )
            files[side] = stack.enter_context(file)
        for field, quota in quotas.items():
            packers = {
                side: Packer(
                    files[side].writer(quota[side]),
                    encoder=encoder,
                    num_tokens=quota[side] * recipe.sequence_length,
                    buffer_characters=BUFFER_CHARACTERS * SHARES[side],
                    seed=f"{recipe.seed} {field} {side}",
                    count=count,
                )
                for side in SIDES
            }
            _fill(recipe, field, packers, encoder, seen)


def _fill(
    recipe: DataRecipe, field: str, packers: dict[Side, Packer], encoder: Encoder, seen: set[bytes]
) -> None:
    """Fill what one source is to fill."""
    source = recipe.all_sources[field]
    with closing(read_documents(field, source, seed=recipe.seed)) as documents:
        if field == VALIDATION:
            is_here = not source.source.startswith(PREFIX)
            pack_whole(documents, packers["validation"], seen=seen, read_to_end=is_here)
        else:
            pack(documents, packers, seen=seen, encoder=encoder)
    for side, packer in packers.items():
        if packer.missing:
            its_weight = f" or {field}.weight" if len(recipe.sources) > 1 and field != VALIDATION else ""
            raise DatasetTooSmall(
                f"{field}: {source.source}: {side}: found {packer.found} tokens, needed {packer.needed}; "
                f"lower {LOWER[side]}{its_weight}, or give more text"
            )


def _num_bytes(tokenizer: PreTrainedTokenizerBase, blocks_NT: BlockArray) -> int:
    """UTF-8 bytes of what blocks decode to, special tokens left out."""
    texts = (tokenizer.decode(block_T.tolist(), skip_special_tokens=True) for block_T in blocks_NT)
    return sum(len(str(text).encode()) for text in texts)
