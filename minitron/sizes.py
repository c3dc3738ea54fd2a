"""The sizes of a family of students, as people write them, and which is cut from which. Free of torch."""

import re
from collections.abc import Sequence

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture, InvalidRecipe
from minitron.families import family_named, resized
from minitron.recipe import PruningRecipe

_AXES = {
    "L": "num_layers",
    "D": "hidden_size",
    "F": "intermediate_size",
    "N": "num_attention_heads",
    "K": "num_key_value_heads",
}
"""The letters of ``Architecture.name``."""
_PART = re.compile(r"([A-Z])(\d+)")


def read_sizes(parent: Architecture, texts: Sequence[str]) -> list[Architecture]:
    """Return the architectures of sizes such as ``L24-D512``, from large to small.

    What a size does not name is as in the size before, at first as in the parent; or as its family derives it from
    what is named. That each can be cut from the one that it will be cut from is told before the first is made.

    Raises:
        InvalidRecipe: A text that is no size, one size twice, one that is no part of the parent, or one that its
            family does not allow or that cannot be cut.
    """
    from minitron.heads import check_heads  # loads NumPy, which help does without

    sizes: list[Architecture] = []
    for text in texts:
        size = _read(text, sizes[-1] if sizes else parent)
        if size == parent or size in sizes or not contains(parent, size):
            raise InvalidRecipe(
                "--to", f"found {text}, that is {size.name}, allowed: smaller than {parent.name}, once"
            )
        sizes.append(size)
    sizes.sort(key=lambda size: size.parameter_count, reverse=True)
    for number, size in enumerate(sizes):
        source = nearest(size, [parent, *sizes[:number]])
        try:
            family_named(size.family).check(size)
            check_heads(source, size, PruningRecipe())
        except InvalidArchitecture as error:
            raise InvalidRecipe("--to", f"{size.name}: {error}") from error
    return sizes


def contains(whole: Architecture, part: Architecture) -> bool:
    """Return whether no axis of ``part`` is longer."""
    return all(getattr(part, axis) <= getattr(whole, axis) for axis in _AXES.values())


def nearest(size: Architecture, made: Sequence[Architecture]) -> Architecture:
    """Return the smallest of the models made so far, the parent among them, that ``size`` can be cut from."""
    return min((model for model in made if contains(model, size)), key=lambda model: model.parameter_count)


def _read(text: str, before: Architecture) -> Architecture:
    parts = [_PART.fullmatch(part) for part in text.split("-")]
    named = {part[1]: int(part[2]) for part in parts if part}
    if len(named) != len(parts) or not named.keys() <= _AXES.keys():
        letters = ", ".join(f"{letter} {axis}" for letter, axis in _AXES.items())
        raise InvalidRecipe("--to", f"found {text!r}, allowed: as L24-D512, of {letters}")
    try:
        return resized(before, {_AXES[letter]: number for letter, number in named.items()})
    except InvalidArchitecture as error:
        raise InvalidRecipe("--to", f"found {text}: {error}") from error
