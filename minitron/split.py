"""Which side of the split a document is on, and how the blocks of a side are shared by the sources of a blend."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

Side = Literal["validation", "calibration", "training"]
SIDES: tuple[Side, ...] = ("validation", "calibration", "training")
"""In the order in which they borrow."""

SHARES: dict[Side, float] = {"validation": 0.05, "calibration": 0.10, "training": 0.85}
"""A document's side is a function of its text alone, so no recipe or seed moves it to another; only when a
whole source holds too few tokens for a side does that borrow from training."""


def side_of(digest: bytes) -> Side:
    """Return the side of the document whose text has this SHA-256."""
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < SHARES["validation"]:
        return "validation"
    return "calibration" if position < SHARES["validation"] + SHARES["calibration"] else "training"


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Share out ``total`` in proportion to the weights, each share less than one from its exact part.

    By largest remainder; the earlier of equal ones comes first.
    """
    exact = [Fraction(weight) * total / sum(map(Fraction, weights)) for weight in weights]
    shares = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: shares[number] - exact[number])
    for number in by_remainder[: total - sum(shares)]:
        shares[number] += 1
    return shares
