"""Which architectures a search may try: the feasible ones, all of them, in one fixed order, and none of them listed.

Feasible means: no size above the parent's, legal for the family, inside the budget's window. No cost falls as the
MLP grows, so of each depth and width the feasible MLP sizes are an interval. Knows neither trials nor samplers.
Shapes: L depths, W widths, C choices of the MLP, G groups (depths and widths with any feasible MLP).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace
from functools import cached_property
from heapq import heapify, heappop, heapreplace
from math import ceil, floor
from operator import attrgetter
from random import Random

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from minitron.families import family_named
from minitron.recipe import PruningRecipe
from nas.auto_axes import resolved
from nas.axes import AXIS_NAMES, Axes, AxisName, Sizes
from nas.budget import Budget, CostName, Span
from nas.cost_table import Costs
from nas.errors import EmptySpace
from nas.feasibility import Feasibility
from nas.grid import Grid, Indices, Integers
from nas.numbering import Booleans, Numbering
from nas.parent import architecture_of
from nas.search import SearchSpec
from nas.widths import checked_combinations, legal_widths

Floats = npt.NDArray[np.float64]

_unsearched = attrgetter(*(field.name for field in fields(Architecture) if field.name not in AXIS_NAMES))
"""What all architectures of a space have in common."""
WIDTH_AXES = ("hidden_size", "num_attention_heads", "num_key_value_heads")
"""Axes of a width, in the order of the grid's columns."""


def search_space(spec: SearchSpec) -> "SearchSpace":
    """Return the space that a spec asks for, from the config of its parent."""
    return SearchSpace(architecture_of(spec), spec.axes, spec.budget, spec.pruning)


class SearchSpace:
    """Every feasible architecture around a parent, ordered by layers, hidden, neurons, heads and KV heads.

    Raises:
        InvalidSpec: A size that is below one or above the parent's, or too many combinations.
        InvalidRecipe: What the family's weights do not allow.
        EmptySpace: No combination is feasible; says how near the budget they come.
    """

    def __init__(
        self, parent: Architecture, axes: Axes, budget: Budget, pruning: PruningRecipe | None = None
    ) -> None:
        self.parent = parent
        self._unsearched = _unsearched(parent)
        self.axes = axes = resolved(axes, parent)
        self.budget = budget
        pruning = pruning or PruningRecipe()
        family_named(parent.family).check_recipe(pruning)
        self.num_combinations = checked_combinations(parent, axes)

        widths, refused = legal_widths(parent, axes, pruning)
        shapes = [width.shape for width in widths]
        self._grid = Grid(axes.sizes("num_layers", parent, hidden_size=0), widths)
        feasibility = Feasibility(self._grid, shapes, budget, parent)
        low_LW, high_LW, unaffordable = feasibility.intervals()
        illegal = Counter({reason: num * len(self._grid.layers_L) for reason, num in refused.items()})
        self.reasons: Mapping[str, int] = dict(illegal + unaffordable)
        """How many combinations were refused, for each reason."""
        self._layer_G, self._width_G = np.nonzero(low_LW < high_LW)
        if not len(self._layer_G):
            raise EmptySpace((feasibility.emptiness(self.num_combinations, self.reasons),))

        self._costs = feasibility.costs
        self.least = self._least()
        """The narrowest legal shape and the least depth, whatever the budget: nothing smaller is ever asked for."""

        self._numbering = Numbering(
            self._layer_G * len(widths) + self._grid.block_W[self._width_G],
            low_LW[self._layer_G, self._width_G],
            high_LW[self._layer_G, self._width_G],
        )
        self._key_G = self._layer_G * len(widths) + self._width_G
        self._mlp_choices = np.flatnonzero(self._occurring())
        self._ordinals = self._ordinals_of_choices()
        self._num_ordinals = [
            int(known[index].max()) + 1
            for known, index in zip(
                self._ordinals, self._indices(slice(None), self._numbering.high_G - 1), strict=True
            )
        ]

    def __len__(self) -> int:
        return len(self._numbering)

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self._place(architecture) is not None

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """All feasible architectures, in order: of a space that is small."""
        return tuple(self.at(row) for row in range(len(self)))

    @property
    def smallest(self) -> Architecture:
        """The architecture with the fewest counted parameters."""
        choice_G = self._numbering.low_G
        count_G = self._cost(self._costs[0], choice_G)
        return self._first(count_G == count_G.min(), choice_G)

    @property
    def largest(self) -> Architecture:
        """The architecture with the most counted parameters."""
        choice_G = self._numbering.high_G - 1
        count_G = self._cost(self._costs[0], choice_G)
        return self._first(count_G == count_G.max(), choice_G)

    @property
    def spans(self) -> dict[CostName, Span]:
        """The least and the most that feasible architectures cost, of each cost that the budget counts."""
        return {
            limit.name: Span(
                least=int(self._cost(cost, self._numbering.low_G).min()),
                most=int(self._cost(cost, self._numbering.high_G - 1).max()),
            )
            for limit, cost in zip(self.budget.limits, self._costs, strict=True)
        }

    @property
    def sizes(self) -> dict[AxisName, Sizes]:
        """What there is to choose from on each axis that is searched."""
        known = ((name, self.choices(name)) for name in AXIS_NAMES if getattr(self.axes, name) is not None)
        return {name: Sizes(least=found[0], most=found[-1], number=len(found)) for name, found in known}

    @property
    def num_ordinals(self) -> dict[str, int]:
        """How many choices of each axis occur in the space."""
        return dict(zip(AXIS_NAMES, self._num_ordinals, strict=True))

    def ordinals(self, architecture: Architecture) -> dict[str, int]:
        """Return where ``architecture`` lies on each axis, counted from the smallest choice."""
        place = self._place(architecture)
        assert place is not None, f"{architecture.name} is not in the space"
        indices = self._indices(*place)
        return {
            name: int(ordinals[index])
            for name, ordinals, index in zip(AXIS_NAMES, self._ordinals, indices, strict=True)
        }

    def nearest(
        self, ordinals: Mapping[str, float], excluded: Collection[Architecture] = ()
    ) -> Architecture | None:
        """Return the architecture nearest to a wish, or None when all are excluded.

        Every axis counts as one long, however many choices it has; the first in order wins a tie.
        """
        squares = [
            ((known - ordinals.get(name, 0)) / max(num - 1, 1)) ** 2
            for name, known, num in zip(AXIS_NAMES, self._ordinals, self._num_ordinals, strict=True)
        ]
        along_mlp_C = squares[AXIS_NAMES.index("intermediate_size")]
        choice_G = self._nearest_choices(ordinals.get("intermediate_size", 0), along_mlp_C)
        is_left_G = np.ones(len(choice_G), dtype=bool)
        for group, taken in self._choices_by_group(excluded).items():
            left = self._nearest_left(group, int(choice_G[group]), taken, along_mlp_C)
            is_left_G[group] = left is not None
            choice_G[group] = choice_G[group] if left is None else left
        indices = self._indices(slice(None), choice_G)
        # Added in the order of the axes, so that architectures that are equally near have equal sums.
        distance_G = sum(square[index] for square, index in zip(squares, indices, strict=True))
        distance_G = np.where(is_left_G, distance_G, np.inf)
        return self._first(distance_G == distance_G.min(), choice_G) if is_left_G.any() else None

    def largest_first(self) -> Iterator[Architecture]:
        """Yield every architecture by the first cost that the budget bounds, the largest first, equals in order."""
        cost = next(
            c for c, limit in zip(self._costs, self.budget.limits, strict=True) if limit.most is not None
        )
        choice_G = self._numbering.high_G - 1
        keys = zip(
            (-self._cost(cost, choice_G)).tolist(),
            self._layer_G.tolist(),
            self._grid.block_W[self._width_G].tolist(),
            choice_G.tolist(),
            range(len(choice_G)),
            strict=True,
        )
        # The largest left of each group.
        heap = list(keys)
        heapify(heap)
        while heap:
            most, equals = heap[0][0], []
            while heap and heap[0][0] == most:
                equals.append(heap[0])
                _, layer, block, choice, group = heap[0]
                if choice == self._numbering.low_G[group]:
                    heappop(heap)
                    continue
                neurons = self._grid.neurons(self._width_G[group], choice - 1)
                left = cost.at(self._grid.layers_L[layer], self._width_G[group], neurons)
                heapreplace(heap, (-int(left), layer, block, choice - 1, group))
            for _, _, _, choice, group in sorted(equals):
                yield self._architecture(group, choice)

    def choices(self, name: str) -> tuple[int, ...]:
        """Return the sizes on an axis that occur in the space, ascending."""
        if name != "intermediate_size":
            return tuple(np.unique(self._column(name)).tolist())
        found: set[int] = set()
        list_G = self._grid.list_W[self._width_G]
        order = np.argsort(list_G, kind="stable")
        for groups in np.split(order, np.flatnonzero(np.diff(list_G[order])) + 1):
            choices = np.flatnonzero(self._occurring(groups))
            found.update(self._grid.neurons(self._width_G[groups[0]], choices).tolist())
        return tuple(sorted(found))

    def rows_with(self, sizes: Mapping[str, int]) -> Integers:
        """Return the rows of all architectures with these sizes, ascending."""
        wanted_G = np.ones(len(self._layer_G), dtype=bool)
        choice_G = None
        for name, size in sizes.items():
            if name != "intermediate_size":
                wanted_G &= self._column(name) == size
                continue
            choice_G = self._num_up_to(size) - 1
            wanted_G &= (self._numbering.low_G <= choice_G) & (choice_G < self._numbering.high_G)
            wanted_G &= self._grid.neurons(self._width_G, choice_G) == size
        return self._numbering.rows(wanted_G, choice_G)

    def nearest_to(self, sizes: Mapping[str, int]) -> Architecture:
        """Return the architecture nearest to these sizes, each relative to the range of its axis."""
        low_G, last_G = self._numbering.low_G, self._numbering.high_G - 1
        candidates = [low_G]
        if "intermediate_size" in sizes:
            num_G = self._num_up_to(sizes["intermediate_size"])
            candidates = [np.clip(num_G - 1, low_G, last_G), np.clip(num_G, low_G, last_G)]
        distances = [self._distances_to(sizes, choice_G) for choice_G in candidates]
        # Of equally near ones in a group the smaller, which comes first.
        is_upper_G = distances[-1] < distances[0]
        distance_G = np.where(is_upper_G, distances[-1], distances[0])
        choice_G = np.where(is_upper_G, candidates[-1], candidates[0])
        return self._first(distance_G == distance_G.min(), choice_G)

    def draw(self, random: Random, excluded: Collection[Architecture] = ()) -> Architecture | None:
        """Return one of the architectures that are not excluded, each as likely, or None."""
        places = (self._place(each) for each in excluded)
        taken = sorted({self._numbering.row(*place) for place in places if place is not None})
        if len(taken) == len(self):
            return None
        row = random.randrange(len(self) - len(taken))
        for taken_row in taken:
            row += taken_row <= row
        return self.at(row)

    def at(self, row: int) -> Architecture:
        """Return the architecture of a row, counted from 0 in the order of the space."""
        return self._architecture(*self._numbering.place(row))

    def _architecture(self, group: int, choice: int) -> Architecture:
        sizes = self._grid.sizes(int(self._layer_G[group]), int(self._width_G[group]), choice)
        return replace(self.parent, **sizes)

    def _place(self, architecture: Architecture) -> tuple[int, int] | None:
        """Return the group and the choice of an architecture, or None where it is not in the space."""
        found = self._grid.find(architecture)
        if found is None:
            return None
        layer, width, choice = found
        key = layer * len(self._grid.heads_W3) + width
        group = int(self._key_G.searchsorted(key))
        if group == len(self._key_G) or self._key_G[group] != key:
            return None
        is_feasible = self._numbering.low_G[group] <= choice < self._numbering.high_G[group]
        return (group, choice) if is_feasible and _unsearched(architecture) == self._unsearched else None

    def _first(self, groups_G: Booleans, choice_G: Integers) -> Architecture:
        """Return which comes first in order of these groups with a choice each."""
        groups = np.flatnonzero(groups_G)
        width, choice = self._width_G[groups], choice_G[groups]
        first = np.lexsort((width, choice, self._grid.block_W[width], self._layer_G[groups]))[0]
        return self._architecture(int(groups[first]), int(choice[first]))

    def _indices(self, groups: int | slice, choice: Indices) -> tuple[Indices, ...]:
        """Return where places stand on each axis, as the ordinals of its choices are kept."""
        layer, width = self._layer_G[groups], self._width_G[groups]
        return layer, width, choice, width, width

    def _column(self, name: str) -> Integers:
        """Return the size of each group on an axis that is not the MLP's."""
        if name == "num_layers":
            return self._grid.layers_L[self._layer_G]
        column_W: Integers = self._grid.heads_W3[:, WIDTH_AXES.index(name)]
        return column_W[self._width_G]

    def _num_up_to(self, neurons: int) -> Integers:
        num_G: Integers = self._grid.num_up_to(np.array(neurons))[self._width_G]
        return num_G

    def _cost(self, cost: Costs, choice_G: Integers) -> Integers:
        """Return the cost of each group with a choice."""
        layers_G = self._grid.layers_L[self._layer_G]
        return cost.at(layers_G, self._width_G, self._grid.neurons(self._width_G, choice_G))

    def _least(self) -> Architecture:
        choices = enumerate(self._grid.first_W.tolist())
        narrow = (replace(self.parent, **self._grid.sizes(0, width, choice)) for width, choice in choices)
        return min(narrow, key=lambda shape: shape.parameter_count)

    def _occurring(self, groups: Integers | slice = slice(None)) -> Booleans:
        """Return which choices of the MLP some groups have between them."""
        changes_C = np.zeros(self._grid.num_choices + 1, dtype=np.int64)
        np.add.at(changes_C, self._numbering.low_G[groups], 1)
        np.add.at(changes_C, self._numbering.high_G[groups], -1)
        is_had_C: Booleans = np.cumsum(changes_C[:-1]) > 0
        return is_had_C

    def _ordinals_of_choices(self) -> tuple[Integers, ...]:
        """Return by axis the ordinals of depths, of widths or of choices of the MLP: those of choices that occur.

        Along the MLP's axis neighbours are neighbouring choices: multiples differ in size at each hidden.
        """
        choice_C = np.arange(self._grid.num_choices)
        heads_W3, used = self._grid.heads_W3, self._width_G
        hidden, heads, kv_heads = (_ranks(column, column[used]) for column in heads_W3.T)
        layers_L = self._grid.layers_L
        ranks = (
            _ranks(layers_L, layers_L[self._layer_G]), hidden, _ranks(choice_C, self._mlp_choices),
            heads, kv_heads,
        )  # fmt: skip
        # What the family derives from another axis is no choice of its own.
        return tuple(
            rank if getattr(self.axes, name) is not None else 0 * rank
            for name, rank in zip(AXIS_NAMES, ranks, strict=True)
        )

    def _nearest_choices(self, wish: float, square_C: Floats) -> Integers:
        """Return the choice of each group that is nearest to a wish along the MLP's axis, of two the smaller."""
        low_G, last_G, last = self._numbering.low_G, self._numbering.high_G - 1, len(self._mlp_choices) - 1
        lower_G, upper_G = (
            np.clip(self._mlp_choices[min(max(ordinal, 0), last)], low_G, last_G)
            for ordinal in (floor(wish), ceil(wish))
        )
        nearest_G: Integers = np.where(square_C[lower_G] <= square_C[upper_G], lower_G, upper_G)
        return nearest_G

    def _choices_by_group(self, architectures: Collection[Architecture]) -> dict[int, set[int]]:
        found: defaultdict[int, set[int]] = defaultdict(set)
        for architecture in architectures:
            if (place := self._place(architecture)) is not None:
                found[place[0]].add(place[1])
        return found

    def _nearest_left(self, group: int, choice: int, taken: set[int], square_C: Floats) -> int | None:
        """Return the choice of a group that is nearest along the MLP's axis and not taken; ``choice`` is nearest of all."""
        reach = len(taken) + 1
        low = max(int(self._numbering.low_G[group]), choice - reach)
        high = min(int(self._numbering.high_G[group]), choice + reach + 1)
        left = (each for each in range(low, high) if each not in taken)
        return min(left, key=lambda each: float(square_C[each]), default=None)

    def _distances_to(self, sizes: Mapping[str, int], choice_G: Integers) -> Floats:
        """Return how far each group with a choice is from these sizes."""
        distance_G = np.zeros(len(choice_G))
        for name, size in sizes.items():
            if name == "intermediate_size":
                column_G, known = self._grid.neurons(self._width_G, choice_G), self._neurons_extent
            else:
                column_G = known = self._column(name)
            distance_G += ((column_G - float(size)) / max(int(np.ptp(known)), 1)) ** 2
        return distance_G

    @cached_property
    def _neurons_extent(self) -> Integers:
        least_G = self._grid.neurons(self._width_G, self._numbering.low_G)
        most_G = self._grid.neurons(self._width_G, self._numbering.high_G - 1)
        return np.array([least_G.min(), most_G.max()])


def _ranks(values: Integers, occurring: Integers) -> Integers:
    """Return the rank of each value among the distinct ones that occur; of others it means nothing."""
    return np.unique(occurring).searchsorted(values)
