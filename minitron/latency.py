"""How long a block of a student, and what is around the blocks, takes to answer on this machine: timed.

With the family's own modules, at random weights, in a student that has as many blocks as it takes for weights to come
from where a whole student's come from: blocks that stay in the processor's cache would seem faster than they are. Of
the head's logits only the last are computed, as for an answer. Knows no search; sets no threads.
"""

import copy
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, DynamicCache, PreTrainedModel

from minitron.architecture import BYTES_PER_ELEMENT, Architecture
from minitron.assemble import anatomy_of, empty_model, layers_of, put, put_buffers
from minitron.families import PER_LAYER_LISTS, student_config

STREAMED_BYTES = 256 * 2**20
"""Weights of a student that come from memory: more than caches of processors hold, with few exceptions."""
FEWEST_PASSES = 5
LONGEST_SECONDS = 0.5
"""After which no further pass is made, however they differ."""
STEADY = 1.02
"""Passes end when the three fastest lie this near to one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one pass takes, in nanoseconds: the fastest of several, since what others do on a machine only adds."""

    block: int
    """One of the blocks."""
    ends: int
    """All but the blocks: embedding, masks and positions, last norm and head."""
    num_blocks: int
    """That were timed together."""

    @property
    def whole(self) -> int:
        """All that was timed."""
        return self.ends + self.num_blocks * self.block


def time_student(
    config: Mapping[str, Any],
    shape: Architecture,
    *,
    phase: Literal["prefill", "decode"],
    context: int,
    batch: int,
    dtype: str,
    device: torch.device,
    num_blocks: int | None = None,
) -> Timing:
    """Time passes of a student until they are steady, after one that is not counted.

    Args:
        config: The parent's.
        shape: The student's; not all of its blocks need be made.
        phase: ``prefill`` answers to a context at once, ``decode`` to one more token after it.
        context: Tokens of each sequence.
        batch: Sequences at once.
        dtype: Of weights and activations.
        device: Where to compute.
        num_blocks: How many blocks are made; None makes as many as the cache asks for.
    """
    tokens = batch * (context if phase == "prefill" else 1)
    made = num_blocks or _blocks_to_time(config, shape, dtype=dtype, tokens=tokens)
    model = _random_student(config, shape, made, dtype=getattr(torch, dtype), device=device)
    with torch.inference_mode():
        run = _prefill(model, context, batch) if phase == "prefill" else _decode(model, context, batch)
        with _Marks(model) as marks:
            passes = _until_steady(run, marks)
    whole, stack = min(passes)
    return Timing(block=max(1, round(stack / made)), ends=max(1, round(whole - stack)), num_blocks=made)


def _blocks_to_time(config: Mapping[str, Any], shape: Architecture, *, dtype: str, tokens: int) -> int:
    """Return how many blocks are made: more the less work there is for each weight that is read, and whole turns of
    what alternates between them.
    """
    block_bytes = shape.layer_parameters * BYTES_PER_ELEMENT[dtype]
    wanted = max(2, -(-STREAMED_BYTES // (block_bytes * tokens)))
    period = max(
        (_period(config[name]) for name in PER_LAYER_LISTS if isinstance(config.get(name), list)), default=1
    )
    return min(shape.num_layers, -(-wanted // period) * period)


def _period(kinds: Sequence[object]) -> int:
    return next(
        period
        for period in range(1, len(kinds) + 1)
        if all(a == b for a, b in zip(kinds, kinds[period:], strict=False))
    )


def _random_student(
    config: Mapping[str, Any],
    shape: Architecture,
    num_blocks: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> PreTrainedModel:
    """Return a student of a shape but for its depth; blocks differ in where their weights lie, not in what they are."""
    entries = student_config(config, replace(shape, num_layers=num_blocks), range(num_blocks))
    entries.pop("_name_or_path", None)
    pad = entries.get("pad_token_id")
    if isinstance(pad, int) and pad >= shape.vocab_size:
        entries["pad_token_id"] = None
    model = empty_model(AutoConfig.for_model(**entries), dtype=dtype)
    drawn: dict[torch.Size, Tensor] = {}
    for name, parameter in list(model.named_parameters()):
        if parameter.shape not in drawn:
            drawn[parameter.shape] = torch.empty(parameter.shape, dtype=dtype, device=device).normal_(0, 0.02)
        put(model, name, nn.Parameter(drawn[parameter.shape].clone(), requires_grad=False))
    put_buffers(model, device)
    model.tie_weights()
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _prefill(model: PreTrainedModel, context: int, batch: int) -> Callable[[], object]:
    tokens = _tokens(model, batch, context)
    return lambda: model(input_ids=tokens, use_cache=True, logits_to_keep=1)


def _decode(model: PreTrainedModel, context: int, batch: int) -> Callable[[], object]:
    cache = DynamicCache(config=model.config)
    model(input_ids=_tokens(model, batch, context), past_key_values=cache, use_cache=True, logits_to_keep=1)
    token = _tokens(model, batch, 1)

    def step() -> object:
        # Keys and values are appended out of place, so that a copy of the layers alone leaves the others as they are.
        begun = copy.copy(cache)
        begun.layers = [copy.copy(layer) for layer in cache.layers]
        return model(input_ids=token, past_key_values=begun, use_cache=True, logits_to_keep=1)

    return step


def _tokens(model: PreTrainedModel, batch: int, number: int) -> Tensor:
    return torch.randint(model.config.vocab_size, (batch, number), device=model.device)


class _Marks:
    """When a pass began, came to its first block, left its last and ended, as its device saw it."""

    def __init__(self, model: PreTrainedModel) -> None:
        layers = layers_of(model, anatomy_of(model))
        self._is_cuda = model.device.type == "cuda"
        self._marks: list[Any] = []
        self._hooks = [
            layers[0].register_forward_pre_hook(lambda *_: self._mark()),
            layers[-1].register_forward_hook(lambda *_: self._mark()),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _mark(self) -> None:
        if self._is_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter_ns())

    def time(self, run: Callable[[], object]) -> tuple[float, float]:
        """Return the nanoseconds of a pass, and of its blocks."""
        if self._is_cuda:
            torch.cuda.synchronize()
        self._marks.clear()
        self._mark()
        run()
        self._mark()
        if self._is_cuda:
            torch.cuda.synchronize()
        begun, first, last, ended = self._marks
        return self._between(begun, ended), self._between(first, last)

    def _between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end) * 1e6 if self._is_cuda else end - start)


def _until_steady(run: Callable[[], object], marks: _Marks) -> list[tuple[float, float]]:
    marks.time(run)
    started = time.monotonic()
    passes: list[tuple[float, float]] = []
    while len(passes) < FEWEST_PASSES or (
        time.monotonic() - started < LONGEST_SECONDS and not _is_steady(passes)
    ):
        passes.append(marks.time(run))
    return passes


def _is_steady(passes: Sequence[tuple[float, float]]) -> bool:
    (fastest, _), _, (third, _) = sorted(passes)[:3]
    return third <= STEADY * fastest


def device_name(device: torch.device) -> str:
    """Return what a device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        told = []
    names = (line.partition(":")[2].strip() for line in told if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
