"""How far an early ranking may be believed, told by the trials that went on: it decides how many advance.

The Minitron papers saw rankings settle after three quarters of the light retraining; elsewhere they settle early, and
each search finds out which it is. Pure functions of stored losses.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Losses = Mapping[int, Mapping[int, float]]
"""Held-out nats per token by trial number and tokens."""

ASSUMED = 0.5
"""Kendall's tau before anything was seen."""
WEIGHT = 10
"""Pairs of trials that the assumption counts as."""
MAX_TRIALS = 500
"""The latest that are compared: pairs are counted."""


def agreement_with_later(losses: Losses, counts: Sequence[int]) -> float:
    """Return Kendall's tau of the ranking at the first of some token counts with those after it.

    Every two trials that both went on are compared where both came to last. While few did, it is near ASSUMED.

    Args:
        losses: Of the trials that are compared.
        counts: Of tokens, ascending.
    """
    now, *laters = counts
    balance, num_pairs = WEIGHT * ASSUMED, float(WEIGHT)
    reached = sorted(number for number in losses if now in losses[number])
    for later, beyond in zip(laters, [*laters[1:], None], strict=True):
        reached = [number for number in reached if later in losses[number]][-MAX_TRIALS:]
        now_N, later_N = (np.array([losses[number][at] for number in reached]) for at in (now, later))
        stays_N = np.array([beyond not in losses[number] for number in reached], dtype=bool)
        # Two that both go beyond are compared there.
        counted_NN = np.triu(stays_N[:, None] | stays_N[None, :], k=1)
        agree_NN = np.sign(now_N[:, None] - now_N) * np.sign(later_N[:, None] - later_N)
        balance += float(agree_NN[counted_NN].sum())
        num_pairs += float(counted_NN.sum())
    return balance / num_pairs


def share_advancing(keep: float, agreement: float) -> float:
    """Return which share of the trials at a rung advances: ``keep`` at full agreement, all of them at none."""
    return float(keep ** max(0.0, agreement))
