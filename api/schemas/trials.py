"""Trials as REST answers with them: architectures, points, attempts, measurements."""

from datetime import datetime

from api.schemas.base import FailureResource, Recipe, Resource, WaitingResource
from nas.budget import Budget, CostName
from nas.mlflow_links import SearchLinks
from nas.standing import TrialRecord
from nas.trial import TrialRole, TrialState


class TraitsResource(Resource):
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


class ArchitectureResource(Resource):
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


class PointResource(Resource):
    """A held-out loss on the way, in nats per token."""

    num_tokens: int
    loss: float
    train_loss: float | None
    seconds: float
    at: datetime


class MeasurementResource(Resource):
    """The final numbers of a trial; losses in nats per held-out token."""

    num_tokens: int
    loss: float
    loss_before_retraining: float
    num_parameters: int
    train_seconds: float
    peak_memory_bytes: int | None
    shard_losses: list[float]
    """Of a promotion: on each of the equal shards of the held-out tokens; else empty."""


class AttemptResource(Resource):
    """One execution of a trial by one worker."""

    search_id: str
    trial_number: int
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    failure: FailureResource | None
    mlflow_run_id: str | None = None
    mlflow_url: str | None = None
    """Its page in MLflow, where browsers can reach that."""


class OriginResource(Resource):
    """The trial that measured something."""

    search_id: str
    trial_number: int


class TrialResource(Resource):
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
    enqueued_by: str | None
    """Who had this architecture tried, empty where that is not known; null: it was proposed by the search."""
    kept_layers: list[int] | None
    """Of the parent, ascending from 0; null until a worker has pruned it."""
    reused_from: OriginResource | None
    """The trial whose measurement and student stand for this one's, which was never run; null: it was run itself."""
    promoted_from: int | None
    """Of a promotion: the number of the trial whose student is retrained."""
    promotion: Recipe | None
    """Of a promotion: how."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TrialRecordResource(TrialResource):
    """A trial with the points and attempts on its way."""

    points: list[PointResource]
    attempts: list[AttemptResource]
    waiting: WaitingResource | None
    """Why it waits, where it does."""
    costs: dict[CostName, int]
    """What the architecture costs beside parameters, as far as the search's budget bounds it."""

    @classmethod
    def of(cls, record: TrialRecord, links: SearchLinks, budget: Budget) -> "TrialRecordResource":
        """Return the resource of a record."""
        trial = TrialResource.model_validate(record.trial)
        attempts = [AttemptResource.model_validate(attempt) for attempt in record.attempts]
        for attempt in attempts:
            place = attempt.trial_number, attempt.number
            attempt.mlflow_run_id, attempt.mlflow_url = links.run_ids.get(place), links.attempts.get(place)
        costs = budget.costs(record.trial.architecture)
        parts = {
            "points": list(record.points), "attempts": attempts, "waiting": record.waiting, "costs": costs
        }  # fmt: skip
        return cls.model_validate({**dict(trial), **parts})


class TrialPage(Resource):
    """A page of the trials of a search."""

    trials: list[TrialRecordResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""
