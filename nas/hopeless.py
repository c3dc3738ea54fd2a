"""When a search is given up, and what its failure says. Pure functions of trials; knows no store."""

from collections.abc import Sequence
from dataclasses import replace

from nas.confidence import Losses
from nas.rungs import Schedule
from nas.trial import Failure, FailureKind, Trial

NUM_HOPELESS = 3
"""A search is given up when so many trials, the first to end, all raised and none reached a rung: the
rest would raise too."""


def first_hopeless(searched: Sequence[Trial], losses: Losses, schedule: Schedule) -> list[Trial]:
    """Return the trials that a search is to be given up for; none while it may go on."""
    ended = [(trial.finished_at, trial.number, trial) for trial in searched if trial.finished_at]
    first = [trial for _, _, trial in sorted(ended)[:NUM_HOPELESS]]
    kinds = [trial.failure.kind for trial in first if trial.failure]
    has_worked = any(set(schedule.rungs) & set(each) for each in losses.values())
    return first if kinds == [FailureKind.ERROR] * NUM_HOPELESS and not has_worked else []


def failure_of_all(reason: str, trials: Sequence[Trial]) -> Failure:
    """Return the failure of a search that these trials leave without a student: the first of theirs, if any failed."""
    first = next((trial.failure for trial in trials if trial.failure), None)
    if first is None:
        return Failure(kind=FailureKind.ERROR, message=f"{reason}: all {len(trials)} were stopped by hand")
    return replace(first, message=f"{reason}, the first with: {first.message}")
