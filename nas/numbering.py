"""Rows of a space that is never listed: groups of architectures that differ in the MLP's choice alone, numbered.

A group is an interval of choices. Groups of equal block, which differ in heads, are numbered together: choice by
choice, and within a choice in their own order. Knows no sizes. Shapes: G groups, B blocks, C choices.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


class Numbering:
    """Places, each a group and one of its choices, and their rows from 0.

    Args:
        block_G: Of each group; ascending.
        low_G: The first choice of each group.
        high_G: The choice after its last; above ``low_G``.
    """

    def __init__(self, block_G: Integers, low_G: Integers, high_G: Integers) -> None:
        self.low_G = low_G
        self.high_G = high_G
        starts = np.flatnonzero(np.diff(block_G, prepend=-1))
        self._edges_B = np.append(starts, len(block_G))
        counts_B = np.add.reduceat(high_G - low_G, starts)
        self._rows_B = np.concatenate(([0], np.cumsum(counts_B)))

    def __len__(self) -> int:
        return int(self._rows_B[-1])

    def place(self, row: int) -> tuple[int, int]:
        """Return the group and the choice of a row; negative rows count from the end."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        block = int(self._rows_B.searchsorted(row, side="right")) - 1
        offset = row - int(self._rows_B[block])
        groups = self._groups(block)
        low, high = int(self.low_G[groups].min()), int(self.high_G[groups].max())
        choices = range(low, high + 1)
        choice = choices[bisect_right(choices, offset, key=lambda each: self._before(groups, each)) - 1]
        having = np.flatnonzero((self.low_G[groups] <= choice) & (choice < self.high_G[groups]))
        return groups.start + int(having[offset - self._before(groups, choice)]), choice

    def row(self, group: int, choice: int) -> int:
        """Return the row of a place."""
        block = int(self._edges_B.searchsorted(group, side="right")) - 1
        groups = self._groups(block)
        earlier = slice(groups.start, group)
        having = (self.low_G[earlier] <= choice) & (choice < self.high_G[earlier])
        return int(self._rows_B[block]) + self._before(groups, choice) + int(having.sum())

    def rows(self, wanted_G: Booleans, choices: Integers | None) -> Integers:
        """Return the rows of all places of some groups, ascending.

        Args:
            wanted_G: Which groups.
            choices: One for each group, below zero where it has none; None stands for all of its choices.
        """
        parts = list(self._rows_by_block(wanted_G, choices))
        return np.concatenate(parts) if parts else np.array([], dtype=np.int64)

    def _rows_by_block(self, wanted_G: Booleans, choices: Integers | None) -> Iterator[Integers]:
        blocks = self._edges_B.searchsorted(np.flatnonzero(wanted_G), side="right") - 1
        for block in np.unique(blocks).tolist():
            groups = self._groups(block)
            low, high, wanted = self.low_G[groups], self.high_G[groups], wanted_G[groups]
            choices_C = (
                np.arange(low[wanted].min(), high[wanted].max())
                if choices is None
                else np.unique(choices[groups][wanted])
            )[:, None]
            having_CG = (low <= choices_C) & (choices_C < high)
            before_C = np.clip(choices_C - low, 0, high - low).sum(axis=1, keepdims=True)
            rows_CG = before_C + having_CG.cumsum(axis=1) - 1
            yield rows_CG[having_CG & wanted] + self._rows_B[block]

    def _groups(self, block: int) -> slice:
        return slice(int(self._edges_B[block]), int(self._edges_B[block + 1]))

    def _before(self, groups: slice, choice: int) -> int:
        """Return how many places some groups have at smaller choices."""
        low, high = self.low_G[groups], self.high_G[groups]
        return int(np.clip(choice - low, 0, high - low).sum())
