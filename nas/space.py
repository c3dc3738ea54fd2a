"""Which architectures a search may try: the feasible ones, all of them, in one fixed order.

Feasible means: no size above the parent's, legal for the family, inside the budget's window. Knows
neither trials nor samplers. Shapes: N feasible architectures, A axes, S shapes of one block, L depths.
"""

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import product
from random import Random

import numpy as np

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture
from minitron.families import family_named, resized
from minitron.heads import check_heads
from minitron.recipe import PruningRecipe
from nas.axes import AXIS_NAMES, Axes, AxisChoices, AxisName, Multiples, Range
from nas.budget import Budget
from nas.errors import EmptySpace, InvalidSpec
from nas.parent import architecture_of
from nas.search import SearchSpec

MAX_COMBINATIONS = 2_000_000
"""Enumerating this many takes seconds; a search tries hundreds."""


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
        self.axes = axes
        self.budget = budget
        pruning = pruning or PruningRecipe()
        family_named(parent.family).check_recipe(pruning)
        self.num_combinations = _checked_combinations(parent, axes)
        self.reasons: Mapping[str, int]
        """How many combinations were refused, for each reason."""

        layers_L = np.array(axes.sizes("num_layers", parent, hidden_size=0))
        shapes, refused = _legal_shapes(parent, axes, pruning)
        table = np.array([row for _, row in shapes], dtype=np.int64).reshape(-1, 5)
        bases_S = np.array([budget.count(shape) for shape, _ in shapes], dtype=np.int64)
        per_layer_S = np.array([shape.layer_parameters for shape, _ in shapes], dtype=np.int64)
        # All layers are equal, so a count is affine in depth; the shapes have one layer.
        counts_SL = bases_S[:, None] + per_layer_S[:, None] * (layers_L - 1)[None, :]

        above_SL = counts_SL > budget.max_parameters
        below_SL = counts_SL < budget.min_parameters
        reasons = Counter({reason: n * len(layers_L) for reason, n in refused.items()})
        reasons["above max_parameters"] = int(above_SL.sum())
        reasons["below min_parameters"] = int(below_SL.sum())
        self.reasons = dict(+reasons)
        shape_N, layer_N = np.nonzero(~(above_SL | below_SL))
        if not len(shape_N):
            raise EmptySpace((self._emptiness(counts_SL),))

        narrowest = min((shape for shape, _ in shapes), key=lambda shape: shape.parameter_count)
        self.least = replace(narrowest, num_layers=int(layers_L.min()))
        """The narrowest legal shape and the least depth, whatever the budget: nothing smaller is ever asked for."""

        hidden_N, neurons_N, heads_N, kv_heads_N, choice_N = table[shape_N].T
        columns = (layers_L[layer_N], hidden_N, neurons_N, heads_N, kv_heads_N)
        order_N = np.lexsort(columns[::-1])
        self._sizes_NA = np.stack(columns, axis=1)[order_N]
        # Along the MLP axis neighbours are neighbouring choices: multiples differ in size at each hidden.
        steps = (layers_L[layer_N], hidden_N, choice_N, heads_N, kv_heads_N)
        ordinals = [
            # What the family derives from another axis is no choice of its own.
            np.unique(column if getattr(axes, name) is not None else 0 * column, return_inverse=True)[1]
            for name, column in zip(AXIS_NAMES, steps, strict=True)
        ]
        self._ordinals_NA = np.stack(ordinals, axis=1)[order_N]
        self._counts_N = counts_SL[shape_N, layer_N][order_N]

    def __len__(self) -> int:
        return len(self._sizes_NA)

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self._row(architecture) is not None

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """All feasible architectures, in order."""
        return tuple(self.at(row) for row in range(len(self)))

    @property
    def smallest(self) -> Architecture:
        """The architecture with the fewest counted parameters."""
        return self.at(int(self._counts_N.argmin()))

    @property
    def largest(self) -> Architecture:
        """The architecture with the most counted parameters."""
        return self.at(int(self._counts_N.argmax()))

    @property
    def num_ordinals(self) -> dict[str, int]:
        """How many choices of each axis occur in the space."""
        most_A = self._ordinals_NA.max(axis=0)
        return {name: int(most) + 1 for name, most in zip(AXIS_NAMES, most_A, strict=True)}

    def ordinals(self, architecture: Architecture) -> dict[str, int]:
        """Return where ``architecture`` lies on each axis, counted from the smallest choice."""
        row = self._row(architecture)
        assert row is not None, f"{architecture.name} is not in the space"
        return {name: int(n) for name, n in zip(AXIS_NAMES, self._ordinals_NA[row], strict=True)}

    def nearest(
        self, ordinals: Mapping[str, float], excluded: Container[Architecture] = ()
    ) -> Architecture | None:
        """Return the architecture nearest to a wish, or None when all are excluded.

        Every axis counts as one long, however many choices it has; the first in order wins a tie.
        """
        wish_A = np.array([ordinals.get(name, 0) for name in AXIS_NAMES])
        spans_A = np.maximum(self._ordinals_NA.max(axis=0), 1)
        distances_N = (((self._ordinals_NA - wish_A) / spans_A) ** 2).sum(axis=1)
        for row in np.argsort(distances_N, kind="stable"):
            architecture = self.at(int(row))
            if architecture not in excluded:
                return architecture
        return None

    def choices(self, name: str) -> tuple[int, ...]:
        """Return the sizes on an axis that occur in the space, ascending."""
        return tuple(np.unique(self._sizes_NA[:, AXIS_NAMES.index(name)]).tolist())

    def largest_first(self) -> Iterator[Architecture]:
        """Yield every architecture, that of most counted parameters first, equals in order."""
        return (self.at(int(row)) for row in np.argsort(-self._counts_N, kind="stable"))

    def rows_with(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Return the rows of all architectures with these sizes."""
        has_all_N = np.ones(len(self), dtype=bool)
        for name, size in sizes.items():
            has_all_N &= self._sizes_NA[:, AXIS_NAMES.index(name)] == size
        return np.flatnonzero(has_all_N)

    def nearest_to(self, sizes: Mapping[str, int]) -> Architecture:
        """Return the architecture nearest to these sizes, each relative to the range of its axis."""
        distances_N = np.zeros(len(self))
        for name, size in sizes.items():
            column_N = self._sizes_NA[:, AXIS_NAMES.index(name)]
            distances_N += ((column_N - float(size)) / max(int(np.ptp(column_N)), 1)) ** 2
        return self.at(int(distances_N.argmin()))

    def draw(self, random: Random, excluded: Collection[Architecture] = ()) -> Architecture | None:
        """Return one of the architectures that are not excluded, each as likely, or None."""
        taken = sorted({row for each in excluded if (row := self._row(each)) is not None})
        if len(taken) == len(self):
            return None
        row = random.randrange(len(self) - len(taken))
        for taken_row in taken:
            row += taken_row <= row
        return self.at(row)

    def at(self, row: int) -> Architecture:
        """Return the architecture of a row, counted from 0 in the order of the space."""
        sizes = zip(AXIS_NAMES, self._sizes_NA[row].tolist(), strict=True)
        return replace(self.parent, **dict(sizes))

    def _row(self, architecture: Architecture) -> int | None:
        low, high = 0, len(self)
        for axis, name in enumerate(AXIS_NAMES):
            column = self._sizes_NA[low:high, axis]
            size = getattr(architecture, name)
            left, right = column.searchsorted(size), column.searchsorted(size, side="right")
            low, high = low + int(left), low + int(right)
        return low if low < high and self.at(low) == architecture else None

    def _emptiness(self, counts_SL: np.ndarray) -> tuple[str, str]:
        combinations = f"{self.num_combinations:,} combinations of the axes"
        if not counts_SL.size:
            refused = "; ".join(f"{reason} ({n:,} refused)" for reason, n in self.reasons.items())
            return "axes", f"found {combinations}, none legal for {self.parent.family}: {refused}"
        low, high = self.budget.min_parameters, self.budget.max_parameters
        counts = counts_SL.ravel()
        nearest = counts[np.maximum(counts - high, low - counts).argmin()]
        return "budget", (
            f"found no architecture with {low:,} to {high:,} {self.budget.counting} parameters among "
            f"{combinations}; {counts.size:,} are legal, from {counts.min():,} to {counts.max():,} "
            f"parameters, the nearest with {nearest:,}"
        )


def _checked_combinations(parent: Architecture, axes: Axes) -> int:
    """Return how many combinations the axes have; raise InvalidSpec for choices out of bounds."""
    problems = []
    num_combinations = 1
    least_hidden = parent.hidden_size if axes.hidden_size is None else _extent(axes.hidden_size, 0)[0]
    if parent.traits.heads_span_hidden and axes.hidden_size is None and axes.num_attention_heads is not None:
        least_hidden = _extent(axes.num_attention_heads, 0)[0] * parent.head_dim
    for name in AXIS_NAMES:
        choices: AxisChoices | None = getattr(axes, name)
        if choices is None:
            continue
        low, high, num_choices = _extent(choices, least_hidden)
        limit = getattr(parent, name)
        if low < 1 or high > limit:
            wrong = low if low < 1 else high
            problems.append((f"axes.{name}", f"found {wrong}, allowed: 1 to the parent's {limit}"))
        num_combinations *= num_choices
    if problems:
        raise InvalidSpec(tuple(problems))
    if num_combinations > MAX_COMBINATIONS:
        found = f"{num_combinations:,} combinations"
        raise InvalidSpec(
            (("axes", f"found {found}, allowed: at most {MAX_COMBINATIONS:,}; take larger steps"),)
        )
    return num_combinations


def _extent(choices: AxisChoices, least_hidden: int) -> tuple[int, int, int]:
    """Return the least size of an axis, its largest, and its number of choices, without listing them.

    Multiples are taken of the least hidden size: one that fits nowhere is a mistake, one that fits
    only some hidden sizes is not.
    """
    if isinstance(choices, Range):
        return choices.start, choices.last, (choices.last - choices.start) // choices.step + 1
    if isinstance(choices, Multiples):
        multiples = set(choices.of_hidden)
        return round(min(multiples) * least_hidden), round(max(multiples) * least_hidden), len(multiples)
    return min(choices), max(choices), len(set(choices))


def _legal_shapes(
    parent: Architecture, axes: Axes, pruning: PruningRecipe
) -> tuple[list[tuple[Architecture, tuple[int, int, int, int, int]]], Counter[str]]:
    """Return the legal shapes with one layer, and how many others were refused for which reason.

    Each comes with its hidden size, neurons, heads, KV heads and the index of its choice on the MLP axis. The
    rules of a family concern the block, never the depth.
    """
    family, least = family_named(parent.family), replace(parent, num_layers=1)
    shapes: list[tuple[Architecture, tuple[int, int, int, int, int]]] = []
    refused: Counter[str] = Counter()
    names: tuple[AxisName, ...] = ("hidden_size", "num_attention_heads", "num_key_value_heads")
    given = [name for name in names if getattr(axes, name) is not None]
    for sizes in product(*(axes.sizes(name, parent, hidden_size=0) for name in given)):
        wanted: dict[str, int] = dict(zip(given, sizes, strict=True))
        hidden = wanted.get("hidden_size", parent.hidden_size)
        try:
            width = resized(least, wanted)
            hidden = width.hidden_size
            family.check(width)
            check_heads(parent, width, pruning)
        except InvalidArchitecture as error:
            _, _, rule = error.reason.partition(", ")
            choices = len(axes.sizes("intermediate_size", parent, hidden_size=hidden))
            refused[f"{error.field}, {rule}"] += choices
            continue
        for choice, neurons in enumerate(axes.sizes("intermediate_size", parent, hidden_size=hidden)):
            if neurons > parent.intermediate_size:
                refused["intermediate_size above the parent's"] += 1
                continue
            try:
                shape = replace(width, intermediate_size=neurons)
            except InvalidArchitecture as error:
                refused[f"{error.field}, {error.reason.partition(', ')[2]}"] += 1
                continue
            row = (hidden, neurons, width.num_attention_heads, width.num_key_value_heads, choice)
            shapes.append((shape, row))
    return shapes, refused
