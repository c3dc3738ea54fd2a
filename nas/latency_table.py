"""How long blocks of a decoder, and what is around them, were measured to take on one machine: as data.

A model of L equal blocks takes the time of its ends (embedding, last norm, head) and L times that of a block.
``nas.latency_costs`` reads sizes between those that were measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from nas.errors import InvalidSpec

Phase = Literal["prefill", "decode"]
"""``prefill``: all tokens of the context at once, to the logits of the next. ``decode``: one token of each sequence
after ``context`` others, whose keys and values are kept."""
LatencyDtype = Literal["float32", "bfloat16", "float16"]
LONGEST = 10**12
"""Nanoseconds of one block: products with sizes still fit 64 bits, and no block takes a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySetting:
    """What is timed."""

    phase: Phase
    context: int
    """Tokens of each sequence."""
    batch: int
    """Sequences at once."""
    dtype: LatencyDtype
    """Of weights, activations, keys and values."""

    @property
    def tokens(self) -> int:
        """How many tokens of all sequences one pass is for."""
        return self.batch * (self.context if self.phase == "prefill" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """On what it was timed: figures of another are others."""

    device: str
    threads: int
    """Of torch."""
    software: str
    """Versions of what computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One block but for its MLP, with each MLP that was measured."""

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    nanoseconds: tuple[int, ...]
    """For each of the table's ``neurons``."""

    @property
    def heads(self) -> tuple[int, int]:
        """Query heads and KV heads."""
        return self.num_attention_heads, self.num_key_value_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class EndsLatency:
    """All of a model but its blocks."""

    hidden_size: int
    nanoseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Medians of what was timed, as it was timed.

    Raises:
        InvalidSpec: Sizes or times that are none, or that are not in order.
    """

    setting: LatencySetting
    machine: Machine
    neurons: tuple[int, ...]
    """MLP sizes that were measured with each row, ascending."""
    rows: tuple[BlockRow, ...]
    ends: tuple[EndsLatency, ...]
    """By hidden size, ascending."""

    def __post_init__(self) -> None:
        keys = [(*row.heads, row.hidden_size) for row in self.rows]
        sizes = [
            *self.neurons,
            *(end.hidden_size for end in self.ends),
            *(size for key in keys for size in key),
        ]
        times = [
            *(end.nanoseconds for end in self.ends),
            *(each for row in self.rows for each in row.nanoseconds),
        ]
        reason = None
        if not (self.neurons and self.rows and self.ends):
            reason = "found nothing measured, allowed: at least one block, one MLP size and the ends of one hidden size"
        elif not _ascends(self.neurons) or not _ascends([end.hidden_size for end in self.ends]):
            reason = "found sizes that do not ascend, allowed: neurons and hidden sizes of ends, each once, ascending"
        elif not _ascends(keys):
            reason = (
                "found rows that do not ascend, allowed: by query heads, KV heads and hidden size, each once"
            )
        elif any(len(row.nanoseconds) != len(self.neurons) for row in self.rows):
            reason = f"found rows of other lengths, allowed: {len(self.neurons)} times, one for each MLP size"
        elif min(sizes) < 1 or not all(1 <= each <= LONGEST for each in times):
            reason = f"found sizes or times out of range, allowed: sizes from 1, times from 1 to {LONGEST:,} nanoseconds"
        if reason is not None:
            raise InvalidSpec((("budget.latency.table", reason),))


def _ascends(values: Iterable[Any]) -> bool:
    return all(a < b for a, b in pairwise(values))
