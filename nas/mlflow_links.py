"""Where browsers find a search and its attempts in MLflow. Asks the store alone, never MLflow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from nas.outbox import Backlog, Outbox, OutboxStore, RegisteredVersion, TrackedRun, target_of
from nas.settings import Settings

LATE_SECONDS = 120.0
"""What was not sent for longer is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """What a winner is in MLflow's model registry."""

    trial_number: int
    name: str
    """Of the registered model."""
    version: int
    url: str | None
    """Its page; None where no browser could reach that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLinks:
    """Addresses of one search in MLflow."""

    search: str | None = None
    attempts: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """By trial number and attempt number."""
    run_ids: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """By the same, also where no address is known."""
    registered: ModelVersion | None = None
    """The winner, the newest where there were several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowStanding:
    """Where a server says that a search is in MLflow."""

    mlflow_url: str | None = None
    mlflow_behind_seconds: float | None = None
    """How long MLflow has not been told all, once that is long."""
    registered_model: ModelVersion | None = None
    """What its winner is registered as."""


class MlflowLinks:
    """What the outbox at one target says of where searches are shown.

    Args:
        outboxes: Of the store.
        target: Of the MLflow that is told from here.
        address: Where browsers reach it; None where none can.
    """

    def __init__(self, outboxes: OutboxStore, target: str, address: str | None) -> None:
        self._outboxes = outboxes
        self._target = target
        self._address = address

    def of(self, search_id: str) -> SearchLinks:
        """Return the links of a search and of all its attempts."""
        outbox = self._outboxes.at(self._target)
        runs = self._outboxes.runs(outbox.id, (search_id,), attempts=True) if outbox else []
        of_attempts = {
            (run.trial_number, run.attempt_number): run
            for run in runs
            if run.trial_number is not None and run.attempt_number is not None
        }
        links = {key: self._link(outbox, run) for key, run in of_attempts.items()}
        return SearchLinks(
            search=next((self._link(outbox, run) for run in runs if run.trial_number is None), None),
            attempts={key: link for key, link in links.items() if link is not None},
            run_ids={key: run.run_id for key, run in of_attempts.items()},
            registered=self._registered(outbox, search_id),
        )

    def registered(self, search_id: str) -> ModelVersion | None:
        """Return what a search's winner is registered as; None where MLflow was told of none."""
        return self._registered(self._outboxes.at(self._target), search_id)

    def of_searches(self, search_ids: Collection[str]) -> dict[str, str]:
        """Return the links of searches by id; those that are not shown anywhere are left out."""
        outbox = self._outboxes.at(self._target) if self._address and search_ids else None
        runs = self._outboxes.runs(outbox.id, search_ids, attempts=False) if outbox else []
        links = {run.search_id: self._link(outbox, run) for run in runs}
        return {search_id: link for search_id, link in links.items() if link is not None}

    def behind_seconds(self, now: datetime) -> float | None:
        """Return how long MLflow has not been told all; None where that is not long, or it is never told."""
        backlog = self.backlog()
        seconds = (now - backlog.since).total_seconds() if backlog and backlog.since else 0.0
        return seconds if seconds > LATE_SECONDS else None

    def backlog(self) -> Backlog | None:
        """Return what MLflow was not told yet; None where nobody ever told it anything."""
        outbox = self._outboxes.at(self._target)
        return self._outboxes.backlog(outbox) if outbox else None

    def _registered(self, outbox: Outbox | None, search_id: str) -> ModelVersion | None:
        versions = self._outboxes.versions(outbox.id, search_id) if outbox else []
        return self._version(versions[-1]) if versions else None

    def _version(self, found: RegisteredVersion) -> ModelVersion:
        return ModelVersion(
            trial_number=found.trial_number,
            name=found.name,
            version=found.version,
            url=version_address(self._address, found.name, found.version) if self._address else None,
        )

    def _link(self, outbox: Outbox | None, run: TrackedRun) -> str | None:
        if outbox is None or self._address is None:
            return None
        return run_address(self._address, outbox.experiment_id, run.run_id)


def run_address(address: str, experiment_id: str, run_id: str) -> str:
    """Return the page of a run at the address of an MLflow."""
    return f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def version_address(address: str, name: str, version: int) -> str:
    """Return the page of a version of a registered model at the address of an MLflow."""
    return f"{address.rstrip('/')}/#/models/{quote(name)}/versions/{version}"


def links_of(settings: Settings, outboxes: OutboxStore, beside: str | None = None) -> MlflowLinks:
    """Return the links that settings lead to; ``beside`` is the address of a server that runs with this process."""
    address = settings.mlflow_url or beside
    if address is None and settings.tracking_uri.startswith(("http://", "https://")):
        address = target_of(settings.tracking_uri)
    return MlflowLinks(outboxes, target_of(settings.tracking_uri), address)
