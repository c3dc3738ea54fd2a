"""Which blocks are timed for a space: a few sizes of each axis, between which ``nas.latency_costs`` reads.

Pure functions of a spec. All query and KV heads that are legal together are timed; of hidden and MLP sizes the least,
the largest and those most evenly between them.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nas.auto_axes import resolved
from nas.errors import InvalidSpec
from nas.latency_table import LatencyTable
from nas.parent import architecture_of
from nas.search import SearchSpec
from nas.widths import legal_widths

MOST_SIZES = 5
"""Of one axis that are timed."""
MOST_BLOCKS = 2000
"""Each takes a part of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What is timed."""

    neurons: tuple[int, ...]
    """Ascending."""
    blocks: tuple[tuple[int, int, int], ...]
    """Query heads, KV heads and hidden size, ascending; each is timed with all ``neurons``."""
    ends: tuple[tuple[int, int, int], ...]
    """Hidden sizes at which all but the blocks is timed, ascending, each with query and KV heads that it goes with."""

    def lacking(self, table: LatencyTable) -> str | None:
        """Return which of these sizes a table does not reach, in words; None where it reaches all."""
        known = defaultdict(list)
        for row in table.rows:
            known[row.heads].append(row.hidden_size)
        for *heads, hidden in self.blocks:
            sizes = known.get((heads[0], heads[1]))
            if sizes is None:
                return f"{heads[0]} query and {heads[1]} KV heads"
            if not sizes[0] <= hidden <= sizes[-1]:
                return f"{heads[0]} query and {heads[1]} KV heads at hidden size {hidden}"
        if not table.neurons[0] <= self.neurons[0] <= self.neurons[-1] <= table.neurons[-1]:
            return f"MLP sizes from {self.neurons[0]} to {self.neurons[-1]}"
        least, most = self.ends[0][0], self.ends[-1][0]
        if not table.ends[0].hidden_size <= least <= most <= table.ends[-1].hidden_size:
            return f"ends of hidden sizes from {least} to {most}"
        return None


def anchors_of(spec: SearchSpec) -> Anchors | None:
    """Return what is timed for the space of a spec; None where no size is legal, which its space says.

    Raises:
        InvalidSpec: Too many combinations of heads to time them all.
    """
    parent = architecture_of(spec)
    widths, _ = legal_widths(parent, resolved(spec.axes, parent), spec.pruning)
    if not widths:
        return None
    hidden_by_heads = defaultdict(set)
    for width in widths:
        hidden, *heads = width.heads
        hidden_by_heads[tuple(heads)].add(hidden)
    by_hidden = {width.shape.hidden_size: width.heads for width in widths}
    lists = {id(width.neurons): width.neurons[width.first : width.end] for width in widths}
    found = Anchors(
        neurons=_spread(np.unique(np.concatenate(list(lists.values()))).tolist()),
        blocks=tuple(
            (heads[0], heads[1], hidden)
            for heads, sizes in sorted(hidden_by_heads.items())
            for hidden in _spread(sizes)
        ),
        ends=tuple(by_hidden[size] for size in _spread(by_hidden)),
    )
    number = len(found.blocks) * len(found.neurons)
    if number > MOST_BLOCKS:
        reason = f"found {number:,} blocks to time for budget.latency, allowed: at most {MOST_BLOCKS:,}; take fewer heads"
        raise InvalidSpec((("axes", reason),))
    return found


def _spread(sizes: Collection[int]) -> tuple[int, ...]:
    """Return the least, the largest and those nearest to even steps between them."""
    known = np.array(sorted(sizes))
    if len(known) <= MOST_SIZES:
        return tuple(known.tolist())
    steps = np.linspace(known[0], known[-1], MOST_SIZES)
    nearest = np.abs(known[:, None] - steps).argmin(axis=0)
    return tuple(np.unique(known[nearest]).tolist())
