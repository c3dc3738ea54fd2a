"""What every recipe checks by."""

from minitron.errors import InvalidRecipe


def require(holds: bool, field: str, found: object, allowed: str) -> None:
    """Raise InvalidRecipe unless a condition holds."""
    if not holds:
        raise InvalidRecipe(field, f"found {found!r}, allowed: {allowed}")
