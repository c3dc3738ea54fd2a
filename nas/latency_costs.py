"""How long architectures take, of what a table says of some: arithmetic in whole nanoseconds, over arrays.

Between two measured sizes, hidden or MLP, time is read on the line between them. It never falls as the MLP grows, so that
the feasible MLP sizes stay an interval: a block that was timed slower than one with a larger MLP counts as that one.
What disturbs a timing only adds to it, so that the faster of two that contradict one another is the more likely; a running
maximum would spread one disturbed timing over all larger MLPs.
Shapes: L depths, W widths, A measured MLP sizes, H measured hidden sizes.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from nas.latency_table import LatencyTable

Integers = npt.NDArray[np.int64]
Indices = Integers | int
HeadRows = dict[tuple[int, int], tuple[Integers, Integers]]
"""By query and KV heads: the measured hidden sizes, and the times (H, A) of blocks with them."""

ALL = 2**62


class LatencyCosts:
    """Times of all architectures that some widths allow.

    Args:
        table: What was measured. Sizes beyond it count as the outermost, heads that are not in it as those nearest.
        widths: Whose depths and neurons are free.
    """

    def __init__(self, table: LatencyTable, widths: Sequence[Architecture]) -> None:
        rows = _rows_by_heads(table)
        self.bends: Integers = np.array(table.neurons, dtype=np.int64)
        """MLP sizes between which time grows evenly."""
        hidden_W = np.array([width.hidden_size for width in widths], dtype=np.int64)
        ends = np.array([(end.hidden_size, end.nanoseconds) for end in table.ends], dtype=np.int64)
        self._ends_W = _between(ends[:, 0], ends[:, 1:], hidden_W)[:, 0]
        self._block_WA = np.empty((len(widths), len(self.bends)), dtype=np.int64)
        measured_W = [_nearest_heads(rows, width) for width in widths]
        for heads in set(measured_W):
            index = np.array([w for w, each in enumerate(measured_W) if each == heads])
            self._block_WA[index] = _between(*rows[heads], hidden_W[index])

    def at(self, layers: Indices, width: Indices, neurons: Indices) -> Integers:
        """Return the nanoseconds of architectures, each of a depth, the index of a width and neurons."""
        neurons = np.clip(neurons, self.bends[0], self.bends[-1])
        left = np.clip(self.bends.searchsorted(neurons, side="right") - 1, 0, max(len(self.bends) - 2, 0))
        right = np.minimum(left + 1, len(self.bends) - 1)
        low, high = self._block_WA[width, left], self._block_WA[width, right]
        step = np.maximum(self.bends[right] - self.bends[left], 1)
        block = low + (high - low) * (neurons - self.bends[left]) // step
        found: Integers = self._ends_W[width] + layers * block
        return found

    def neurons(self, cost: int, layers_L: Integers) -> Integers:
        """Return the most neurons that take no longer than ``cost``, for each depth and width; below one for none."""
        block_LW = (min(cost, ALL) - self._ends_W) // layers_L[:, None]
        num_LW = (self._block_WA <= block_LW[..., None]).sum(axis=-1)
        # Where some but not all measured sizes are within, the most lies between two of them.
        left = np.clip(num_LW - 1, 0, max(len(self.bends) - 2, 0))
        right = np.minimum(left + 1, len(self.bends) - 1)
        width_W = np.arange(len(self._block_WA))
        low, high = self._block_WA[width_W, left], self._block_WA[width_W, right]
        room = np.clip(block_LW - low + 1, 0, np.maximum(high - low, 1))
        between_LW = self.bends[left] + (room * (self.bends[right] - self.bends[left]) - 1) // np.maximum(
            high - low, 1
        )
        found: Integers = np.where(num_LW == 0, 0, np.where(num_LW == len(self.bends), ALL, between_LW))
        return found


@lru_cache(maxsize=16_384)  # of trials it is asked again at each decision that weighs it
def latency_of(table: LatencyTable, architecture: Architecture) -> int:
    """Return the nanoseconds that a table says of one architecture."""
    costs = LatencyCosts(table, [architecture])
    return int(costs.at(architecture.num_layers, 0, architecture.intermediate_size))


@lru_cache(maxsize=64)
def _rows_by_heads(table: LatencyTable) -> HeadRows:
    found: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for row in table.rows:
        found.setdefault(row.heads, []).append((row.hidden_size, *row.nanoseconds))
    arrays = {heads: np.array(rows, dtype=np.int64) for heads, rows in found.items()}
    return {
        heads: (rows[:, 0], np.minimum.accumulate(rows[:, :0:-1], axis=1)[:, ::-1])
        for heads, rows in arrays.items()
    }


def _nearest_heads(rows: HeadRows, width: Architecture) -> tuple[int, int]:
    heads = width.num_attention_heads, width.num_key_value_heads
    if heads in rows:
        return heads
    return min(rows, key=lambda known: (abs(known[0] - heads[0]) + abs(known[1] - heads[1]), known))


def _between(known_H: Integers, times_HA: Integers, hidden_W: Integers) -> Integers:
    """Return the times (W, A) on the lines between measured hidden sizes."""
    hidden_W = np.clip(hidden_W, known_H[0], known_H[-1])
    left = np.clip(known_H.searchsorted(hidden_W, side="right") - 1, 0, max(len(known_H) - 2, 0))
    right = np.minimum(left + 1, len(known_H) - 1)
    step, along = np.maximum(known_H[right] - known_H[left], 1), hidden_W - known_H[left]
    low = times_HA[left]
    found: Integers = low + (times_HA[right] - low) * along[:, None] // step[:, None]
    return found
