"""What happened in a search, in words and in order: told from what is stored of it, not from a log.

Pure functions; knows no store. What people edited is not told: only that they did is stored, in the events.
What they ordered is.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from minitron.architecture import Architecture
from nas import wording
from nas.rungs import schedule
from nas.search import Event, Search, SearchState
from nas.spec import load
from nas.standing import TrialRecord
from nas.trial import TrialRole, TrialState

Tone = Literal["good", "bad", "plain"]
_ENDS = {
    TrialState.COMPLETED: "completed",
    TrialState.STOPPED: "was stopped: others of its rung lead",
    TrialState.FAILED: "failed",
    TrialState.CANCELLED: "was cancelled",
}
_ORDERED = {"cancel": "cancelled", "kill": "killed", "pause": "paused", "resume": "resumed"}
_LIMITS = {
    "num_trials": "{} trials in all",
    "max_tokens": "{:,} tokens in all",
    "max_parallel": "{} at a time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened, in one line."""

    at: datetime
    text: str
    trial_number: int | None = None
    tone: Tone = "plain"


def chronicle(
    search: Search, records: Iterable[TrialRecord], orders: Iterable[Event] = (), *, limit: int
) -> list[Happening]:
    """Return what happened last, the latest first; at most ``limit``. ``orders`` are the events of this kind."""
    rungs = schedule(search.spec).rungs[:-1]
    told = [*_of_search(search), *map(_of_order, orders)]
    for record in records:
        told += _of_trial(record, () if record.trial.role is TrialRole.PROMOTION else rungs)
    return heapq.nlargest(limit, told, key=lambda each: each.at)


def _of_search(search: Search) -> Iterator[Happening]:
    yield Happening(at=search.created_at, text="submitted")
    if search.started_at:
        yield Happening(at=search.started_at, text="taken up by a worker process")
    if search.finished_at:
        told = f"ended: it was {'killed' if search.orders.is_killed else 'cancelled'}"
        wins = f"trial {search.winner.trial_number} wins" if search.winner else ""
        match search.state:
            case SearchState.SUCCEEDED:
                told = f"succeeded: {wins}"
            case SearchState.CANCELLED if wins:
                told += f"; {wins}, promoted since"
        if search.failure:
            is_later = search.state is not SearchState.FAILED
            told = f"{f'{told}; promotion ' if is_later else ''}failed: {search.failure.message}"
        tone: Tone = "bad" if search.failure else "good" if search.winner else "plain"
        yield Happening(at=search.finished_at, text=told, tone=tone)


def _of_order(event: Event) -> Happening:
    order = event.data
    by = f" by {order['by']}" if order["by"] else ""
    match order["order"]:
        case "extend":
            limits = (
                words.format(order[name]) for name, words in _LIMITS.items() if order.get(name) is not None
            )
            text = f"limits changed{by}: {', '.join(limits)}"
        case "enqueue":
            text = f"{load(Architecture, order['architecture']).name} enqueued{by}"
        case "stop_trial":
            text = f"trial {order['trial_number']} ordered to stop{by}"
        case "promote":
            text = f"trial {order['trial_number']} ordered to be promoted{by}"
        case name:
            text = f"{_ORDERED[name]}{by}"
    return Happening(at=event.at, text=text, trial_number=event.trial_number)


def _of_trial(record: TrialRecord, rungs: Sequence[int]) -> Iterator[Happening]:
    trial = record.trial

    def told(at: datetime, text: str, tone: Tone = "plain") -> Happening:
        return Happening(at=at, text=f"trial {trial.number} {text}", trial_number=trial.number, tone=tone)

    told_of = f"is to try {trial.architecture.name} ({wording.ROLES[trial.role]})"
    if trial.promoted_from is not None:
        told_of = f"is to retrain the student of trial {trial.promoted_from} ({wording.ROLES[trial.role]})"
    yield told(trial.created_at, told_of)
    if trial.reused_from and trial.finished_at:
        with_loss = f" with loss {wording.loss(trial.measurement.loss)}" if trial.measurement else ""
        yield told(trial.finished_at, f"is reused from {trial.reused_from}{with_loss}", "good")
        return
    for attempt in record.attempts:
        again = f", attempt {attempt.number}" if attempt.number > 1 else ""
        yield told(attempt.started_at, f"trains on {attempt.worker}{again}")
        if attempt.failure and attempt.ended_at:
            yield told(attempt.ended_at, f"lost attempt {attempt.number}: {attempt.failure.message}", "bad")
    for point in record.points:
        if point.num_tokens in rungs:
            rung = rungs.index(point.num_tokens) + 1
            yield told(point.at, f"reached rung {rung} with loss {wording.loss(point.loss)}")
    if trial.finished_at:
        measured = trial.measurement
        with_loss = f" with loss {wording.loss(measured.loss)}" if measured else ""
        tone: Tone = "good" if measured else "bad" if trial.state is TrialState.FAILED else "plain"
        yield told(trial.finished_at, f"{_ENDS[trial.state]}{with_loss}", tone)
