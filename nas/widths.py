"""What a block may be without its MLP, and which MLP sizes go with it: legal for the family, no larger than the parent's.

The rules of a family concern the block, never the depth.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture
from minitron.families import family_named, resized
from minitron.heads import check_heads
from minitron.recipe import PruningRecipe
from nas.axes import AXIS_NAMES, Axes, AxisName, Multiples, Range, SpeltOut
from nas.errors import InvalidSpec

Integers = npt.NDArray[np.int64]

MAX_COMBINATIONS = 100_000_000
MAX_GROUPS = 2_000_000
"""Combinations of all axes but the MLP's, which are gone through one by one, and sizes of the MLP: more take minutes and
gigabytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Width:
    """A block but for its MLP."""

    shape: Architecture
    """With one layer, and the parent's neurons."""
    neurons: Integers
    """The choices on the MLP's axis at its hidden size."""
    first: int
    """The first of them that is legal."""
    end: int
    """The one after the last that is."""

    @property
    def heads(self) -> tuple[int, int, int]:
        """Hidden size, query heads and KV heads."""
        return self.shape.hidden_size, self.shape.num_attention_heads, self.shape.num_key_value_heads


def checked_combinations(parent: Architecture, axes: Axes) -> int:
    """Return how many combinations the axes have.

    Raises:
        InvalidSpec: Choices out of bounds, or too many.
    """
    problems = []
    num_choices: dict[AxisName, int] = {}
    hidden, heads = axes.chosen("hidden_size"), axes.chosen("num_attention_heads")
    least_hidden = parent.hidden_size if hidden is None else _extent(hidden, 0)[0]
    if parent.traits.heads_span_hidden and hidden is None and heads is not None:
        least_hidden = _extent(heads, 0)[0] * parent.head_dim
    for name in AXIS_NAMES:
        choices = axes.chosen(name)
        if choices is None:
            continue
        low, high, num_choices[name] = _extent(choices, least_hidden)
        limit = getattr(parent, name)
        if low < 1 or high > limit:
            wrong = low if low < 1 else high
            problems.append((f"axes.{name}", f"found {wrong}, allowed: 1 to the parent's {limit}"))
    if problems:
        raise InvalidSpec(tuple(problems))
    num_neurons = num_choices.pop("intermediate_size", 1)
    num_groups = int(np.prod([*num_choices.values(), 1], dtype=object))
    _require(num_groups * num_neurons, MAX_COMBINATIONS, "combinations")
    _require(num_groups, MAX_GROUPS, "combinations of all axes but intermediate_size")
    _require(num_neurons, MAX_GROUPS, "choices of intermediate_size")
    return num_groups * num_neurons


def _require(found: int, most: int, what: str) -> None:
    if found > most:
        reason = f"found {found:,} {what}, allowed: at most {most:,}; take larger steps"
        raise InvalidSpec((("axes", reason),))


def _extent(choices: SpeltOut, least_hidden: int) -> tuple[int, int, int]:
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


def legal_widths(
    parent: Architecture, axes: Axes, pruning: PruningRecipe
) -> tuple[list[Width], Counter[str]]:
    """Return the legal widths by hidden size, heads and KV heads, and how many blocks were refused for which reason."""
    family, least = family_named(parent.family), replace(parent, num_layers=1)

    @cache
    def neurons_at(hidden_size: int) -> Integers:
        return np.array(axes.sizes("intermediate_size", parent, hidden_size=hidden_size), dtype=np.int64)

    follow_hidden = isinstance(axes.intermediate_size, Multiples)
    widths: list[Width] = []
    refused: Counter[str] = Counter()
    names: tuple[AxisName, ...] = ("hidden_size", "num_attention_heads", "num_key_value_heads")
    given = [name for name in names if getattr(axes, name) is not None]
    for sizes in product(*(axes.sizes(name, parent, hidden_size=0) for name in given)):
        wanted: dict[str, int] = dict(zip(given, sizes, strict=True))
        hidden = wanted.get("hidden_size", parent.hidden_size)
        try:
            shape = resized(least, wanted)
            hidden = shape.hidden_size
            family.check(shape)
            check_heads(parent, shape, pruning)
        except InvalidArchitecture as error:
            refused[_rule(error)] += len(neurons_at(hidden if follow_hidden else 0))
            continue
        neurons = neurons_at(hidden if follow_hidden else 0)
        first, end = (int(n) for n in np.searchsorted(neurons, (1, parent.intermediate_size + 1)))
        refused["intermediate_size above the parent's"] += len(neurons) - end
        if first:
            try:
                replace(shape, intermediate_size=int(neurons[0]))
            except InvalidArchitecture as error:
                refused[_rule(error)] += first
        if first < end:
            widths.append(Width(shape=shape, neurons=neurons, first=first, end=end))
    return widths, refused


def _rule(error: InvalidArchitecture) -> str:
    _, _, rule = error.reason.partition(", ")
    return f"{error.field}, {rule}"
