"""What REST answers with: explicit, so that the domain can change without changing the interface.

Names and units are the domain's; see ``nas.search`` and ``nas.trial`` for what each field means.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.edits import MAX_NOTES_LENGTH, MAX_OWNER_LENGTH, MAX_TAG_LENGTH, MAX_TAGS
from nas.frontier import Comparison
from nas.search import SearchState
from nas.spec import dump
from nas.standing import SearchView, TrialRecord
from nas.trial import FailureKind, TrialRole, TrialState


class _Resource(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Health(_Resource):
    """Answered by a process that can serve."""

    status: Literal["ok"]


class FieldProblem(_Resource):
    """What is wrong with one field."""

    field: str
    """Dotted path in the spec, or the name of a parameter."""
    reason: str


class Problem(_Resource):
    """An error, as RFC 9457 says."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs; the detail is for people."""
    detail: str
    instance: str
    errors: list[FieldProblem]


class FailureResource(_Resource):
    """Why a trial or a search ended: one line, the worker's traceback if it raised, the end of its log."""

    kind: FailureKind
    message: str
    traceback: str | None
    log_tail: str | None


class ProgressResource(_Resource):
    """One stage of work; a total of 0 is unknown."""

    stage: str
    done: int
    total: int
    unit: str
    is_cached: bool


class TraitsResource(_Resource):
    """What the blocks of a family hold besides the matrices that every family has."""

    mlp_matrices: int
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    qk_norm_spans_heads: bool
    norm_bias: bool
    block_norms: int
    learned_positions: int
    heads_span_hidden: bool


class ArchitectureResource(_Resource):
    """The shape of a model, in the words of Hugging Face configs."""

    name: str
    parameter_count: int
    """Embeddings included, a tied table once."""
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    family: str
    traits: TraitsResource


class PointResource(_Resource):
    """A held-out loss on the way, in nats per token."""

    num_tokens: int
    loss: float
    train_loss: float | None
    seconds: float
    at: datetime


class MeasurementResource(_Resource):
    """The final numbers of a trial; losses in nats per held-out token."""

    num_tokens: int
    loss: float
    loss_before_retraining: float
    num_parameters: int
    train_seconds: float
    peak_memory_bytes: int | None


class AttemptResource(_Resource):
    """One execution of a trial by one worker."""

    search_id: str
    trial_number: int
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    failure: FailureResource | None
    mlflow_run_id: str | None


class TrialResource(_Resource):
    """One architecture on trial."""

    search_id: str
    number: int
    architecture: ArchitectureResource
    role: TrialRole
    state: TrialState
    rung: int
    num_attempts: int
    measurement: MeasurementResource | None
    failure: FailureResource | None
    checkpoint: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TrialRecordResource(TrialResource):
    """A trial with the points and attempts on its way."""

    points: list[PointResource]
    attempts: list[AttemptResource]

    @classmethod
    def of(cls, record: TrialRecord) -> "TrialRecordResource":
        """Return the resource of a record."""
        trial = TrialResource.model_validate(record.trial)
        return cls.model_validate(
            {**dict(trial), "points": list(record.points), "attempts": list(record.attempts)}
        )


class TrialPage(_Resource):
    """A page of the trials of a search."""

    trials: list[TrialRecordResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""


class WinnerResource(_Resource):
    """The best student: its trial, and its checkpoint directory below the artifact root."""

    trial_number: int
    path: str


class ComparisonResource(_Resource):
    """The winner beside what it is judged by, at equal tokens; nats per held-out token."""

    winner_loss: float
    parent_loss: float | None
    random_architectures: list[float]
    random_indices: list[float]


class TaskScoreResource(_Resource):
    """One number that a model reached at one task of the lm-evaluation-harness."""

    task: str
    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool
    num_samples: int
    num_fewshot: int


class EvaluatedResource(_Resource):
    """What one model scored: a finalist by its trial's number, or with null the teacher."""

    trial_number: int | None
    scores: list[TaskScoreResource]


class SearchResource(_Resource):
    """A search: what was asked, what became of it, and where it stands."""

    id: str
    spec: dict[str, Any]
    """What was asked, complete with its defaults."""
    state: SearchState
    num_feasible: int
    parent_parameters: int
    parent_loss: float | None
    corrected_loss: float | None
    """Of the corrected parent, where the search corrects its teacher."""
    evaluated: list[EvaluatedResource]
    """Teacher and finalists at tasks, where the search puts them to any."""
    progress: ProgressResource | None
    winner: WinnerResource | None
    failure: FailureResource | None
    cancel_requested: bool
    cloned_from: str | None
    """The search whose spec this one's was made from."""
    owner: str
    """Whose it is, as people say it; empty: nobody's. This and the next three are people's to edit."""
    tags: list[str]
    notes: str
    """Markdown."""
    archived: bool
    version: int
    """How often that was edited; the ETag is this number in quotes."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counts: Mapping[TrialState, int]
    """Trials in each state, baselines included."""
    best: TrialResource | None
    best_loss: float | None
    gap_closed: float | None
    """Share of the loss added by pruning that the best trial's retraining removed."""
    tokens_done: int
    tokens_total: int
    eta_seconds: float | None
    comparison: ComparisonResource | None = None
    """Only where one search is asked for, once a trial has completed."""
    disk_bytes: int | None = None
    """Of its states, students and winner; only where one search is asked for."""

    @classmethod
    def of(
        cls, view: SearchView, comparison: Comparison | None = None, disk_bytes: int | None = None
    ) -> "SearchResource":
        """Return the resource of a view."""
        standing = {name: getattr(view, name) for name in VIEW_FIELDS}
        return cls.model_validate(
            {**dump(view.search), **standing, "comparison": comparison, "disk_bytes": disk_bytes}
        )


VIEW_FIELDS = ("counts", "best", "best_loss", "gap_closed", "tokens_done", "tokens_total", "eta_seconds")


class SpanResource(_Resource):
    """The least and the most over the space."""

    least: int
    most: int


class RateResource(_Resource):
    """What the resources of one trial compute, and where that is known from."""

    flops_per_second: float
    source: str


class TrainingMemoryResource(_Resource):
    """Bytes on the device at the peak of an optimiser step, for the architecture that takes the most."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    teacher: int
    total: int


class TrialEstimateResource(_Resource):
    """One trial that is trained to the last rung."""

    num_tokens: int
    flops: SpanResource
    memory: TrainingMemoryResource
    processes: int
    """That share its work; what follows is of each."""
    parent_bytes: int
    """Of the parent in host memory, in each worker."""
    preparation_bytes: int
    """Of the parent that is calibrated, corrected and asked before all trials, on the device."""
    correction_bytes: int
    """Of its correction alone; 0 without."""
    memory_bytes: int
    """What must fit where the trial trains and is prepared for."""
    host_bytes: int
    """What a worker takes of its node's memory."""
    state_bytes: SpanResource
    student_bytes: SpanResource
    seconds: float | None


class EstimateResource(_Resource):
    """What a search would cost: bytes, floating-point operations and, where a rate is known, hours."""

    num_feasible: int
    parameters: SpanResource
    num_trials: int
    num_baselines: int
    num_finalists: int
    """Students that are put to tasks, whose work is not counted."""
    learnt_from: str
    """What students learn from, for people; some may learn from less."""
    is_teacher_live: bool
    teacher_cache_bytes: int
    trial: TrialEstimateResource
    num_tokens: int
    preparation_flops: int
    correction_flops: int
    """Of them; 0 without correction."""
    flops: int
    disk_bytes: int
    rate: RateResource | None
    hours: float | None
    unchecked: list[str]
    """What could not be looked at, and why."""


class SearchEdit(BaseModel):
    """A merge patch of what people say of a search; null takes it back. Only described here, read by the domain."""

    model_config = ConfigDict(extra="forbid")

    owner: Annotated[str, Field(max_length=MAX_OWNER_LENGTH)] | None = None
    tags: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_TAG_LENGTH)]], Field(max_length=MAX_TAGS)
        ]
        | None
    ) = None
    notes: Annotated[str, Field(max_length=MAX_NOTES_LENGTH)] | None = None
    archived: bool | None = None


class SearchPage(_Resource):
    """A page of searches."""

    searches: list[SearchResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""


class LogResource(_Resource):
    """The end of the log of a search's worker."""

    source: Literal["file", "failure"]
    """The file, or what the search's failure took along of it, where the file is on another machine."""
    lines: list[str]
    is_whole: bool
    """Whether nothing comes before these lines."""
    updated_at: datetime | None
    """When the last line was written."""


class EventResource(_Resource):
    """Something that happened; ``data`` is the changed object."""

    sequence: int
    search_id: str
    kind: str
    trial_number: int | None
    at: datetime
    data: dict[str, Any]
