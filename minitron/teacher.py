"""What the teacher says about training blocks: asked live, or once and read from disk by every trial.

Two cached forms, each a directory of .npy files that are mapped into memory:

``top_k``   the k likeliest tokens, their log-probabilities in float16 and the log of the rest's mass;
            serves the KL family at temperature 1.
``hidden``  final hidden states in float32; with the teacher's output head they give its logits exactly.

A live teacher too says final hidden states, so that nobody holds the logits of a batch. Knows no student and no loss.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minitron.costs import tokens_at_once
from minitron.device import autocast, inference
from minitron.errors import ArtifactMismatch
from minitron.files import new_directory
from minitron.head import Head, final_hidden, head_of, product_dtype
from minitron.progress import Progress, Report, silent
from minitron.recipe import CacheForm, DistillationRecipe, Precision
from minitron.sharding import within

# N blocks in all, B blocks of a batch, T tokens of a block, V vocabulary, K likeliest tokens, D hidden

CACHE_VERSION = 1
"""Raised when cached answers of the same teacher on the same blocks change meaning."""

_METADATA = "metadata.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopKAnswer:
    """A distribution over k tokens and one bucket for all others; it sums to 1 up to rounding."""

    token_ids_BTK: Tensor
    """int64; distinct along the last axis."""
    log_probs_BTK: Tensor
    """float32."""
    log_rest_BT: Tensor
    """float32; minus infinity when k is the whole vocabulary."""

    def part(self, tokens: slice) -> "TopKAnswer":
        """Return the answers to some tokens of the batch, which count through its blocks."""
        return TopKAnswer(
            token_ids_BTK=self.token_ids_BTK.flatten(0, 1)[tokens],
            log_probs_BTK=self.log_probs_BTK.flatten(0, 1)[tokens],
            log_rest_BT=self.log_rest_BT.flatten(0, 1)[tokens],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HiddenAnswer:
    """The teacher's final hidden states, of which its head makes logits; of any temperature."""

    hidden_BTD: Tensor
    head: Head
    """Without gradients, in the precision and on the device of the hidden states."""

    def part(self, tokens: slice) -> Tensor:
        """Return the logits at some tokens of the batch, which count through its blocks."""
        return self.head.logits(self.hidden_BTD.flatten(0, 1)[tokens])


Answer = TopKAnswer | HiddenAnswer


class Teacher(Protocol):
    """Answers for training blocks, on the device of the tokens and without gradients."""

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> Answer:
        """Return the next-token distribution at every position of the blocks.

        Args:
            block_ids_B: Rows of the training blocks, int64 on the CPU; what a cache is asked by.
            input_ids_BT: The tokens of these rows; what a live model is asked by.
        """
        ...


class LiveTeacher:
    """A model that is run beside the student."""

    def __init__(self, model: PreTrainedModel, precision: Precision) -> None:
        self.model = model
        self._precision = precision

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> HiddenAnswer:  # noqa: ARG002
        """Run the model on the tokens."""
        device = self.model.device
        with inference(self.model), autocast(device, self._precision):
            answer: HiddenAnswer = within(self.model, lambda: self._answer(input_ids_BT.to(device)))
        return answer

    def _answer(self, input_ids_BT: Tensor) -> HiddenAnswer:
        head = head_of(self.model).detached()
        dtype = product_dtype(head.weight_VD)
        return HiddenAnswer(hidden_BTD=final_hidden(self.model, input_ids_BT).to(dtype), head=head.to(dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    """What a cache holds and what it was made from."""

    version: int
    fingerprint: str
    form: CacheForm
    num_blocks: int
    sequence_length: int
    width: int
    """k, or the hidden size."""


class _TopKCache:
    def __init__(self, directory: Path) -> None:
        self._token_ids_NTK = _mapped(directory / "token_ids.npy")
        self._log_probs_NTK = _mapped(directory / "log_probs.npy")
        self._log_rest_NT = _mapped(directory / "log_rest.npy")

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> TopKAnswer:
        device = input_ids_BT.device
        return TopKAnswer(
            token_ids_BTK=self._token_ids_NTK[block_ids_B].to(device).long(),
            log_probs_BTK=self._log_probs_NTK[block_ids_B].to(device).float(),
            log_rest_BT=self._log_rest_NT[block_ids_B].to(device),
        )


class _HiddenCache:
    def __init__(self, directory: Path, head: Head) -> None:
        self._hidden_NTD = _mapped(directory / "hidden.npy")
        self._head = head.detached()

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> HiddenAnswer:  # noqa: ARG002
        hidden_BTD = self._hidden_NTD[block_ids_B].to(self._head.weight_VD.device)
        return HiddenAnswer(hidden_BTD=hidden_BTD, head=self._head)


class PartTeacher:
    """Kept answers to some of the blocks, asked by the rows of all.

    Args:
        answers: To the blocks ``block_ids_M``, in this order.
        block_ids_M: Rows of the training blocks; it is asked about no other.
        num_blocks: Training blocks in all.
    """

    def __init__(self, answers: Teacher, block_ids_M: npt.NDArray[np.int64], *, num_blocks: int) -> None:
        self._answers = answers
        self._rows_N = torch.full((num_blocks,), -1)
        self._rows_N[torch.from_numpy(block_ids_M)] = torch.arange(len(block_ids_M))

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> Answer:
        """Return what was kept of these blocks."""
        rows_B = self._rows_N[block_ids_B]
        assert rows_B.min() >= 0, f"asked about other blocks: {block_ids_B[rows_B < 0].tolist()}"
        return self._answers.answer(rows_B, input_ids_BT)


def open_teacher_cache(directory: Path, *, expected_fingerprint: str, head: Head | None) -> Teacher:
    """Map a cache into memory.

    Args:
        directory: Made by ``build_teacher_cache``.
        expected_fingerprint: Of what the cache must have been made from.
        head: The teacher's, in float32; needed by the ``hidden`` form, unused by the other.

    Raises:
        ArtifactMismatch: No such cache, one made from something else, or ``hidden`` without a head.
    """
    metadata = _read_metadata(directory, expected_fingerprint)
    if metadata.form == "top_k":
        return _TopKCache(directory)
    if head is None:
        raise ArtifactMismatch(f"{directory}: found hidden states, allowed without the teacher's head: top_k")
    return _HiddenCache(directory, head)


def build_teacher_cache(
    model: PreTrainedModel,
    blocks_NT: npt.NDArray[np.int32],
    recipe: DistillationRecipe,
    directory: Path,
    *,
    fingerprint: str,
    batch_size: int,
    precision: Precision = "float32",
    report: Report = silent,
) -> None:
    """Ask the teacher about every block and keep its answers; a cache that is there is kept as it is.

    The directory appears when it is complete. ``recipe.top_k`` is cut to the vocabulary.

    Raises:
        ArtifactMismatch: The directory holds a cache of something else.
        OutOfSpace: The disk is full.
    """
    num_blocks, sequence_length = blocks_NT.shape
    if directory.exists():
        _read_metadata(directory, fingerprint)
        report(_progress(num_blocks, num_blocks, is_cached=True))
        return
    top_k = min(recipe.top_k, model.config.vocab_size)
    width = top_k if recipe.cache_form == "top_k" else model.config.hidden_size
    metadata = _Metadata(
        version=CACHE_VERSION,
        fingerprint=fingerprint,
        form=recipe.cache_form,
        num_blocks=num_blocks,
        sequence_length=sequence_length,
        width=width,
    )
    with new_directory(directory) as scratch, inference(model):
        with _writers(scratch, metadata) as writers:
            for start in range(0, num_blocks, batch_size):
                batch_BT = torch.from_numpy(blocks_NT[start : start + batch_size].astype(np.int64))
                with autocast(model.device, precision):
                    arrays = _ask(model, batch_BT.to(model.device), metadata)
                for name, array in arrays.items():
                    writers[name].write(array.contiguous().cpu().numpy().data)
                report(_progress(start + len(batch_BT), num_blocks))
        (scratch / _METADATA).write_text(json.dumps(asdict(metadata), indent=1), encoding="utf-8")


def _ask(model: PreTrainedModel, input_ids_BT: Tensor, metadata: _Metadata) -> dict[str, Tensor]:
    hidden_BTD = final_hidden(model, input_ids_BT)
    if metadata.form == "hidden":
        return {"hidden": hidden_BTD.float()}
    head = head_of(model)
    chunks = torch.split(hidden_BTD.flatten(0, 1), tokens_at_once(head.weight_VD.shape[0]))
    parts = zip(*(_likeliest(head, hidden_CD, metadata.width) for hidden_CD in chunks), strict=True)
    token_ids, log_probs, log_rest = (torch.cat(part) for part in parts)
    return {"token_ids": token_ids.int(), "log_probs": log_probs.half(), "log_rest": log_rest}


def _likeliest(head: Head, hidden_CD: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    log_probs_CV = head.logits(hidden_CD).float().log_softmax(dim=-1)
    log_probs_CK, token_ids_CK = log_probs_CV.topk(k, dim=-1)
    # The mass of the rest is summed over the rest itself: 1 minus the kept mass would cancel.
    log_rest_C = log_probs_CV.scatter_(-1, token_ids_CK, -torch.inf).logsumexp(dim=-1)
    return token_ids_CK, log_probs_CK, log_rest_C


@contextmanager
def _writers(directory: Path, metadata: _Metadata) -> Iterator[dict[str, BinaryIO]]:
    """Open the .npy files of a form, headers written.

    They are written in order rather than mapped: a full disk then raises, where a mapped page kills.
    """
    per_token = (metadata.num_blocks, metadata.sequence_length)
    per_entry = (*per_token, metadata.width)
    layouts: dict[CacheForm, dict[str, tuple[str, tuple[int, ...]]]] = {
        "top_k": {
            "token_ids": ("<i4", per_entry),
            "log_probs": ("<f2", per_entry),
            "log_rest": ("<f4", per_token),
        },
        "hidden": {"hidden": ("<f4", per_entry)},
    }
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name, (dtype, shape) in layouts[metadata.form].items():
            files[name] = stack.enter_context((directory / f"{name}.npy").open("wb"))
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(files[name], header)
        yield files


def _mapped(path: Path) -> Tensor:
    """Map a file as a tensor; copy-on-write, since torch takes no read-only memory."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def _read_metadata(directory: Path, expected_fingerprint: str) -> _Metadata:
    path = directory / _METADATA
    if not path.is_file():
        raise ArtifactMismatch(f"{path}: found nothing, allowed: a complete teacher cache")
    metadata = _Metadata(**json.loads(path.read_text(encoding="utf-8")))
    found = (metadata.fingerprint, metadata.version)
    if found != (expected_fingerprint, CACHE_VERSION):
        raise ArtifactMismatch(
            f"{path}: found answers {found[0]} of version {found[1]}, "
            f"allowed: {expected_fingerprint} of version {CACHE_VERSION}"
        )
    return metadata


def _progress(done: int, total: int, *, is_cached: bool = False) -> Progress:
    return Progress(stage="teacher answers", done=done, total=total, unit="blocks", is_cached=is_cached)
