"""What every recipe checks by."""

import math

from minitron.errors import InvalidRecipe


def require(holds: bool, field: str, found: object, allowed: str) -> None:
    """Raise InvalidRecipe unless a condition holds."""
    if not holds:
        raise InvalidRecipe(field, f"found {found!r}, allowed: {allowed}")


def require_positive(field: str, found: float) -> None:
    """Raise InvalidRecipe unless a number is above 0 and finite: with others no step can be made."""
    require(0 < found < math.inf, field, found, "above 0, and finite")
