"""What many architectures cost at once: a cost that a budget bounds, over arrays of depths, widths and neurons.

All layers are equal and an MLP is matrices, so what is counted of a shape is a fixed part and, for each layer, a part of
its own and one for each neuron; none falls as something grows. What is measured is read by ``nas.latency_costs``. Shapes: L depths, W widths.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from nas.errors import InvalidSpec

Integers = npt.NDArray[np.int64]

LARGEST_COST = 2**62
"""So that sums of two still fit 64 bits; no model that exists comes near."""


class Costs(Protocol):
    """One cost of all architectures that some widths allow; it never falls as neurons grow."""

    @property
    def bends(self) -> Integers:
        """Neurons at which it begins to grow at another rate."""
        ...

    def at(self, layers: Integers, width: Integers, neurons: Integers) -> Integers:
        """Return the cost of architectures, each of a depth, the index of a width and neurons."""
        ...

    def neurons(self, cost: int, layers_L: Integers) -> Integers:
        """Return the most neurons that cost no more than ``cost``, for each depth and width; below one for none."""
        ...


class CostTable:
    """One cost of all architectures that some widths allow.

    Args:
        measure: The cost of one architecture.
        widths: Whose depths and neurons are free.
        parent: At least as large in everything.

    Raises:
        InvalidSpec: Sizes whose costs fit no 64 bits, which come from a damaged config.
    """

    bends: Integers = np.array([], dtype=np.int64)

    def __init__(
        self, measure: Callable[[Architecture], int], widths: Sequence[Architecture], parent: Architecture
    ) -> None:
        whole = measure(parent)
        if whole >= LARGEST_COST:
            raise InvalidSpec((("parent", f"found sizes that cost {whole:,}, allowed: below 2^62"),))
        parts = [_parts(measure, width) for width in widths]
        self._fixed_W, self._layer_W, self._neuron_W = np.array(parts, dtype=np.int64).reshape(-1, 3).T

    def at(self, layers: Integers, width: Integers, neurons: Integers) -> Integers:
        """Return the cost of architectures, each of a depth, the index of a width and neurons."""
        per_layer = self._layer_W[width] + self._neuron_W[width] * neurons
        return self._fixed_W[width] + layers * per_layer

    def neurons(self, cost: int, layers_L: Integers) -> Integers:
        """Return the most neurons that cost no more than ``cost``, for each depth and width; below one for none."""
        left_LW = min(cost, LARGEST_COST) - self._fixed_W - layers_L[:, None] * self._layer_W
        most_LW: Integers = left_LW // (layers_L[:, None] * self._neuron_W)
        return most_LW


def _parts(measure: Callable[[Architecture], int], width: Architecture) -> tuple[int, int, int]:
    """Return what is fixed, what a layer costs without neurons, and what each of its neurons costs."""
    one = measure(replace(width, num_layers=1, intermediate_size=1))
    layer = measure(replace(width, num_layers=2, intermediate_size=1)) - one
    neuron = measure(replace(width, num_layers=1, intermediate_size=2)) - one
    return one - layer, layer - neuron, neuron
