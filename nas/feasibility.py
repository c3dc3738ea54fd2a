"""Which legal architectures a budget admits, and how near it the others come.

Shapes: L depths, W widths.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from minitron.architecture import Architecture
from nas.budget import Budget, Limit
from nas.cost_table import LARGEST_COST, Costs, CostTable
from nas.errors import InvalidSpec
from nas.grid import Grid, Integers
from nas.latency_costs import LatencyCosts


class Feasibility:
    """A budget over all depths and widths of a grid.

    Args:
        grid: Legal sizes.
        shapes: The widths as architectures.
        budget: What is admitted.
        parent: At least as large as everything in the grid.
    """

    def __init__(
        self, grid: Grid, shapes: Sequence[Architecture], budget: Budget, parent: Architecture
    ) -> None:
        self._grid = grid
        self._budget = budget
        self._parent = parent
        self.costs = [_costs(limit, shapes, parent) for limit in budget.limits]
        """In the order of the budget's limits."""

    @property
    def num_legal(self) -> int:
        """How many architectures there are, whatever they cost."""
        return int((self._grid.end_W - self._grid.first_W).sum()) * len(self._grid.layers_L)

    def intervals(self) -> tuple[Integers, Integers, Counter[str]]:
        """Return from which choice of the MLP on, and before which, each depth and width is feasible.

        And how many architectures are not, each for the first reason that there is.
        """
        refused: Counter[str] = Counter()
        shape = len(self._grid.layers_L), len(self._grid.first_W)
        low_LW, high_LW = (np.broadcast_to(each, shape) for each in (self._grid.first_W, self._grid.end_W))
        for limit, cost in zip(self._budget.limits, self.costs, strict=True):
            if limit.most is not None:
                admitted_LW = np.clip(self._num_within(cost, limit.most), low_LW, high_LW)
                refused[f"above {limit.most_field}"] += int((high_LW - admitted_LW).sum())
                high_LW = admitted_LW
            lacking_LW = np.clip(self._num_within(cost, limit.least - 1), low_LW, high_LW)
            refused[f"below {limit.least_field}"] += int((lacking_LW - low_LW).sum())
            low_LW = lacking_LW
        return low_LW, high_LW, refused

    def emptiness(self, num_combinations: int, reasons: Mapping[str, int]) -> tuple[str, str]:
        """Return the field that rules every combination out, and how near the others come."""
        combinations = f"{num_combinations:,} combinations of the axes"
        if not self.num_legal:
            refused = "; ".join(f"{reason} ({n:,} refused)" for reason, n in reasons.items())
            return "axes", f"found {combinations}, none legal for {self._parent.family}: {refused}"
        spans = [
            f"from {limit.number(least)} to {limit.number(most)} {limit.unit}"
            for limit, cost in zip(self._budget.limits, self.costs, strict=True)
            for least, most in [self.extent(cost)]
        ]
        nearest = replace(self._parent, **self._grid.sizes(*self.nearest()))
        numbers = [f"{limit.number(limit.measure(nearest))} {limit.unit}" for limit in self._budget.limits]
        return "budget", (
            f"found no architecture with {self._budget.windows} among {combinations}; {self.num_legal:,} are legal, "
            f"{' and '.join(spans)}; the nearest is {nearest.name} with {', '.join(numbers)}"
        )

    def extent(self, cost: Costs) -> tuple[int, int]:
        """Return the least and the most that any legal architecture costs."""
        layers_L1, width_W = self._grid.layers_L[:, None], np.arange(len(self._grid.first_W))
        least_LW, most_LW = (
            cost.at(layers_L1, width_W, self._grid.neurons(width_W, choice_W))
            for choice_W in (self._grid.first_W, self._grid.end_W - 1)
        )
        return int(least_LW.min()), int(most_LW.max())

    def nearest(self) -> tuple[int, int, int]:
        """Return the indices of the legal architecture that misses the budget by the least, relative to its limits.

        Of equally near ones the first by width, choice and depth.
        """
        layers_L1, width_W = self._grid.layers_L[:, None], np.arange(len(self._grid.first_W))
        found = []
        for choice_LW in self._turning_points():
            neurons_LW = self._grid.neurons(width_W, choice_LW)
            missed_LW = np.zeros(neurons_LW.shape)
            for limit, cost in zip(self._budget.limits, self.costs, strict=True):
                costs_LW = cost.at(layers_L1, width_W, neurons_LW)
                excess_LW = np.maximum(min(limit.least, LARGEST_COST) - costs_LW, 0)
                if limit.most is not None:
                    excess_LW = np.maximum(excess_LW, costs_LW - min(limit.most, LARGEST_COST))
                missed_LW += excess_LW / max(limit.most or limit.least, 1)
            least = missed_LW.min()
            layer, width = np.nonzero(missed_LW == least)
            first = np.lexsort((layer, choice_LW[layer, width], width))[0]
            place = int(width[first]), int(choice_LW[layer, width][first]), int(layer[first])
            found.append((float(least), place))
        _, (width_index, choice, layer_index) = min(found)
        return layer_index, width_index, choice

    def _turning_points(self) -> list[Integers]:
        """Return choices among which is the nearest of each depth and width: where one side of a window is passed, or a
        cost begins to grow otherwise.

        In between, what is missed grows or falls evenly.
        """
        last_W = self._grid.end_W - 1
        shape = len(self._grid.layers_L), len(last_W)
        found = [np.broadcast_to(self._grid.first_W, shape), np.broadcast_to(last_W, shape)]
        for limit, cost in zip(self._budget.limits, self.costs, strict=True):
            for bound in (limit.least - 1, limit.most):
                if bound is None:
                    continue
                num_LW = self._num_within(cost, bound)
                found += [np.clip(each, self._grid.first_W, last_W) for each in (num_LW - 1, num_LW)]
            for bend in cost.bends:
                num_LW = np.broadcast_to(self._grid.num_up_to(np.array(bend)), shape)
                found += [np.clip(each, self._grid.first_W, last_W) for each in (num_LW - 1, num_LW)]
        return found

    def _num_within(self, cost: Costs, bound: int) -> Integers:
        return self._grid.num_up_to(cost.neurons(bound, self._grid.layers_L))


def _costs(limit: Limit, shapes: Sequence[Architecture], parent: Architecture) -> Costs:
    if limit.latencies is None:
        return CostTable(limit.measure, shapes, parent)
    longest = parent.num_layers * max(max(row.nanoseconds) for row in limit.latencies.rows)
    if longest >= LARGEST_COST:
        raise InvalidSpec((("parent", f"found layers that take {longest:,} ns, allowed: below 2^62"),))
    return LatencyCosts(limit.latencies, shapes)
