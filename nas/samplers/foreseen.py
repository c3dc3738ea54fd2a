"""What trials would have come to, told from how far they came: so that all of them teach a sampler, the stopped ones too.

A pure function of stored losses.
"""

from collections import Counter
from itertools import pairwise

import numpy as np

from nas.confidence import Losses

LEAST = 4
"""Trials measured at two token counts, from which a line between them is drawn."""

Line = tuple[float, float]
"""Slope and intercept."""


def foreseen(losses: Losses) -> dict[int, float]:
    """Return the loss of each trial at the last token count that LEAST trials reached, measured or foreseen.

    Lines lead from each count to the next: later losses regressed on earlier ones, over the trials measured at both.
    That those were chosen by their earlier losses does not bend such a line. Trials without any loss are left out.
    """
    reached = Counter(count for of in losses.values() for count in of)
    counts = sorted(count for count, num in reached.items() if num >= LEAST)
    lines = [_line(losses, *pair) for pair in pairwise(counts)]
    found = {}
    for number, of in losses.items():
        known = [index for index, count in enumerate(counts) if count in of]
        if known:
            found[number] = of[counts[known[-1]]]
            for slope, intercept in lines[known[-1] :]:
                found[number] = slope * found[number] + intercept
    return found


def _line(losses: Losses, earlier: int, later: int) -> Line:
    """Return how losses at one count follow from those at another; more never means less."""
    pairs = np.array([(of[earlier], of[later]) for of in losses.values() if earlier in of and later in of])
    means = pairs.mean(axis=0)
    (variance, covariance), _ = np.cov(pairs.T, ddof=0)
    slope = max(0.0, covariance / variance) if variance else 0.0
    return float(slope), float(means[1] - slope * means[0])
