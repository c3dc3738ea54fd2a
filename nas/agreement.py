"""Whether trials rank early as they rank late: the question that decides where rungs may stand.

Kendall's tau-b between the held-out losses of the same trials at two token counts. Pure functions of points.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.standing import TrialRecord

# M token counts, N trials

MIN_TRIALS = 3
"""Two trials agree or do not; that is no correlation."""
MAX_COUNTS = 8
"""Token counts that are compared; of more, evenly spaced ones."""
MAX_TRIALS = 500
"""Latest trials that are compared: pairs of trials are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the ranking at ``earlier`` tokens is the ranking at ``later`` ones."""

    earlier: int
    later: int
    num_trials: int
    """Measured at both."""
    tau: float | None
    """1: the same order, 0: unrelated, -1: the reverse; None with fewer than MIN_TRIALS, or where all tie."""


def rank_agreement(records: Iterable[TrialRecord]) -> list[Agreement]:
    """Return the agreement of each pair of evaluated token counts, by ``earlier``, then ``later``.

    Trials with random indices and promotions are left out: they repeat an architecture.
    """
    found = [
        {point.num_tokens: point.loss for point in record.points}
        for record in records
        if record.trial.role.tells_of_architecture
    ][-MAX_TRIALS:]
    counts = _spaced(sorted({count for losses in found for count in losses}))
    losses_MN = np.array([[losses.get(count, np.nan) for losses in found] for count in counts])
    return [
        _agreement(earlier, later, losses_MN[i], losses_MN[j])
        for i, earlier in enumerate(counts)
        for j, later in enumerate(counts)
        if i < j
    ]


def kendall_tau(x_N: npt.NDArray[np.float64], y_N: npt.NDArray[np.float64]) -> float | None:
    """Return Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the untied ones.

    None where all of one side tie.
    """
    signs = [np.sign(values_N[:, None] - values_N[None, :]) for values_N in (x_N, y_N)]
    untied = [float(np.count_nonzero(sign_NN)) for sign_NN in signs]
    if 0 in untied:
        return None
    return float((signs[0] * signs[1]).sum() / np.sqrt(untied[0] * untied[1]))


def _agreement(
    earlier: int, later: int, x_N: npt.NDArray[np.float64], y_N: npt.NDArray[np.float64]
) -> Agreement:
    at_both_N = ~(np.isnan(x_N) | np.isnan(y_N))
    num_trials = int(at_both_N.sum())
    tau = kendall_tau(x_N[at_both_N], y_N[at_both_N]) if num_trials >= MIN_TRIALS else None
    return Agreement(earlier=earlier, later=later, num_trials=num_trials, tau=tau)


def _spaced(counts: Sequence[int]) -> list[int]:
    if len(counts) <= MAX_COUNTS:
        return list(counts)
    return [counts[round(i * (len(counts) - 1) / (MAX_COUNTS - 1))] for i in range(MAX_COUNTS)]
