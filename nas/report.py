"""What a search found, what it cost and what it teaches, in one value: what page, REST and command line tell of it.

Pure functions of what is stored. Bounded: of many trials those that lead are told of, so that a report of a search of
any length can be read and sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nas import wording
from nas.agreement import Agreement, rank_agreement
from nas.axes import AXIS_NAMES
from nas.budget import Counting
from nas.frontier import Comparison, pareto_front
from nas.leaderboard import Line, leaderboard
from nas.report_promotions import Promotions, promotions
from nas.report_spending import Spending, spending
from nas.report_words import verdict
from nas.report_zones import Zones, zones
from nas.rungs import schedule
from nas.sampling import Objective
from nas.search import AxisImportance, Search, SearchState
from nas.series import Curve, curve, furthest
from nas.standing import SearchView, TrialRecord
from nas.trial import Trial, TrialRole, TrialState

MOST_TRIALS = 500
MOST_CURVES = 60
MOST_CURVE_POINTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTrial:
    """One trial; losses in nats per held-out token, None until measured."""

    number: int
    architecture: str
    """Its name."""
    role: TrialRole
    state: TrialState
    sizes: Mapping[str, int]
    """On the searched axes."""
    num_parameters: int
    """As the budget counts them."""
    cost: int
    """What the search weighs against the loss: parameters unless it says otherwise; see ``SearchReport.cost``."""
    rank: int | None
    """1 is the best; only completed trials of the search compete."""
    loss_before: float | None
    """Of the pruned model, before retraining."""
    loss: float | None
    """At the last evaluation."""
    num_tokens: int
    """At that evaluation; losses compare at equal tokens only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """A search as it stood at a time."""

    search_id: str
    name: str
    owner: str
    tags: tuple[str, ...]
    notes: str
    state: SearchState
    at: datetime
    """When the report was made."""
    created_at: datetime
    finished_at: datetime | None
    verdict: tuple[str, ...]
    """The best student against budget, parent and baselines, in sentences for people."""
    parent: str
    parent_parameters: int
    """As the budget counts them, where the parent's config is there; else all of them."""
    parent_loss: float | None
    budget: str
    """What a student may cost, in words."""
    max_parameters: int | None
    counting: Counting
    cost: str
    """What the search weighs against the loss, in words."""
    axes: tuple[str, ...]
    """Those that are searched."""
    sampler: str
    seed: int
    data: tuple[str, ...]
    """Names of the sources of text."""
    num_feasible: int
    """Architectures that fit the budget."""
    rungs: tuple[int, ...]
    """Tokens at which trials are compared, the last of a whole training."""
    counts: Mapping[TrialState, int]
    """Trials of every role in each state; states without any are left out."""
    best: ReportedTrial | None
    """The winner once there is one, as ``SearchView`` has it."""
    best_tokens: int | None
    """That it was retrained for, before and in its promotion."""
    gap_closed: float | None
    """Share of the loss added by pruning that the retraining of the best removed."""
    before_promotion: ReportedTrial | None
    """The best of the trials at equal tokens, where ``best`` was retrained for longer; None: ``best`` is that."""
    comparison: Comparison | None
    """The best of the trials at equal tokens beside the baselines."""
    front: tuple[ReportedTrial, ...]
    """Completed trials that none of lower or equal cost beats, from low cost to high."""
    trials: tuple[ReportedTrial, ...]
    """At most MOST_TRIALS, those that lead first."""
    curves: tuple[Curve, ...]
    """Of at most MOST_CURVES trials, those that are furthest, each in at most MOST_CURVE_POINTS points."""
    agreement: tuple[Agreement, ...]
    """Of the rankings at each pair of token counts."""
    importance: AxisImportance | None
    """None while too few trials are trained to the end."""
    zones: Zones
    spending: Spending
    promotions: Promotions | None
    """What was retrained for longer; None where nothing is."""

    @property
    def compared(self) -> ReportedTrial | None:
        """The best of the trials at equal tokens: what figures of these show as the best."""
        return self.before_promotion or self.best


def search_report(
    view: SearchView, records: Sequence[TrialRecord], comparison: Comparison | None, at: datetime
) -> SearchReport:
    """Return the report of a search.

    Args:
        view: Where it stands.
        records: All its trials, by number.
        comparison: Of its best trial with the baselines; see ``nas.leaderboard.comparison_of``.
        at: The present.
    """
    search, spec, objective = view.search, view.search.spec, view.search.measured_spec.weighed
    lines = {line.record.trial.number: line for line in leaderboard(records)}
    told = {number: _told(search, line, objective) for number, line in lines.items()}
    trials = [record.trial for record in records]
    points = {record.trial.number: record.points for record in records}
    spent, promoted = spending(search, records), promotions(search, records)
    return SearchReport(
        search_id=search.id,
        name=spec.name,
        owner=search.owner,
        tags=search.tags,
        notes=search.notes,
        state=search.state,
        at=at,
        created_at=search.created_at,
        finished_at=search.finished_at,
        verdict=verdict(view, comparison, spent, promoted),
        parent=spec.parent,
        parent_parameters=search.parent_parameters,
        parent_loss=search.parent_loss,
        budget=wording.budget(search.budget),
        max_parameters=spec.budget.max_parameters,
        counting=spec.budget.counting,
        cost=objective.words if objective else wording.COUNTED[spec.budget.counting],
        axes=tuple(_searched(search)),
        sampler=spec.sampler,
        seed=spec.seed,
        data=tuple(source.source for source in spec.data.all_sources.values()),
        num_feasible=search.num_feasible,
        rungs=schedule(spec).rungs,
        counts=view.counts,
        best=told[view.best.number] if view.best else None,
        best_tokens=view.best_tokens,
        gap_closed=view.gap_closed,
        before_promotion=told[view.before_promotion.number] if view.before_promotion else None,
        comparison=comparison,
        front=tuple(told[trial.number] for trial in pareto_front(trials, objective)),
        trials=tuple(told.values())[:MOST_TRIALS],
        curves=tuple(
            curve(trial, points[trial.number], MOST_CURVE_POINTS)
            for trial in furthest([trial for trial in trials if points[trial.number]], MOST_CURVES)
        ),
        agreement=tuple(rank_agreement(records)),
        importance=search.importance,
        zones=zones(search, records),
        spending=spent,
        promotions=promoted,
    )


def _searched(search: Search) -> list[str]:
    return [name for name in AXIS_NAMES if getattr(search.spec.axes, name) is not None]


def _told(search: Search, line: Line, objective: Objective | None) -> ReportedTrial:
    trial: Trial = line.record.trial
    budget = search.spec.budget
    return ReportedTrial(
        number=trial.number,
        architecture=trial.architecture.name,
        role=trial.role,
        state=trial.state,
        sizes={name: getattr(trial.architecture, name) for name in _searched(search)},
        num_parameters=budget.count(trial.architecture),
        cost=objective.of(trial.architecture) if objective else budget.count(trial.architecture),
        rank=line.rank,
        loss_before=line.loss_before,
        loss=line.loss,
        num_tokens=line.num_tokens,
    )
