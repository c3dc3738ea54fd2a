"""What a search varies: one axis for each searched dimension of an architecture."""

from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from nas.errors import InvalidSpec

AxisName = Literal[
    "num_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"
]
AXIS_NAMES: tuple[AxisName, ...] = (
    "num_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What occurs on an axis: the least size, the largest, and how many there are."""

    least: int
    most: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """``start``, ``start + step``, ... up to ``stop``, which is included when a step lands on it."""

    start: int
    stop: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1 or self.start > self.stop:
            found = f"start {self.start}, stop {self.stop}, step {self.step}"
            raise InvalidSpec((("axes", f"found {found}, allowed: start <= stop and step >= 1"),))

    @property
    def last(self) -> int:
        """The largest size that a step lands on."""
        return self.stop - (self.stop - self.start) % self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiples:
    """Sizes as multiples of the hidden size, for the MLP: 2.5 gives 11520 neurons at hidden 4608."""

    of_hidden: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Legal and hardware-friendly sizes from the parent's down to a share of it; see ``nas.auto_axes``."""

    auto_from: float = 0.5
    """The least share of the parent's size that is kept."""

    def __post_init__(self) -> None:
        if not 0 < self.auto_from <= 1:
            found = f"found auto_from {self.auto_from}, allowed: above 0, at most 1"
            raise InvalidSpec((("axes", found),))


SpeltOut = tuple[int, ...] | Range | Multiples
AxisChoices = SpeltOut | Auto | Literal["auto"]
"""The word stands for ``Auto()``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The choices on each axis; None keeps the parent's size, or what the family derives from other axes.

    Raises:
        InvalidSpec: No choice on an axis, or multiples of hidden on another axis than the MLP's.
    """

    num_layers: AxisChoices | None = None
    hidden_size: AxisChoices | None = None
    intermediate_size: AxisChoices | None = None
    num_attention_heads: AxisChoices | None = None
    num_key_value_heads: AxisChoices | None = None
    """The papers keep them; ``pruning.kv_heads`` says whether the others are dropped or pooled."""

    def __post_init__(self) -> None:
        problems = []
        for name in AXIS_NAMES:
            choices = getattr(self, name)
            if choices == () or (isinstance(choices, Multiples) and not choices.of_hidden):
                problems.append(
                    (f"axes.{name}", "found no choice, allowed: at least one, or leave the axis out")
                )
            if isinstance(choices, Multiples) and name != "intermediate_size":
                problems.append(
                    (f"axes.{name}", "found multiples of hidden, allowed on intermediate_size only")
                )
        if problems:
            raise InvalidSpec(tuple(problems))

    def chosen(self, name: AxisName) -> SpeltOut | None:
        """Return the choices on an axis that says them itself: of axes that are resolved, any."""
        choices: AxisChoices | None = getattr(self, name)
        assert choices is None or isinstance(choices, tuple | Range | Multiples), (
            f"{name}: {choices} is not resolved"
        )
        return choices

    def sizes(self, name: AxisName, parent: Architecture, *, hidden_size: int) -> tuple[int, ...]:
        """Return the sizes on a resolved axis, ascending and distinct; multiples are of ``hidden_size``."""
        choices = self.chosen(name)
        if choices is None:
            return (getattr(parent, name),)
        if isinstance(choices, Range):
            return tuple(range(choices.start, choices.stop + 1, choices.step))
        if isinstance(choices, Multiples):
            return tuple(sorted({round(multiple * hidden_size) for multiple in choices.of_hidden}))
        return tuple(sorted(set(choices)))
