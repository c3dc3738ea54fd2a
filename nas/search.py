"""What was asked (``SearchSpec``, never changes) and what became of it (``Search``).

Values only; times are aware UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from minitron.errors import InvalidRecipe
from minitron.progress import Progress
from minitron.recipe import (
    CalibrationRecipe,
    DataRecipe,
    DistillationRecipe,
    PruningRecipe,
    TrainingRecipe,
)
from minitron.stage_recipes import CorrectionRecipe
from nas.accounts import DEFAULT_WORKSPACE
from nas.axes import Axes
from nas.budget import Budget
from nas.choice import Choice
from nas.counts import out_of_range
from nas.earlier import HistoryUse
from nas.errors import Conflict, InvalidSpec
from nas.finals import Evaluated, Evaluation
from nas.latency_table import LatencyTable
from nas.orders import Orders
from nas.promotion import Promotion
from nas.resources import Resources, not_together
from nas.sampling import Objective, Order, PriorName, SamplerName, not_sampled, not_weighed, weighed
from nas.trial import Failure

SPEC_VERSION = 1
MAX_NAME_LENGTH = 200
MOST = {"num_points": 1000, "num_trials": 100_000, "max_parallel": 10_000, "max_attempts": 1000}
"""Far more than anyone needs: where a search stands is counted again and again, also for searches to come."""
MOST_TOKENS = 10**15
MOST_BASELINES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """Where trials are compared on their way, and how many of them go on.

    The last rung, at the whole length, is always there and not listed. The defaults were settled on one table of
    measured losses and judged on another; see ``tests/benchmarks/SEARCH.md``.
    """

    fractions: tuple[float, ...] = (0.0, 1 / 16, 1 / 4)
    """Of ``training.num_tokens``, ascending; at 0 trials are compared before any retraining. None: all are trained to
    the end."""
    keep: float = 0.25
    """The share of the trials measured at a listed rung that advances from it."""
    adaptive: bool = True
    """Whether more advance, up to all, the less the ranking at a rung has agreed with those at later ones: the papers
    saw rankings settle after three quarters of the light retraining, where ``keep`` alone would lose winners."""

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        if not ascending or any(not 0 <= fraction < 1 for fraction in self.fractions):
            found = list(self.fractions)
            raise InvalidSpec((("rungs.fractions", f"found {found}, allowed: ascending, from 0 to below 1"),))
        if not 0 < self.keep < 1:
            raise InvalidSpec((("rungs.keep", f"found {self.keep}, allowed: between 0 and 1"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Baselines retrained at the end, at the tokens of a completed trial, to judge the winner by."""

    random_architectures: int = 0
    """Architectures drawn evenly from the feasible ones."""
    random_indices: int = 0
    """Times that the winner's own architecture is retrained from randomly kept indices."""

    def __post_init__(self) -> None:
        for name in ("random_architectures", "random_indices"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_BASELINES:
                reason = f"found {value}, allowed: 0 to {MOST_BASELINES}"
                raise InvalidSpec(((f"comparisons.{name}", reason),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """Everything that fixes a search: the same spec on the same versions asks the same thing."""

    parent: str
    """``builtin:tiny``, ``builtin:smollm2-135m``, ``hub:ORG/NAME[@REVISION][#FILE.gguf]``, or a local Hugging
    Face directory or GGUF file. What is stored names the commit of a parent on the hub."""
    budget: Budget
    axes: Axes
    name: str = ""
    parent_config: Mapping[str, Any] | None = field(default=None, hash=False)  # mappings have no hash
    """What the parent's ``config.json`` says of its shape, so that nothing needs the network later. Filled in
    when a search of a hub parent or a GGUF file is submitted; where it is given, the parent must have it."""
    data: DataRecipe = field(default_factory=DataRecipe)
    calibration: CalibrationRecipe = field(default_factory=CalibrationRecipe)
    pruning: PruningRecipe = field(default_factory=PruningRecipe)
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    correction: CorrectionRecipe | None = None
    """How the parent learns the data before it answers; None: it answers as it is. Scores and the weights that
    students are pruned from are the parent's in either case."""
    evaluation: Evaluation | None = None
    """Tasks that teacher and best students are put to after the trials; None: none."""
    promotion: Promotion | None = None
    """How the best are retrained for longer at the end, of which one wins; None: the best trial wins as it is."""
    num_points: int = 4
    """Held-out evaluations on the way to the last rung, evenly spaced in tokens, the last included."""
    num_trials: int = 60
    max_tokens: int | None = None
    """Training tokens of all trials together, at which no further one is proposed; those that have begun are finished.
    Reused trials and baselines do not count. None: ``num_trials`` alone limits."""
    max_parallel: int = 2
    rungs: Rungs = field(default_factory=Rungs)
    sampler: SamplerName = "tpe"
    order: Order = "space"
    """In which ``exhaustive`` goes: from small sizes to large ones, or shuffled by the seed."""
    objective: Objective | None = None
    """What ``nsga2`` weighs against the loss, also where trials are compared at rungs. The winner is the trial of lowest loss in any case."""
    prior: PriorName = "budget"
    """What picks the first trials of samplers that learn, before they have anything to learn from."""
    resources: Resources = field(default_factory=Resources)
    comparisons: Comparisons = field(default_factory=Comparisons)
    history: HistoryUse = field(default_factory=HistoryUse)
    max_attempts: int = 3
    """Executions of one trial before a lost worker is final."""
    checkpoint_seconds: float = 60.0
    """A trial writes its resumable state at rungs and at least this often."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = out_of_range({name: getattr(self, name) for name in MOST}, MOST)
        least = self._tokens_of_one
        if self.max_tokens is not None and not least <= self.max_tokens <= MOST_TOKENS:
            allowed = f"{least}, which one trial needs, to {MOST_TOKENS}"
            problems.append(("max_tokens", f"found {self.max_tokens}, allowed: {allowed}"))
        if len(self.name) > MAX_NAME_LENGTH:
            problems.append(
                ("name", f"found {len(self.name)} characters, allowed: at most {MAX_NAME_LENGTH}")
            )
        if self.checkpoint_seconds <= 0:
            problems.append(("checkpoint_seconds", f"found {self.checkpoint_seconds}, allowed: above 0"))
        problems += not_sampled(self.sampler, self.order, self.objective, self.prior)
        problems += not_weighed(self.objective, self.budget)
        if self.correction is not None:
            try:
                self.correction.training(self.training)
            except InvalidRecipe as error:
                problems.append((error.field, error.reason))
        problems += not_together(
            self.resources, self.training, self.distillation, sequence_length=self.data.sequence_length
        )
        if self.promotion is not None:
            problems += self.promotion.refusals(self.data, self.distillation, self.resources)
        if problems:
            raise InvalidSpec(tuple(problems))

    @property
    def weighed(self) -> Objective | None:
        """The objective as architectures are asked for it, of a search in its ``measured_spec``."""
        return weighed(self.objective, self.budget)

    @property
    def _tokens_of_one(self) -> int:
        """Tokens of a whole training."""
        length = self.data.sequence_length
        return self.training.num_steps(length) * self.training.blocks_per_step(length) * length

    def promoted_by(self, promotion: Promotion) -> "SearchSpec":
        """Return the spec by which promotions are run: one of trials that are trained to the end, each by itself.

        The teacher that the search corrected is given to them; they correct none.
        """
        return replace(
            self,
            training=promotion.training,
            distillation=promotion.distillation or self.distillation,
            resources=promotion.resources or self.resources,
            num_points=promotion.num_points,
            num_trials=promotion.top_k,
            max_tokens=None,
            rungs=Rungs(fractions=()),
            comparisons=Comparisons(),
            correction=None,
            evaluation=None,
            promotion=None,
        )


class SearchState(StrEnum):
    """QUEUED -> PREPARING -> RUNNING -> COMPLETING -> one of the three final states; PAUSED from each before them."""

    QUEUED = "QUEUED"
    PAUSED = "PAUSED"
    """Left alone until people resume it; it is QUEUED then."""
    PREPARING = "PREPARING"
    """Making or finding the parent, its blocks, scores and the teacher's answers."""
    RUNNING = "RUNNING"
    COMPLETING = "COMPLETING"
    """Baselines, tasks for the finalists, export and verification of the winner."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a search in this state has ended."""
        return self in {SearchState.SUCCEEDED, SearchState.FAILED, SearchState.CANCELLED}


_LEAVING = (SearchState.PAUSED, SearchState.FAILED, SearchState.CANCELLED)

LEGAL_MOVES: Mapping[SearchState, frozenset[SearchState]] = {
    # A search that is taken up after a crash prepares again (from caches), hence the moves back.
    SearchState.QUEUED: frozenset({SearchState.PREPARING, *_LEAVING}),
    SearchState.PAUSED: frozenset({SearchState.QUEUED, SearchState.CANCELLED}),
    SearchState.PREPARING: frozenset(
        # Whose trials were done before, and only promotions are left, completes at once.
        {SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING, *_LEAVING}
    ),
    SearchState.RUNNING: frozenset({SearchState.PREPARING, SearchState.COMPLETING, *_LEAVING}),
    SearchState.COMPLETING: frozenset({SearchState.PREPARING, SearchState.SUCCEEDED, *_LEAVING}),
    # Those two are queued again when somebody wants students of theirs promoted, and end as they had ended.
    SearchState.SUCCEEDED: frozenset({SearchState.QUEUED}),
    SearchState.FAILED: frozenset(),
    SearchState.CANCELLED: frozenset({SearchState.QUEUED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The best student of a search, exported and reloaded in a fresh process."""

    trial_number: int
    path: str
    """Checkpoint directory, below the artifact root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """What all trials of a search are made from, each named by its content."""

    parent: str
    """Weights and config."""
    blocks: str
    """Tokens of calibration, training and validation."""
    validation: str
    """The held-out tokens alone."""
    scores: str
    """Importance, and how it was measured."""
    teacher: str
    """What the teacher answers, in which form and precision."""
    loss_version: int = 1
    """By which version of the held-out loss they are measured; see ``minitron.loss_version``."""


LEAST_TO_WEIGH = 8
"""Trials that importance is told of: with fewer the shares would be those of chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisImportance:
    """Which share of the differences in loss each searched axis explains, by fANOVA (Hutter et al., 2014)."""

    num_trials: int
    """Trained to the last rung, that it was computed from."""
    shares: Mapping[str, float]
    """By the name of the axis; together 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What became of a spec."""

    id: str
    spec: SearchSpec
    state: SearchState = SearchState.QUEUED
    num_feasible: int
    """Architectures in the space."""
    parent_parameters: int
    parent_loss: float | None = None
    """Held-out nats per token of the parent; None until measured."""
    corrected_loss: float | None = None
    """The same of the corrected parent, where the search corrects it."""
    made_from: Artifacts | None = None
    """What its trials are made from; None until prepared."""
    evaluated: tuple[Evaluated, ...] = ()
    """What the teacher and the finalists, in this order, scored at tasks; empty until all were asked."""
    importance: AxisImportance | None = field(default=None, hash=False)  # mappings have no hash
    """None until enough trials have completed; follows from them, and is computed beside them."""
    num_priors: int | None = None
    """How many earlier measurements its proposals began from; None until that was settled, before its first trial."""
    latencies: LatencyTable | None = None
    """What was measured for a budget of latency, once, before its first trial: neither its space nor its costs change
    afterwards."""
    progress: Progress | None = None
    choice: Choice | None = None
    """Which of its promoted students won, and against which; None while none has completed."""
    winner: Winner | None = None
    ended_as: SearchState | None = None
    """The final state that it had when it was queued again for promotions, and will have again; None: it never was."""
    failure: Failure | None = None
    cancel_requested: bool = False
    """This and the orders are people's: no runner writes them."""
    orders: Orders = field(default_factory=Orders)
    """What was ordered of it since it was submitted."""
    cloned_from: str | None = None
    """Id of the search whose spec this one's was made from."""
    workspace: str = DEFAULT_WORKSPACE
    """Whose members see it; it never moves to another."""
    owner: str = ""
    """This and the next three are what people say of it, at any time; see ``nas.edits``."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    archived: bool = False
    version: int = 0
    """How often that was edited."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def measured_spec(self) -> SearchSpec:
        """What was asked, with the latencies that were measured for it: what its space is made from."""
        return replace(self.spec, budget=self.budget) if self.latencies else self.spec

    @property
    def budget(self) -> Budget:
        """What its students may cost, with what was measured for it."""
        return self.spec.budget.measured(self.latencies)

    @property
    def spec_by_now(self) -> SearchSpec:
        """That, with the limits that were ordered since in place of its own."""
        return replace(self.measured_spec, **self.orders.limits)

    def ending(self, state: SearchState) -> SearchState:
        """Return how this search ends where ``state`` is how one would that never had ended."""
        return self.ended_as or state

    def moved(self, state: SearchState, at: datetime, **changes: Any) -> "Search":
        """Return this search in another state; one that had ended remembers how.

        Raises:
            Conflict: The move is not in ``LEGAL_MOVES``, or its losses would not compare with those that it has.
        """
        ends_again = state is self.ended_as and not self.state.is_final
        if state not in LEGAL_MOVES[self.state] and not ends_again:
            raise Conflict(f"search {self.id}: is {self.state} and cannot become {state}")
        if self.state.is_final:
            again = {"ended_as": self.state, "cancel_requested": False, "finished_at": None}
            changes = again | changes
        made_from = changes.get("made_from")
        if made_from and self.made_from and made_from.loss_version != self.made_from.loss_version:
            raise Conflict(
                f"search {self.id}: was measured by version {self.made_from.loss_version} of the held-out loss and "
                f"cannot go on by version {made_from.loss_version}; allowed: nas clone {self.id}"
            )
        if state is SearchState.PREPARING:
            changes["started_at"] = self.started_at or at
        if state.is_final:
            changes |= {"finished_at": at, "progress": None}
        elif state is SearchState.PAUSED:
            changes["progress"] = None
        return replace(self, state=state, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, in the order in which it was committed."""

    sequence: int
    """Ascending over the whole store."""
    search_id: str
    kind: str
    """``search`` (state, progress or result changed), ``edit`` (what people say of it changed), ``order`` (they want
    something of it), ``trial``, ``point`` or ``attempt``."""
    trial_number: int | None
    at: datetime
    data: Mapping[str, Any]
    """The changed object as JSON: a Search without its spec, notes and orders, all that is said of it by now with its
    version, an order with its name and who gave it (``by``, empty: not known), a Trial, an Attempt, or a Point with its ``trial_number``."""
