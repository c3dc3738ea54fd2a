"""Where searches stand: counts, the best trial so far, tokens done and to come, and time left.

Pure functions of what is stored.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import floor

from nas.frontier import gap_closed
from nas.promoting import planned_promotions, tokens_behind
from nas.ranking import ranking_of
from nas.rungs import Schedule, assumed_share, losses_by_trial, schedule, shares
from nas.search import Search, SearchSpec
from nas.storage.store import TrialPoint
from nas.tally import Tally, TrialGroup
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
    """The winner, once there is one; before that the trial of the lowest loss, of those that compete at equal tokens."""
    best_loss: float | None
    """Held-out nats per token of ``best``."""
    best_tokens: int | None
    """That ``best`` was retrained for, before and in its promotion."""
    gap_closed: float | None
    """Share of the loss added by pruning that the retraining of ``best`` removed."""
    before_promotion: Trial | None
    """Where ``best`` was retrained for longer, the best of the trials at equal tokens, which is what compares with
    baselines and with other searches; None: ``best`` is that."""
    tokens_done: int
    """Tokens trained on so far, as of each trial's last evaluation."""
    tokens_total: int
    """``tokens_done`` and about how many are still to come."""
    eta_seconds: float | None
    """Until the last trial is trained, at the pace so far; None when there is no pace yet, or no end."""
    tokens_saved: int = 0
    """That reused trials were not trained on, in neither of the above."""
    compute_seconds: float = 0.0
    """Worker seconds of all attempts, times the processes of each; one under way counts to its last evaluation."""
    progressed_at: datetime | None = None
    """When its workers last had something new to store; None before that."""
    waiting: Waiting | None = None
    """Why the search waits, where it does."""

    @property
    def compared(self) -> Trial | None:
        """The best of the trials at equal tokens, whatever was promoted."""
        return self.before_promotion or self.best


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
    losses, plan, ranking = losses_by_trial(points), schedule(spec), ranking_of(spec.weighed, trials)
    keeps = shares(trials, losses, plan, spec.rungs)
    return [
        replace(record, waiting=trial_waits(record.trial, trials, losses, plan, keeps, ranking=ranking))
        for record in records
    ]


def view_of(search: Search, tally: Tally) -> SearchView:
    """Return where a search stands, from what its trials sum up to."""
    line = tally.promoted or ((tally.best,) if tally.best else ())
    best = line[-1] if line else None
    measured = best.measurement if best else None
    counts: Counter[TrialState] = Counter()
    for group in tally.groups:
        counts[group.state] += group.size
    done = sum(group.num_tokens * group.size for group in tally.groups)
    ahead = _ahead(search, tally.groups)
    return SearchView(
        search=search,
        counts=counts,
        best=best,
        best_loss=measured.loss if measured else None,
        best_tokens=tokens_behind(line) if line else None,
        gap_closed=_gap_closed(line, search.parent_loss),
        before_promotion=tally.best if tally.promoted else None,
        tokens_done=done,
        tokens_total=done + round(ahead.num_tokens),
        eta_seconds=_eta_seconds(search, tally.busy, done, ahead),
        tokens_saved=tally.saved_tokens,
        compute_seconds=sum(
            group.spent.total_seconds() * (group.processes or search.spec.resources.processes)
            for group in tally.groups
        ),
        progressed_at=tally.progressed_at,
    )


def _gap_closed(line: Sequence[Trial], parent_loss: float | None) -> float | None:
    """Return the gap that a lineage closed: the first of it began from the pruned parent, whatever came after."""
    if not line or parent_loss is None:
        return None
    first, last = line[0].measurement, line[-1].measurement
    assert first is not None
    assert last is not None
    return gap_closed(last.loss, pruned_loss=first.loss_before_retraining, parent_loss=parent_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """What is still to be trained."""

    num_trials: int
    num_tokens: float


def _ahead(search: Search, groups: Iterable[TrialGroup]) -> _Ahead:
    """Return about how many tokens the trials that are not final are still to train on, baselines and promotions included."""
    if search.state.is_final:
        return _Ahead(num_trials=0, num_tokens=0.0)
    spec, plan = search.spec_by_now, schedule(search.spec)
    num_trials, num_tokens, begun = 0, 0.0, 0.0
    roles: Counter[TrialRole] = Counter()
    promoted = _promoted_plans(search)
    for group in groups:
        roles[group.role] += group.size
        is_searched = group.role is TrialRole.SEARCH
        to_go = 0.0
        if not group.state.is_final:
            keep = assumed_share(spec.rungs) if is_searched else 1.0
            own = promoted[0] if promoted and group.role is TrialRole.PROMOTION else plan
            to_go = _to_the_end(own, group.num_tokens, keep)
            num_trials += group.size
        num_tokens += group.size * to_go
        begun += group.size * (group.num_tokens + to_go) * is_searched
    promotions_to_come = promoted[roles.pop(TrialRole.PROMOTION, 0) :]
    num_tokens += sum(own.num_tokens for own in promotions_to_come)
    num_trials += len(promotions_to_come)
    if search.ended_as is not None:
        return _Ahead(num_trials=num_trials, num_tokens=num_tokens)
    to_come = max(0, min(spec.num_trials, search.num_feasible) - roles.pop(TrialRole.SEARCH, 0))
    each = _to_the_end(plan, 0, assumed_share(spec.rungs))
    if spec.max_tokens is not None:
        to_come = min(to_come, max(0, floor((spec.max_tokens - begun) / each)))
    baselines = spec.comparisons.random_architectures + spec.comparisons.random_indices
    baselines_to_come = max(0, baselines - roles.total())
    num_tokens += to_come * each + baselines_to_come * plan.num_tokens
    return _Ahead(num_trials=num_trials + to_come + baselines_to_come, num_tokens=num_tokens)


def _promoted_plans(search: Search) -> list[Schedule]:
    """Return how each promotion of a search is trained."""
    planned = planned_promotions(search)
    plans = {each: schedule(search.spec.promoted_by(each)) for each in set(planned)}
    return [plans[each] for each in planned]


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


def _eta_seconds(search: Search, busy: timedelta, done: int, ahead: _Ahead) -> float | None:
    """Return how long the tokens ahead take at the pace of the attempts so far, as many at once as allowed.

    The pace counts each attempt from its start to its last evaluation, so that neither a time when
    nothing ran nor training that is not yet evaluated distorts it.
    """
    if not (ahead.num_trials and done and busy):
        return None
    at_once = min(search.spec_by_now.max_parallel, ahead.num_trials)
    return ahead.num_tokens * busy.total_seconds() / done / at_once
