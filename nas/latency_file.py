"""What was timed of one parent, in one setting on one machine: the file that searches share, and what it gives to each.

Below the artifact root, named by what it is of, so that nothing in it is ever of anything else. It grows by what
spaces need. Reads files; times nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minitron.architecture import Architecture
from nas.latency_anchors import Anchors, anchors_of
from nas.latency_table import BlockRow, EndsLatency, LatencySetting, LatencyTable, Machine
from nas.layout import latencies_directory
from nas.parent import architecture_of
from nas.search import SearchSpec
from nas.spec import load

Shape = tuple[int, ...]
"""Hidden size, neurons, query heads and KV heads of a block; the hidden size alone of a model's ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Nanoseconds of shapes, by their names."""

    setting: LatencySetting
    machine: Machine
    is_accelerator: bool
    parent: Architecture
    nanoseconds: Mapping[str, int] = field(default_factory=dict, hash=False)

    def missing(self, anchors: Anchors) -> list[Shape]:
        """Return which shapes were not timed yet."""
        return [shape for shape in _shapes(anchors) if name_of(shape) not in self.nanoseconds]

    def table(self, anchors: Anchors) -> LatencyTable:
        """Return what a space goes by, of which nothing may be missing."""
        known = self.nanoseconds
        return LatencyTable(
            setting=self.setting,
            machine=self.machine,
            neurons=anchors.neurons,
            rows=tuple(
                BlockRow(
                    hidden_size=hidden,
                    num_attention_heads=heads,
                    num_key_value_heads=kv_heads,
                    nanoseconds=tuple(
                        known[name_of((hidden, neurons, heads, kv_heads))] for neurons in anchors.neurons
                    ),
                )
                for heads, kv_heads, hidden in anchors.blocks
            ),
            ends=tuple(
                EndsLatency(hidden_size=hidden, nanoseconds=known[name_of((hidden,))])
                for hidden, _, _ in anchors.ends
            ),
        )


def name_of(shape: Shape) -> str:
    """Return the name of a shape in a file."""
    return "-".join(map(str, shape))


def measured_before(spec: SearchSpec, root: Path) -> LatencyTable | None:
    """Return what a search would go by, where its blocks were timed on one kind of machine and no other.

    A search with another machine is timed when it starts, whatever is known here.
    """
    asked = spec.budget.latency
    anchors = anchors_of(spec) if asked is not None and asked.table is None else None
    if asked is None or anchors is None:
        return None
    parent = architecture_of(spec)
    found = [
        timings
        for timings in _stored(root)
        if (timings.setting, timings.parent) == (asked.setting, parent)
        and timings.is_accelerator == (spec.resources.gpus > 0)
    ]
    return found[0].table(anchors) if len(found) == 1 and not found[0].missing(anchors) else None


def _stored(root: Path) -> Iterator[Timings]:
    for path in sorted(latencies_directory(root).glob("[!.]*.json")):
        try:
            yield load(Timings, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # evicted meanwhile, or of another version
            continue


def _shapes(anchors: Anchors) -> Iterator[Shape]:
    for heads, kv_heads, hidden in anchors.blocks:
        for neurons in anchors.neurons:
            yield hidden, neurons, heads, kv_heads
    for hidden, _, _ in anchors.ends:
        yield (hidden,)
