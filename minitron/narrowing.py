"""The shapes on the way from a model to a narrower one, in even steps, each legal for the family.

Pure, and free of torch; depth stays.
"""

from itertools import product

from minitron.architecture import Architecture
from minitron.errors import ArtifactMismatch, InvalidArchitecture, InvalidRecipe
from minitron.families import family_named, resized

_WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads")


def shapes_between(source: Architecture, smallest: Architecture | None, steps: int) -> list[Architecture]:
    """Return the shapes that are measured after the source on the way to the smallest, one fewer than steps.

    Raises:
        InvalidRecipe: Several steps, and no width is to shrink.
        ArtifactMismatch: A width above the source's.
    """
    if steps == 1:
        return []
    if smallest is None or all(getattr(smallest, name) == getattr(source, name) for name in _WIDTHS):
        raise InvalidRecipe("calibration.steps", f"found {steps}, allowed where no width is to shrink: 1")
    for name in _WIDTHS:
        if getattr(smallest, name) > getattr(source, name):
            raise ArtifactMismatch(
                f"smallest.{name}: found {getattr(smallest, name)}, allowed for this parent: at most "
                f"{getattr(source, name)}"
            )
    return [_between(source, smallest, step / steps) for step in range(1, steps)]


def _between(source: Architecture, smallest: Architecture, part: float) -> Architecture:
    """Return the legal shape nearest to a part of the way."""

    def wish(large: int, small: int) -> float:
        return large - part * (large - small)

    hidden_size = wish(source.hidden_size, smallest.hidden_size)
    heads = wish(source.num_attention_heads, smallest.num_attention_heads)
    neurons = wish(source.intermediate_size, smallest.intermediate_size)

    def distance(shape: Architecture) -> float:
        of_hidden = abs(shape.hidden_size - hidden_size) / source.hidden_size
        return of_hidden + abs(shape.num_attention_heads - heads) / source.num_attention_heads

    step = 1 if family_named(source.family).pairs_heads else source.num_key_value_heads
    widths = range(smallest.hidden_size, source.hidden_size + 1)
    counts = range(source.num_attention_heads, smallest.num_attention_heads - 1, -step)
    candidates = [
        resized(
            source,
            {"hidden_size": width, "num_attention_heads": count, "intermediate_size": round(neurons)},
        )
        for width, count in product(widths, counts)
    ]
    return min((shape for shape in candidates if _is_legal(shape)), key=distance)


def _is_legal(shape: Architecture) -> bool:
    try:
        family_named(shape.family).check(shape)
    except InvalidArchitecture:
        return False
    return True
