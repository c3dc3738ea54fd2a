"""What REST answers with, as values: those of the domain, laid out as they are sent.

A search is answered with where it stands, a trial with its points and attempts, a list page by page. Knows
no HTTP. ``nas.spec.dump`` writes each out again as it was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import WrapSerializer

from minitron.architecture import Architecture
from nas.budget import CostName
from nas.frontier import Comparison
from nas.mlflow_links import MlflowStanding, ModelVersion
from nas.search import Search
from nas.standing import SearchView, TrialRecord
from nas.trial import Attempt, Point, Trial, TrialState
from nas.waiting import Waiting

T = TypeVar("T")


def _with_name(architecture: Architecture, write: Any) -> dict[str, Any]:
    follows = {"name": architecture.name, "parameter_count": architecture.parameter_count}
    written: dict[str, Any] = write(architecture)
    return follows | written


NamedArchitecture = Annotated[Architecture, WrapSerializer(_with_name)]
"""An architecture that is written with its name and the count that follow from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTrial(Trial):
    """One architecture on trial."""

    architecture: NamedArchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAttempt(Attempt):
    """One execution of a trial, and where it is in MLflow."""

    mlflow_run_id: str | None
    mlflow_url: str | None
    """None where MLflow is not served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrial(AnsweredTrial):
    """A trial with the points and attempts on its way."""

    points: tuple[Point, ...]
    """By tokens."""
    attempts: tuple[FoundAttempt, ...]
    """By number."""
    waiting: Waiting | None
    """Why the trial waits, where it does."""
    costs: Mapping[CostName, int]
    """What its architecture costs beside parameters, as far as the search's budget bounds it."""

    @property
    def record(self) -> TrialRecord:
        """The trial as the domain groups it."""
        attempts = tuple(_part(Attempt, attempt) for attempt in self.attempts)
        return TrialRecord(
            trial=_part(Trial, self), points=self.points, attempts=attempts, waiting=self.waiting
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSearch(Search):
    """A search: what was asked, what became of it and where it stands; see ``SearchView`` for the latter."""

    counts: Mapping[TrialState, int]
    best: AnsweredTrial | None
    best_loss: float | None
    best_tokens: int | None
    gap_closed: float | None
    before_promotion: AnsweredTrial | None
    tokens_done: int
    tokens_total: int
    tokens_saved: int
    eta_seconds: float | None
    compute_seconds: float
    progressed_at: datetime | None
    waiting: Waiting | None
    comparison: Comparison | None = None
    """How the best trial compares with its baselines; only where one search is asked for."""
    disk_bytes: int | None = None
    """What its files take on the server's side; only where one search is asked for."""
    mlflow_url: str | None = None
    """Where browsers find it in MLflow; None where that is not served."""
    mlflow_behind_seconds: float | None = None
    """How long MLflow has not been told all, once that is long; only where one search is asked for."""
    registered_model: ModelVersion | None = None
    """What its winner is in MLflow's model registry; only where one search is asked for."""

    @property
    def etag(self) -> str:
        """What an edit names as ``if_match`` to be one of this version."""
        return f'"{self.version}"'

    @property
    def mlflow_standing(self) -> MlflowStanding:
        """Where it is in MLflow, and whether that is behind."""
        return MlflowStanding(
            mlflow_url=self.mlflow_url,
            mlflow_behind_seconds=self.mlflow_behind_seconds,
            registered_model=self.registered_model,
        )

    @property
    def view(self) -> SearchView:
        """The search as the domain groups it."""
        trials = {
            name: _part(Trial, trial) if (trial := getattr(self, name)) else None
            for name in ("best", "before_promotion")
        }
        standing = {
            each.name: getattr(self, each.name) for each in fields(SearchView) if each.name != "search"
        }
        return SearchView(**standing | {"search": _part(Search, self)} | trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """A page of searches."""

    searches: tuple[FoundSearch, ...]
    next_page_token: str | None
    """Ask with it for the next page; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPage:
    """A page of the trials of a search."""

    trials: tuple[FoundTrial, ...]
    next_page_token: str | None
    """Ask with it for the next page; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Answered by a server that can serve."""

    status: Literal["ok"]


def _part(cls: type[T], value: Any) -> T:
    """Return the fields of ``cls`` that a value of a class derived from it holds."""
    known: Any = cls
    return cls(**{each.name: getattr(value, each.name) for each in fields(known)})
