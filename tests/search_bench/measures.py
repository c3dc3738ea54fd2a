"""What is told of a method: tokens to the target, and how far it is from the best along the way. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.search_bench.replay import Step
from tests.search_bench.table import Table

CLOSE = 0.005
"""Relative distance from the best loss of a table that counts as having found it."""


def target(table: Table) -> float:
    """Return the loss to come to: within 0.5 % of the best or one seed deviation, whichever is larger."""
    best = float(table.final_N.min())
    return best + max(CLOSE * best, table.seed_deviation)


def tokens_to(table: Table, steps: Sequence[Step], loss: float) -> float:
    """Return after how many tokens the search's best was as good as ``loss``; infinity where it never was."""
    return next((step.num_tokens for step in steps if table.final_N[step.row] <= loss), float("inf"))


def regret(table: Table, steps: Sequence[Step], num_tokens: float) -> float:
    """Return how far the best that was known after so many tokens is from the best of the table, in nats.

    Before the first result: the regret of an architecture drawn at random, on average.
    """
    known = [step for step in steps if step.num_tokens <= num_tokens]
    loss = table.final_N[known[-1].row] if known else table.final_N.mean()
    return float(loss - table.final_N.min())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One method over its seeds."""

    tokens: tuple[float, ...]
    """To the target, as a share of exhaustive search, ascending."""
    regrets: tuple[float, ...]
    """Medians after each of the asked shares of exhaustive search."""
    final_losses: tuple[float, ...]
    """Of what each seed had found in the end."""

    @property
    def median(self) -> float:
        """Of the tokens."""
        return float(np.median(self.tokens))


def summary(table: Table, runs: Sequence[Sequence[Step]], shares: Sequence[float]) -> Summary:
    """Return what became of the seeds of a method."""
    loss, whole = target(table), table.exhaustive_tokens
    return Summary(
        tokens=tuple(sorted(tokens_to(table, steps, loss) / whole for steps in runs)),
        regrets=tuple(
            float(np.median([regret(table, steps, share * whole) for steps in runs])) for share in shares
        ),
        final_losses=tuple(float(table.final_N[steps[-1].row]) if steps else float("nan") for steps in runs),
    )
