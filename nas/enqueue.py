"""Architectures that people ask for by their sizes: the one that is meant, or what is wrong with it.

Pure functions of a space. Knows no store and no HTTP.
"""

from collections.abc import Mapping, Sequence

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture
from minitron.families import family_named, resized
from nas.axes import AXIS_NAMES
from nas.errors import InvalidOrder
from nas.space import SearchSpace

MOST_SHOWN = 12
"""Choices of an axis in an error."""

Problem = tuple[str, str]


def asked_architecture(space: SearchSpace, sizes: Mapping[str, int]) -> Architecture:
    """Return the architecture of a space that has these sizes.

    Args:
        space: Of the search that shall try it.
        sizes: By axis; axes that are not searched may be left out, and so may what follows from others.

    Raises:
        InvalidOrder: None has them, with the nearest that fits; or several do.
    """
    rows = space.rows_with(sizes)
    if len(rows) == 1:
        return space.at(int(rows[0]))
    if len(rows):
        left_out = [name for name in AXIS_NAMES if name not in sizes and len(space.choices(name)) > 1]
        raise InvalidOrder(
            tuple((name, f"missing, allowed: {_listed(space.choices(name))}") for name in left_out)
        )
    problems = _not_on_axes(space, sizes) or (_not_together(space, sizes),)
    nearest = space.nearest_to(sizes)
    words = ", ".join(
        f"{name} {getattr(nearest, name)}" for name in AXIS_NAMES if name in sizes or _varies(space, name)
    )
    *others, (field, reason) = problems
    raise InvalidOrder((*others, (field, f"{reason}; the nearest that fits: {words} ({nearest.name})")))


def _varies(space: SearchSpace, name: str) -> bool:
    return len(space.choices(name)) > 1


def _not_on_axes(space: SearchSpace, sizes: Mapping[str, int]) -> tuple[Problem, ...]:
    """Return the sizes that no feasible architecture has, whatever the others are."""
    choices = {name: space.choices(name) for name in AXIS_NAMES if name in sizes}
    return tuple(
        (name, f"found {sizes[name]}, allowed: {_listed(allowed)}")
        for name, allowed in choices.items()
        if sizes[name] not in allowed
    )


def _not_together(space: SearchSpace, sizes: Mapping[str, int]) -> Problem:
    """Return why sizes that occur do not occur together."""
    try:
        wanted = resized(space.parent, dict(sizes))
        family_named(space.parent.family).check(wanted)
    except InvalidArchitecture as error:
        return error.field, error.reason
    for limit in space.budget.limits:
        if limit.excess(wanted) > 0:
            return (
                "budget",
                f"found {limit.number(limit.measure(wanted))} {limit.unit}, allowed: {limit.window}",
            )
    return "architecture", f"found {wanted.name}, allowed: a combination of the axes of the search"


def _listed(choices: Sequence[int]) -> str:
    if len(choices) <= MOST_SHOWN:
        return ", ".join(map(str, choices))
    return f"{', '.join(map(str, choices[:3]))}, ... {choices[-1]} ({len(choices)} sizes)"
