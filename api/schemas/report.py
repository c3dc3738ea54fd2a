"""A report as REST answers with it. Losses are nats per held-out token."""

from collections.abc import Mapping
from datetime import datetime

from api.schemas.base import Resource
from api.schemas.history import CurveResource
from api.schemas.searches import AxisImportanceResource, ComparisonResource
from nas.axes import AxisName
from nas.budget import Counting
from nas.report_spending import SpentOn
from nas.search import SearchState
from nas.trial import TrialRole, TrialState


class ReportedTrialResource(Resource):
    """One trial."""

    number: int
    architecture: str
    role: TrialRole
    state: TrialState
    sizes: Mapping[str, int]
    """On the searched axes."""
    num_parameters: int
    """As the budget counts them."""
    cost: int
    """What the search weighs against the loss."""
    rank: int | None
    """1 is the best; only completed trials of the search compete."""
    loss_before: float | None
    """Of the pruned model, before retraining."""
    loss: float | None
    """At the last evaluation."""
    num_tokens: int
    """At that evaluation; losses compare at equal tokens only."""


class AgreementResource(Resource):
    """How far the ranking at ``earlier`` tokens is the ranking at ``later`` ones."""

    earlier: int
    later: int
    num_trials: int
    """Measured at both."""
    tau: float | None
    """Kendall's: 1 the same order, 0 unrelated, -1 the reverse; null with too few trials, or where all tie."""


class SizesResource(Resource):
    """Neighbouring sizes on an axis, both ends included."""

    axis: AxisName
    least: int
    most: int


class ZoneResource(Resource):
    """The architectures with such sizes, on one axis or on two; losses are those at the first rung."""

    sizes: list[SizesResource]
    num_trials: int
    num_behind: int
    """Whose loss is above ``behind_above``, or not finite."""
    best_loss: float | None
    median_loss: float | None
    chance: float | None
    """That as many trials, drawn blindly, were all behind; null where some are not."""
    never_works: bool
    """Whether all are behind, none recovered, and chance is no explanation."""


class ZonesResource(Resource):
    """What the trials tell of the parts of the space."""

    num_tokens: int
    """Of the first rung, where all trials are compared."""
    num_trials: int
    median_loss: float | None
    behind_above: float | None
    choices: list[ZoneResource]
    """By axis and size."""
    pairs: list[ZoneResource]
    """Pairs that never work though neither of their sizes is such a zone by itself."""


class SpentResource(Resource):
    """What trials took that came to the same end."""

    on: SpentOn
    num_trials: int
    num_tokens: int
    compute_seconds: float
    """Worker seconds of all attempts, times the processes of each."""


class PromotedStudentResource(Resource):
    """A student that was retrained for longer."""

    trial_number: int
    promoted_from: int
    """The trial that was promoted."""
    architecture: str
    num_parameters: int
    """As the budget counts them."""
    state: TrialState
    num_tokens: int
    """That it was retrained for so far."""
    of_tokens: int
    """That it is retrained for in all."""
    loss_before: float | None
    loss: float | None
    """At the last evaluation."""
    shard_error: float | None
    """The standard error of the mean over the shards of the held-out tokens."""
    num_shards: int
    difference: float | None
    """The mean over the shards of its loss minus the lowest's; null where not all is measured yet."""
    difference_error: float | None
    """Of that mean."""
    is_tied: bool
    """Whether the difference from the lowest is noise."""
    is_winner: bool
    """Whether it wins, or leads so far."""


class PromotionsResource(Resource):
    """What promotion found of a search."""

    students: list[PromotedStudentResource]
    """Those that have completed, the lowest loss first, then the others."""
    num_to_come: int
    """That are wanted and not begun."""
    num_tokens: int
    counted: str
    """What decides among those that tie, in words."""
    unpromoted: int | None
    """The search's own best trial, where it wins as it is, its loss being lower than theirs."""


class SpendingResource(Resource):
    """What a search took so far."""

    parts: list[SpentResource]
    num_tokens: int
    compute_seconds: float
    exhaustive_tokens: int
    """What it takes to train every feasible architecture to the last rung."""
    exhaustive_seconds: float | None
    """The same at the pace of what was spent."""
    saved_tokens: int
    """Below 0 where baselines cost more than was left out."""
    saved_share: float


class ReportResource(Resource):
    """What a search found, what it cost and what it teaches, as it stood at a time."""

    search_id: str
    name: str
    owner: str
    tags: list[str]
    notes: str
    state: SearchState
    at: datetime
    """When the report was made."""
    created_at: datetime
    finished_at: datetime | None
    verdict: list[str]
    """The best student against budget, parent and baselines, in sentences for people."""
    parent: str
    parent_parameters: int
    parent_loss: float | None
    budget: str
    """What a student may cost, in words."""
    max_parameters: int | None
    counting: Counting
    cost: str
    """What the search weighs against the loss, in words: parameters, unless its objective is another."""
    axes: list[str]
    """Those that are searched."""
    sampler: str
    seed: int
    data: list[str]
    """Names of the sources of text."""
    num_feasible: int
    rungs: list[int]
    """Tokens at which trials are compared, the last of a whole training."""
    counts: Mapping[TrialState, int]
    best: ReportedTrialResource | None
    """The winner once there is one; before that the trial of the lowest loss at equal tokens."""
    best_tokens: int | None
    """That it was retrained for, before and in its promotion."""
    gap_closed: float | None
    """Share of the loss added by pruning that its retraining removed."""
    before_promotion: ReportedTrialResource | None
    """The best of the trials at equal tokens, where ``best`` was retrained for longer; null: ``best`` is that."""
    comparison: ComparisonResource | None
    """The best of the trials at equal tokens beside the baselines."""
    front: list[ReportedTrialResource]
    """From low cost to high."""
    trials: list[ReportedTrialResource]
    """Those that lead, at most 500."""
    curves: list[CurveResource]
    """Of those that are furthest."""
    agreement: list[AgreementResource]
    importance: AxisImportanceResource | None
    zones: ZonesResource
    spending: SpendingResource
    promotions: PromotionsResource | None
    """What was retrained for longer; null where nothing is."""
