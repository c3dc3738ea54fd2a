"""What a search found, in the order in which people read it; reads nothing but the parent's config."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from minitron.architecture import Architecture
from minitron.errors import MinitronError
from nas.comparisons import random_draws
from nas.frontier import Comparison, compare
from nas.limits import expected_trials
from nas.promoting import planned_promotions
from nas.rungs import schedule
from nas.search import Search, SearchSpec
from nas.space import search_space
from nas.standing import SearchView, TrialRecord
from nas.trial import Trial, TrialRole, TrialState

LAST = (TrialState.FAILED, TrialState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One trial on the leaderboard; losses in nats per held-out token, None until measured."""

    rank: int | None
    """1 is the best; only completed SEARCH trials compete, at the most tokens that any has seen."""
    record: TrialRecord
    loss_before: float | None
    """Of the pruned model, before retraining."""
    loss: float | None
    """At the last evaluation, which for a trial that was stopped is at fewer tokens."""
    num_tokens: int
    """At that evaluation."""


def leaderboard(records: Sequence[TrialRecord]) -> list[Line]:
    """Return the trials: completed ones by loss, baselines, those on their way, those that failed."""
    lines = [_line(record) for record in records]
    most = max((line.num_tokens for line in lines if _competes(line)), default=0)
    ranked = sorted(
        (line for line in lines if _competes(line) and line.num_tokens == most),
        key=lambda line: (
            line.loss,
            line.record.trial.architecture.parameter_count,
            line.record.trial.number,
        ),
    )
    ranks = {line.record.trial.number: rank for rank, line in enumerate(ranked, 1)}
    return sorted(
        (
            Line(
                rank=ranks.get(line.record.trial.number),
                record=line.record,
                loss_before=line.loss_before,
                loss=line.loss,
                num_tokens=line.num_tokens,
            )
            for line in lines
        ),
        key=_order,
    )


def comparison_of(search: Search, trials: Sequence[Trial]) -> Comparison | None:
    """Return how the best trial compares with its baselines so far, from the trials that have completed.

    None while there are none, and when the parent is gone: which architectures were drawn as baselines
    follows from its config.
    """
    if not any(trial.state is TrialState.COMPLETED for trial in trials):
        return None
    try:
        draws = _draws(search.measured_spec) if search.spec.comparisons.random_architectures else frozenset()
    except MinitronError:
        return None
    return compare(search, draws, trials)


def num_planned(view: SearchView) -> int:
    """Return about how many trials a search will have at its end; a draw tried already is no trial of its own."""
    spec = view.search.spec_by_now
    baselines = spec.comparisons.random_architectures + spec.comparisons.random_indices
    planned = expected_trials(spec, schedule(spec), view.search.num_feasible) + baselines
    return max(planned + len(planned_promotions(view.search)), sum(view.counts.values()))


@lru_cache(maxsize=512)
def _draws(spec: SearchSpec) -> frozenset[Architecture]:
    """Return the architectures that were drawn as baselines; a space is large, they are few."""
    return frozenset(random_draws(spec, search_space(spec)))


def _line(record: TrialRecord) -> Line:
    measured = record.trial.measurement
    first = record.points[0] if record.points and record.points[0].num_tokens == 0 else None
    last = record.points[-1] if record.points else None
    before = first.loss if first else None
    return Line(
        rank=None,
        record=record,
        loss_before=measured.loss_before_retraining if measured else before,
        loss=measured.loss if measured else last.loss if last else None,
        num_tokens=measured.num_tokens if measured else last.num_tokens if last else 0,
    )


def _competes(line: Line) -> bool:
    trial = line.record.trial
    return trial.role is TrialRole.SEARCH and trial.state is TrialState.COMPLETED and line.loss is not None


def _order(line: Line) -> tuple[int, int, float, int]:
    """Order ranked trials, completed baselines, trials on their way by how far they are, the rest."""
    trial = line.record.trial
    loss = float("inf") if line.loss is None else line.loss
    if line.rank is not None:
        return 0, line.rank, loss, trial.number
    if trial.state is TrialState.COMPLETED:
        return 1, 0, loss, trial.number
    return (3 if trial.state in LAST else 2), -line.num_tokens, loss, trial.number
