"""What a search took, by what became of it, and what it saved against training every architecture that fits.

Pure functions of what is stored: their sums are the tokens and worker seconds that ``nas.standing`` counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nas.rungs import schedule
from nas.search import Search
from nas.standing import TrialRecord
from nas.tally import effort_of
from nas.trial import Trial, TrialRole


class SpentOn(StrEnum):
    """What became of the trials that something was spent on."""

    COMPLETED = "completed"
    """Trained to the last rung."""
    STOPPED = "stopped"
    """Compared at a rung and not advanced."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Ended by people."""
    UNDER_WAY = "under_way"
    BASELINES = "baselines"
    """Trained to judge the winner by, whatever became of them."""
    PROMOTIONS = "promotions"
    """The best, retrained for longer, whatever became of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What trials that are alike took."""

    on: SpentOn
    num_trials: int
    num_tokens: int
    """As of each trial's last evaluation."""
    compute_seconds: float
    """Worker seconds of all attempts, times the processes of each; one under way counts to its last evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a search took so far."""

    parts: tuple[Spent, ...]
    """In the order of ``SpentOn``; none without trials."""
    num_tokens: int
    compute_seconds: float
    exhaustive_tokens: int
    """What it takes to train every feasible architecture to the last rung, as the Minitron papers do."""
    exhaustive_seconds: float | None
    """The same at the pace of what was spent; None while nothing is trained."""
    saved_tokens: int
    """``exhaustive_tokens`` less what was spent but on promotions, which follow any search; below 0 where baselines cost
    more than was left out."""
    saved_share: float
    """Of ``exhaustive_tokens``."""

    def on(self, what: SpentOn) -> Spent | None:
        """Return one part, or None where there are no such trials."""
        return next((part for part in self.parts if part.on is what), None)


def spending(search: Search, records: Sequence[TrialRecord]) -> Spending:
    """Return what the trials of a search took."""
    efforts = [
        (
            _spent_on(record.trial),
            effort_of(
                [] if record.trial.reused_from else [(point.num_tokens, point.at) for point in record.points],
                [(attempt.started_at, attempt.ended_at) for attempt in record.attempts],
            ),
            record.trial.own_processes or search.spec.resources.processes,
        )
        for record in records
    ]
    parts = tuple(
        Spent(
            on=what,
            num_trials=len(own),
            num_tokens=sum(effort.num_tokens for effort, _ in own),
            compute_seconds=sum(effort.spent.total_seconds() * processes for effort, processes in own),
        )
        for what in SpentOn
        if (own := [(effort, processes) for on, effort, processes in efforts if on is what])
    )
    num_tokens = sum(part.num_tokens for part in parts)
    compute_seconds = sum(part.compute_seconds for part in parts)
    exhaustive = search.num_feasible * schedule(search.spec).num_tokens
    searching = sum(part.num_tokens for part in parts if part.on is not SpentOn.PROMOTIONS)
    return Spending(
        parts=parts,
        num_tokens=num_tokens,
        compute_seconds=compute_seconds,
        exhaustive_tokens=exhaustive,
        exhaustive_seconds=compute_seconds * exhaustive / num_tokens if num_tokens else None,
        saved_tokens=exhaustive - searching,
        saved_share=1 - searching / exhaustive,
    )


def _spent_on(trial: Trial) -> SpentOn:
    if trial.role is TrialRole.PROMOTION:
        return SpentOn.PROMOTIONS
    if trial.role is not TrialRole.SEARCH:
        return SpentOn.BASELINES
    return SpentOn[trial.state] if trial.state.is_final else SpentOn.UNDER_WAY
