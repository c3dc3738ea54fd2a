"""Whole numbers that a spec holds, and their ranges: each is judged by itself, whatever else is wrong with the spec."""

from collections.abc import Mapping

from nas.errors import Problem


def out_of_range(
    values: Mapping[str, object],
    most: Mapping[str, int],
    least: Mapping[str, int] | None = None,
    *,
    section: str = "",
) -> list[Problem]:
    """Return which of some values are out of range; what is no whole number, or not there, is not judged.

    Args:
        values: By the name of the field.
        most: What each may be, by the same.
        least: The same; 1 where it says nothing.
        section: In which the fields lie, with its dot.
    """
    problems = []
    for name, upper in most.items():
        value, lower = values.get(name), (least or {}).get(name, 1)
        if isinstance(value, int) and not isinstance(value, bool) and not lower <= value <= upper:
            problems.append((f"{section}{name}", f"found {value}, allowed: {lower} to {upper}"))
    return problems
