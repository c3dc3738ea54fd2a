"""Legal sizes as indices: a depth, a width (hidden size and heads) and a choice of the MLP.

Knows no budget. Shapes: L depths, W widths, C choices of the MLP, T lists of such.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from nas.axes import AXIS_NAMES
from nas.widths import Width

Integers = npt.NDArray[np.int64]
Indices = Integers | int


class Grid:
    """All depths and widths, with the MLP sizes that each width allows."""

    def __init__(self, layers: Sequence[int], widths: Sequence[Width]) -> None:
        self.layers_L = np.array(layers, dtype=np.int64)
        self.heads_W3 = np.array([width.heads for width in widths], dtype=np.int64).reshape(-1, 3)
        self.first_W = np.array([width.first for width in widths], dtype=np.int64)
        self.end_W = np.array([width.end for width in widths], dtype=np.int64)
        """Choices of the MLP from ``first_W`` on and before these are legal."""
        self.block_W = np.unique(self.heads_W3[:, 0], return_inverse=True)[1].astype(np.int64)
        """Equal for equal hidden sizes, ascending."""
        lists = {id(width.neurons): width.neurons for width in widths}
        numbers = {key: number for number, key in enumerate(lists)}
        self.list_W = np.array([numbers[id(width.neurons)] for width in widths], dtype=np.int64)
        """Equal where the MLP sizes to choose from are."""
        longest = max(map(len, lists.values()), default=0)
        self._neurons_TC = np.full((len(lists), longest), np.iinfo(np.int64).max)
        for row, neurons in zip(self._neurons_TC, lists.values(), strict=True):
            row[: len(neurons)] = neurons
        self._layer_of = {size: layer for layer, size in enumerate(layers)}
        self._width_of = {each.heads: width for width, each in enumerate(widths)}

    @property
    def num_choices(self) -> int:
        """How many choices of the MLP the widths have at most."""
        return self._neurons_TC.shape[1]

    def neurons(self, width: Indices, choice: Indices) -> Integers:
        """Return the MLP sizes of choices at widths."""
        found: Integers = self._neurons_TC[self.list_W[width], choice]
        return found

    def num_up_to(self, neurons_LW: Integers) -> Integers:
        """Return how many choices each width has that are no larger than ``neurons_LW``, one for each depth or for all."""
        found = np.empty(np.broadcast_shapes(neurons_LW.shape, self.list_W.shape), dtype=np.int64)
        bounds = np.broadcast_to(neurons_LW, found.shape)
        # Widths of equal hidden size, hence of one list, stand together.
        edges = [*np.flatnonzero(np.diff(self.list_W, prepend=-1)).tolist(), len(self.list_W)]
        for start, end in pairwise(edges):
            known = self._neurons_TC[self.list_W[start]]
            found[..., start:end] = known.searchsorted(bounds[..., start:end], side="right")
        return found

    def sizes(self, layer: int, width: int, choice: int) -> dict[str, Any]:
        """Return sizes by axis."""
        hidden, heads, kv_heads = self.heads_W3[width].tolist()
        found = int(self.layers_L[layer]), hidden, int(self.neurons(width, choice)), heads, kv_heads
        return dict(zip(AXIS_NAMES, found, strict=True))

    def find(self, shape: Architecture) -> tuple[int, int, int] | None:
        """Return where an architecture's sizes stand, or None where they are not all here."""
        layer = self._layer_of.get(shape.num_layers)
        width = self._width_of.get((shape.hidden_size, shape.num_attention_heads, shape.num_key_value_heads))
        if layer is None or width is None:
            return None
        known = self._neurons_TC[self.list_W[width]]
        choice = int(known.searchsorted(shape.intermediate_size))
        is_known = choice < len(known) and known[choice] == shape.intermediate_size
        return (layer, width, choice) if is_known else None
