"""What the teacher says about training blocks: asked live, or once and read from disk by every trial.

Two cached forms, each a directory of .npy files that are mapped into memory:

``top_k``   the k likeliest tokens, their log-probabilities in float16 and the log of the rest's mass;
            serves the KL family at temperature 1.
``hidden``  final hidden states in float32; with the teacher's output head they give its logits exactly.

Knows no student and no loss.
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
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, output_head
from minitron.device import autocast, inference
from minitron.errors import ArtifactMismatch
from minitron.files import new_directory
from minitron.progress import Progress, Report, silent
from minitron.recipe import CacheForm, DistillationRecipe, Precision

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitsAnswer:
    """The teacher's logits, of any temperature."""

    logits_BTV: Tensor


Answer = TopKAnswer | LogitsAnswer


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
        self._model = model
        self._precision = precision

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> LogitsAnswer:  # noqa: ARG002
        """Run the model on the tokens."""
        device = self._model.device
        with inference(self._model), autocast(device, self._precision):
            logits_BTV = self._model(input_ids=input_ids_BT.to(device), use_cache=False).logits
        return LogitsAnswer(logits_BTV=logits_BTV.to(input_ids_BT.device))


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
    def __init__(self, directory: Path, head: nn.Module) -> None:
        self._hidden_NTD = _mapped(directory / "hidden.npy")
        self._head = head

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> LogitsAnswer:
        device = next(self._head.parameters()).device
        with torch.no_grad():
            logits_BTV = self._head(self._hidden_NTD[block_ids_B].to(device))
        return LogitsAnswer(logits_BTV=logits_BTV.to(input_ids_BT.device))


def open_teacher_cache(directory: Path, *, expected_fingerprint: str, head: nn.Module | None) -> Teacher:
    """Map a cache into memory.

    Args:
        directory: Made by ``build_teacher_cache``.
        expected_fingerprint: Of what the cache must have been made from.
        head: The teacher's output head; needed by the ``hidden`` form, unused by the other.

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
    decoder = model.get_submodule(anatomy_of(model).decoder)
    hidden_BTD = decoder(input_ids=input_ids_BT, use_cache=False).last_hidden_state
    if metadata.form == "hidden":
        return {"hidden": hidden_BTD.float()}
    log_probs_BTV = output_head(model)(hidden_BTD).float().log_softmax(dim=-1)
    log_probs_BTK, token_ids_BTK = log_probs_BTV.topk(metadata.width, dim=-1)
    # The mass of the rest is summed over the rest itself: 1 minus the kept mass would cancel.
    log_rest_BT = log_probs_BTV.scatter_(-1, token_ids_BTK, -torch.inf).logsumexp(dim=-1)
    return {
        "token_ids": token_ids_BTK.int(),
        "log_probs": log_probs_BTK.half(),
        "log_rest": log_rest_BT,
    }


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
