"""Searches as REST answers with them, and the edits that it takes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.base import FailureResource, ProgressResource, Resource, WaitingResource
from api.schemas.control import OrdersResource
from api.schemas.latencies import LatencyTableResource
from api.schemas.trials import TrialResource
from nas.edits import MAX_NOTES_LENGTH, MAX_OWNER_LENGTH, MAX_TAG_LENGTH, MAX_TAGS
from nas.frontier import Comparison
from nas.mlflow_links import ModelVersion
from nas.search import SearchState
from nas.spec import dump
from nas.standing import SearchView
from nas.trial import TrialState


class WinnerResource(Resource):
    """The best student: its trial, and its checkpoint directory below the artifact root."""

    trial_number: int
    path: str
    """Where a promotion won, a directory of that winner's own; one that won before stays beside it."""


class ModelVersionResource(Resource):
    """What a winner is in MLflow's model registry."""

    trial_number: int
    name: str
    """Of the registered model."""
    version: int
    url: str | None
    """Its page in MLflow, where browsers can reach that."""


class RivalResource(Resource):
    """A promoted student beside the one of the lowest loss; losses in nats per held-out token."""

    trial_number: int
    """Of the promotion."""
    promoted_from: int
    """The trial that was promoted."""
    loss: float
    cost: float
    """What the one that wins has least of among those that tie."""
    difference: float
    """The mean over the shards of its loss minus the lowest's."""
    standard_error: float | None
    """Of that mean; null where the two were not measured on the same shards."""
    is_tied: bool
    """Whether the difference is noise."""


class ChoiceResource(Resource):
    """Who won among the promoted students, and why."""

    trial_number: int
    """The promotion that won."""
    counted: str
    """What the cost is, in words."""
    rivals: list[RivalResource]
    """The lowest loss first."""
    unpromoted: int | None
    """The search's own best trial, where it wins as it is, its loss being lower than theirs."""


class ComparisonResource(Resource):
    """The best trial beside what it is judged by, at equal tokens; nats per held-out token."""

    winner_loss: float
    """Of the best trial, before any promotion."""
    parent_loss: float | None
    random_architectures: list[float]
    random_indices: list[float]


class TaskScoreResource(Resource):
    """One number that a model reached at one task of the lm-evaluation-harness."""

    task: str
    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool
    num_samples: int
    num_fewshot: int


class EvaluatedResource(Resource):
    """What one model scored: a finalist by its trial's number, or with null the teacher."""

    trial_number: int | None
    scores: list[TaskScoreResource]


class ArtifactsResource(Resource):
    """What all trials of a search are made from, each named by its content."""

    parent: str
    blocks: str
    validation: str
    scores: str
    teacher: str
    loss_version: int
    """By which version of the held-out loss they are measured: those of different versions do not compare."""


class AxisImportanceResource(Resource):
    """Which share of the differences in loss each searched axis explains, by fANOVA."""

    num_trials: int
    """Trained to the last rung, that it was computed from."""
    shares: Mapping[str, float]
    """By the name of the axis; together 1."""


class SearchResource(Resource):
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
    made_from: ArtifactsResource | None
    """Null until prepared."""
    evaluated: list[EvaluatedResource]
    """Teacher and finalists at tasks, where the search puts them to any."""
    importance: AxisImportanceResource | None
    """Of the searched axes; null until enough trials have completed."""
    num_priors: int | None
    """How many earlier measurements its proposals began from; null until that was settled."""
    latencies: LatencyTableResource | None
    """What its budget of latency goes by; null until measured, and where it has none or brings its own."""
    progress: ProgressResource | None
    winner: WinnerResource | None
    choice: ChoiceResource | None
    """Which of its promoted students won; null while none has completed."""
    ended_as: SearchState | None
    """The final state that it had when it was queued again for promotions, and will have again."""
    failure: FailureResource | None
    cancel_requested: bool
    orders: OrdersResource
    """What people ordered of it since."""
    waiting: WaitingResource | None
    """Why it waits, where it does."""
    cloned_from: str | None
    """The search whose spec this one's was made from."""
    workspace: str
    """Whose members see it."""
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
    """The winner, once there is one; before that the trial of the lowest loss, of those that compete at equal tokens."""
    best_loss: float | None
    best_tokens: int | None
    """That the best was retrained for, before and in its promotion."""
    gap_closed: float | None
    """Share of the loss added by pruning that the best trial's retraining removed."""
    before_promotion: TrialResource | None
    """Where the best was retrained for longer, the best of the trials at equal tokens, which is what compares with
    baselines and with other searches; null: the best is that."""
    tokens_done: int
    tokens_total: int
    tokens_saved: int
    """That reused trials were not trained on, in neither of the above."""
    eta_seconds: float | None
    compute_seconds: float
    """Worker seconds of all attempts, times the processes of each; one under way counts to its last evaluation."""
    progressed_at: datetime | None
    """When its workers last had something new to store; null before that."""
    comparison: ComparisonResource | None = None
    """Only where one search is asked for, once a trial has completed."""
    disk_bytes: int | None = None
    """Of its states, students and winner; only where one search is asked for."""
    mlflow_url: str | None = None
    """Its page in MLflow, where browsers can reach that and it was told of the search."""
    mlflow_behind_seconds: float | None = None
    """How long MLflow has not been told all, once that is long; only where one search is asked for."""
    registered_model: ModelVersionResource | None = None
    """What its winner is registered as in MLflow, once it is; only where one search is asked for."""

    @classmethod
    def of(
        cls,
        view: SearchView,
        comparison: Comparison | None = None,
        disk_bytes: int | None = None,
        *,
        mlflow_url: str | None = None,
        mlflow_behind_seconds: float | None = None,
        registered_model: ModelVersion | None = None,
    ) -> "SearchResource":
        """Return the resource of a view."""
        standing = {name: getattr(view, name) for name in VIEW_FIELDS}
        beside = {
            "orders": view.search.orders,
            "comparison": comparison,
            "disk_bytes": disk_bytes,
            "mlflow_url": mlflow_url,
            "mlflow_behind_seconds": mlflow_behind_seconds,
            "registered_model": registered_model,
        }
        return cls.model_validate({**dump(view.search), **standing, **beside})


VIEW_FIELDS = (
    "waiting",
    "counts",
    "best",
    "best_loss",
    "best_tokens",
    "gap_closed",
    "before_promotion",
    "tokens_done",
    "tokens_total",
    "tokens_saved",
    "eta_seconds",
    "compute_seconds",
    "progressed_at",
)


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


class SearchPage(Resource):
    """A page of searches."""

    searches: list[SearchResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""


class LogResource(Resource):
    """The end of the log of a search's worker."""

    source: Literal["file", "failure"]
    """The file, or what the search's failure took along of it, where the file is on another machine."""
    lines: list[str]
    is_whole: bool
    """Whether nothing comes before these lines."""
    updated_at: datetime | None
    """When the last line was written."""
