"""Tables of block latencies by a formula."""

from collections.abc import Callable

from nas.budget import LatencyBudget
from nas.latency_anchors import anchors_of
from nas.latency_table import BlockRow, EndsLatency, LatencySetting, LatencyTable, Machine
from nas.search import SearchSpec

Formula = Callable[[int, int, int, int], int]
"""Nanoseconds of a block by hidden size, neurons, query heads and KV heads."""


def latency(**changes) -> LatencyBudget:
    """A budget of latency; its table is of the same setting where ``table_of`` is told nothing else."""
    return LatencyBudget(**{"max_ms": 2.0, "context": 64, "dtype": "float32"} | changes)


def table_of(
    spec: SearchSpec,
    nanoseconds: Formula = lambda hidden, neurons, heads, kv_heads: hidden * neurons,
    **setting,
) -> LatencyTable:
    """A table of all that a spec's space needs, by a formula."""
    anchors = anchors_of(spec)
    assert anchors is not None
    return LatencyTable(
        setting=LatencySetting(
            **{"phase": "decode", "context": 64, "batch": 1, "dtype": "float32"} | setting
        ),
        machine=Machine(device="a formula", threads=1, software="none"),
        neurons=anchors.neurons,
        rows=tuple(
            BlockRow(
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                hidden_size=hidden,
                nanoseconds=tuple(nanoseconds(hidden, each, heads, kv_heads) for each in anchors.neurons),
            )
            for heads, kv_heads, hidden in anchors.blocks
        ),
        ends=tuple(EndsLatency(hidden_size=size, nanoseconds=1000 * size) for size, _, _ in anchors.ends),
    )
