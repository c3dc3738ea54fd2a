"""Where searches stand: counts, the best trial so far, tokens done and to come, and time left.

Pure functions of what is stored.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from nas.frontier import best_trial, gap_closed
from nas.rungs import Schedule, losses_by_trial, schedule
from nas.search import Search, SearchSpec
from nas.storage.store import TrialPoint
from nas.trial import Attempt, Point, Trial, TrialRole, TrialState
from nas.waiting import Waiting, trial_waits


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial with all that is known of its way."""

    trial: Trial
    points: tuple[Point, ...]
    """By tokens."""
    attempts: tuple[Attempt, ...]
    """By number."""
    waiting: Waiting | None = None
    """Why it waits, where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView:
    """A search and where it stands."""

    search: Search
    counts: Mapping[TrialState, int]
    """Trials of every role in each state; states without any are left out."""
    best: Trial | None
    best_loss: float | None
    """Held-out nats per token of ``best``."""
    gap_closed: float | None
    """Share of the loss added by pruning that the retraining of ``best`` removed."""
    tokens_done: int
    """Tokens trained on so far, as of each trial's last evaluation."""
    tokens_total: int
    """``tokens_done`` and about how many are still to come."""
    eta_seconds: float | None
    """Until the last trial is trained, at the pace so far; None when there is no pace yet, or no end."""
    waiting: Waiting | None = None
    """Why the search waits, where it does."""


def records_of(
    trials: Iterable[Trial], points: Iterable[TrialPoint], attempts: Iterable[Attempt]
) -> list[TrialRecord]:
    """Return trials, in their order, with those of the points and attempts that are theirs."""
    points_of: dict[int, list[Point]] = defaultdict(list)
    for each in points:
        points_of[each.trial_number].append(each.point)
    attempts_of: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        attempts_of[attempt.trial_number].append(attempt)
    return [
        TrialRecord(
            trial=trial, points=tuple(points_of[trial.number]), attempts=tuple(attempts_of[trial.number])
        )
        for trial in trials
    ]


def with_waits(
    records: Iterable[TrialRecord], spec: SearchSpec, trials: Sequence[Trial], points: Iterable[TrialPoint]
) -> list[TrialRecord]:
    """Return records that say why their trials wait, told from all trials and points of their search."""
    losses, plan = losses_by_trial(points), schedule(spec)
    return [
        replace(record, waiting=trial_waits(record.trial, trials, losses, plan, spec.rungs.keep))
        for record in records
    ]


def view_of(search: Search, records: Sequence[TrialRecord]) -> SearchView:
    """Return where a search stands, from all its trials."""
    trials = [record.trial for record in records]
    best = best_trial(trials)
    measured = best.measurement if best else None
    done = sum(_tokens(record) for record in records)
    ahead = _ahead(search, records)
    return SearchView(
        search=search,
        counts=Counter(trial.state for trial in trials),
        best=best,
        best_loss=measured.loss if measured else None,
        gap_closed=(
            gap_closed(measured, search.parent_loss) if measured and search.parent_loss is not None else None
        ),
        tokens_done=done,
        tokens_total=done + round(sum(ahead)),
        eta_seconds=_eta_seconds(search, records, ahead),
    )


def _tokens(record: TrialRecord) -> int:
    return record.points[-1].num_tokens if record.points else 0


def _ahead(search: Search, records: Iterable[TrialRecord]) -> list[float]:
    """Return about how many tokens each trial that is not final is still to train on, baselines included."""
    if search.state.is_final:
        return []
    spec, plan = search.spec_by_now, schedule(search.spec)
    ahead = []
    for record in records:
        if not record.trial.state.is_final:
            keep = spec.rungs.keep if record.trial.role is TrialRole.SEARCH else 1.0
            ahead.append(_to_the_end(plan, _tokens(record), keep))
    roles = Counter(record.trial.role for record in records)
    num_searched = roles.pop(TrialRole.SEARCH, 0)
    to_come = max(0, min(spec.num_trials, search.num_feasible) - num_searched)
    baselines_to_come = (
        spec.comparisons.random_architectures + spec.comparisons.random_indices - roles.total()
    )
    ahead += [_to_the_end(plan, 0, spec.rungs.keep)] * to_come
    return ahead + [float(plan.num_tokens)] * baselines_to_come


def _to_the_end(plan: Schedule, done: int, keep: float) -> float:
    """Return how many tokens a trial that has ``done`` some is expected to train on yet."""
    ahead, chance, before = 0.0, 1.0, done
    for rung in plan.rungs:
        if rung > done:
            ahead += chance * (rung - before)
            before = rung
        if rung >= done:
            chance *= keep
    return ahead


def _eta_seconds(search: Search, records: Sequence[TrialRecord], ahead: Sequence[float]) -> float | None:
    """Return how long the tokens ahead take at the pace of the attempts so far, as many at once as allowed.

    The pace counts each attempt from its start to its last evaluation, so that neither a time when
    nothing ran nor training that is not yet evaluated distorts it.
    """
    done = sum(_tokens(record) for record in records)
    busy = sum(_busy_seconds(record) for record in records)
    if not (ahead and done and busy):
        return None
    return sum(ahead) * busy / done / min(search.spec_by_now.max_parallel, len(ahead))


def _busy_seconds(record: TrialRecord) -> float:
    starts = [attempt.started_at for attempt in record.attempts]
    busy = 0.0
    for start, end in zip_longest(starts, starts[1:]):
        evaluated = [point.at for point in record.points if point.at >= start and (not end or point.at < end)]
        if evaluated:
            busy += (evaluated[-1] - start).total_seconds()
    return busy
