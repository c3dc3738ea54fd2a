"""What time it is, as a value that tests can choose."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present as an aware UTC time."""


def utc_now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)
