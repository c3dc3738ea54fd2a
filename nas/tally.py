"""What the trials of a search sum up to: small however many there are, so that a store can count it.

Pure functions of what is stored; they say what every store's sums must equal.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

from minitron.architecture import Architecture
from nas.frontier import best_trial
from nas.promoting import lineage
from nas.trial import Attempt, Point, Trial, TrialRole, TrialState

Evaluated = tuple[int, datetime]
"""Tokens at which a trial was evaluated, and when."""
Span = tuple[datetime, datetime | None]
"""When an attempt started, and when it ended if it has."""
History = tuple[Trial, Sequence[Point], Sequence[Attempt]]
"""A trial with its points by tokens and its attempts by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a trial has taken so far."""

    num_tokens: int = 0
    """As of its last evaluation."""
    busy: timedelta = timedelta()
    """Of each attempt from its start to its last evaluation: what ``num_tokens`` took."""
    spent: timedelta = timedelta()
    """Of each attempt from its start to its end; one without an end counts to its last evaluation."""


def training_gigaflops(architecture: Architecture, num_tokens: int, *, sequence_length: int) -> int:
    """Return what it takes to train a student on so many tokens: forward, and backward at twice that."""
    return 3 * architecture.flops_per_token(context=sequence_length) * num_tokens // 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialGroup:
    """Trials of one search that are alike; there are few groups, since all trials are evaluated at the same tokens."""

    role: TrialRole
    state: TrialState
    num_tokens: int
    """Of each, as of its last evaluation."""
    processes: int | None = None
    """That trained each, where its promotion says how many; None: as many as the search's trials get."""
    size: int
    spent: timedelta = timedelta()
    """Of all together, as ``Effort`` has it: by one process of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The trials of one search, summed up."""

    groups: tuple[TrialGroup, ...] = ()
    """By role, state, tokens and processes; none is empty."""
    best: Trial | None = None
    """See ``nas.frontier.best_trial``."""
    promoted: tuple[Trial, ...] = ()
    """The trials that made the winner, itself last, where it was promoted; none where it was not, or there is none."""
    busy: timedelta = timedelta()
    """Of all trials, as ``Effort`` has it."""
    saved_tokens: int = 0
    """That reused trials were not trained on; in no group's ``num_tokens``."""
    progressed_at: datetime | None = None
    """When the holder of the search's lease last wrote something new; None before the first time."""


def effort_of(evaluated: Sequence[Evaluated], spans: Sequence[Span]) -> Effort:
    """Return what a trial has taken, from its points by tokens and its attempts by number."""
    busy = spent = timedelta()
    for (start, end), (following, _) in zip_longest(spans, spans[1:], fillvalue=(None, None)):
        assert start is not None
        own = [at for _, at in evaluated if at >= start and (following is None or at < following)]
        last = own[-1] if own else start
        busy += last - start
        spent += max(timedelta(), (end or last) - start)
    return Effort(num_tokens=evaluated[-1][0] if evaluated else 0, busy=busy, spent=spent)


def tally_of(
    histories: Iterable[History], progressed_at: datetime | None = None, winner: int | None = None
) -> Tally:
    """Return what all trials of a search, by number, sum up to; ``winner`` is the number of the one that won."""
    efforts = [
        (
            trial,
            effort_of(
                [] if trial.reused_from else [(point.num_tokens, point.at) for point in points],
                [(attempt.started_at, attempt.ended_at) for attempt in attempts],
            ),
        )
        for trial, points, attempts in histories
    ]
    alike: dict[tuple[TrialRole, TrialState, int, int | None], list[Effort]] = defaultdict(list)
    for trial, effort in efforts:
        alike[trial.role, trial.state, effort.num_tokens, trial.own_processes].append(effort)
    trials = [trial for trial, _ in efforts]
    won = next((trial for trial in trials if trial.number == winner), None)
    return Tally(
        groups=in_order(
            TrialGroup(
                role=role,
                state=state,
                num_tokens=num_tokens,
                processes=processes,
                size=len(own),
                spent=sum((effort.spent for effort in own), timedelta()),
            )
            for (role, state, num_tokens, processes), own in alike.items()
        ),
        best=best_trial(trials),
        promoted=tuple(lineage(won, trials)) if won and won.promoted_from is not None else (),
        busy=sum((effort.busy for _, effort in efforts), timedelta()),
        saved_tokens=sum(trial.saved_tokens for trial, _ in efforts),
        progressed_at=progressed_at,
    )


def in_order(groups: Iterable[TrialGroup]) -> tuple[TrialGroup, ...]:
    """Return groups in the order of a tally."""
    return tuple(
        sorted(groups, key=lambda group: (group.role, group.state, group.num_tokens, group.processes or 0))
    )
