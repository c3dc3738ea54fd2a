"""What a student may cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from nas.errors import InvalidSpec

Counting = Literal["total", "non_embedding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A window of one cost, both ends included."""

    measure: Callable[[Architecture], int]
    least: int
    most: int
    least_field: str
    most_field: str
    """The fields of a budget that say these, after ``budget.``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A window of parameters, both ends included.

    Raises:
        InvalidSpec: A window that no number lies in.
    """

    max_parameters: int
    min_parameters: int = 0
    """Keeps the search near the limit, where the best students are."""
    counting: Counting = "total"
    """``total`` counts both embeddings (a tied table once), as the Minitron papers do."""

    def __post_init__(self) -> None:
        if self.max_parameters < 0:
            found = f"found {self.max_parameters}, allowed: at least 0"
            raise InvalidSpec((("budget.max_parameters", found),))
        if not 0 <= self.min_parameters <= self.max_parameters:
            found = f"found {self.min_parameters}, allowed: 0 to max_parameters ({self.max_parameters})"
            raise InvalidSpec((("budget.min_parameters", found),))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All that a student must keep to, in the order in which refusals name them."""
        return (
            Limit(
                measure=self.count,
                least=self.min_parameters,
                most=self.max_parameters,
                least_field="min_parameters",
                most_field="max_parameters",
            ),
        )

    def count(self, architecture: Architecture) -> int:
        """Return the parameters of ``architecture`` that this budget counts."""
        if self.counting == "total":
            return architecture.parameter_count
        return architecture.non_embedding_parameters

    def excess(self, architecture: Architecture) -> int:
        """Return by how many parameters the window is missed; 0 or less is inside."""
        count = self.count(architecture)
        return max(count - self.max_parameters, self.min_parameters - count)

    def admits(self, architecture: Architecture) -> bool:
        """Return whether ``architecture`` lies in the window."""
        return self.excess(architecture) <= 0

    def refusal(self, architecture: Architecture) -> str | None:
        """Return why ``architecture`` lies outside the window, or None when it does not."""
        count = self.count(architecture)
        if count > self.max_parameters:
            return (
                f"{count:,} {self.counting} parameters, {count - self.max_parameters:,} above max_parameters"
            )
        if count < self.min_parameters:
            return (
                f"{count:,} {self.counting} parameters, {self.min_parameters - count:,} below min_parameters"
            )
        return None
