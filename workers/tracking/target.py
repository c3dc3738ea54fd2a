"""One experiment of one MLflow: found or made, and what to think of its errors. Knows no search."""

import logging
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from minitron.files import new_file

EXPERIMENT = "minitron-nas"
OUTBOX = "nas.outbox"
"""Tag of the experiment: which outbox it was told from. One that was lost and made anew has another."""
SQLITE = "sqlite:///"
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100
"""What MLflow takes in one ``log_batch``."""
REFUSALS = frozenset(
    {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "NOT_FOUND"}
)
"""Codes of errors that would come again however often the same is sent."""


class Away(Exception):
    """MLflow does not answer, or not with what was sent to it before."""


class Refused(Exception):
    """MLflow answers, and will not take this."""


class Target:
    """The experiment that everything is told to; raises Away and Refused.

    Args:
        uri: Of the MLflow server or database.
        artifacts: Where artifacts lie when MLflow is on this machine; None leaves that to MLflow.
    """

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        os.environ.update(
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
            # A server that is away is asked again by us.
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
            MLFLOW_HTTP_REQUEST_TIMEOUT="10",
        )
        for name, level in (
            ("mlflow", logging.WARNING),
            ("alembic", logging.WARNING),
            ("urllib3", logging.ERROR),
        ):
            logging.getLogger(name).setLevel(level)
        with named_errors():
            self.client = client_of(uri, artifacts)
            found = self.client.get_experiment_by_name(EXPERIMENT) or self._make(artifacts)
            if OUTBOX not in found.tags:
                self.client.set_experiment_tag(found.experiment_id, OUTBOX, uuid.uuid4().hex)
                found = self.client.get_experiment(found.experiment_id)
        if found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise Away(
                f"its experiment {EXPERIMENT} is in the trash: restore it, or delete it for good with mlflow gc"
            )
        self.experiment_id: str = found.experiment_id
        self.outbox_id: str = found.tags[OUTBOX]

    def require(self) -> None:
        """Raise Away unless the experiment is still the one that was found."""
        with named_errors():
            found = self.client.get_experiment_by_name(EXPERIMENT)
        is_same = found is not None and found.tags.get(OUTBOX) == self.outbox_id
        if not is_same or found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise Away(f"its experiment {EXPERIMENT} is gone")

    def runs(self, search_id: str) -> list[Run]:
        """Return all runs of a search."""
        found: list[Run] = []
        token = None
        while True:
            with named_errors():
                page = self.client.search_runs(
                    [self.experiment_id],
                    f"tags.`nas.search_id` = '{search_id}'",
                    run_view_type=ViewType.ALL,  # what is in the trash was put there by somebody, and stays there
                    page_token=token,
                )
            found += page
            token = page.token
            if not token:
                return found

    def create(self, name: str, *, start_time: int, tags: dict[str, str], params: Sequence[Param]) -> str:
        """Make a run and return its id."""
        with named_errors():
            run = self.client.create_run(self.experiment_id, start_time=start_time, run_name=name, tags=tags)
        run_id: str = run.info.run_id
        self.describe(run_id, params)
        return run_id

    def describe(self, run_id: str, params: Sequence[Param]) -> None:
        """Give a run its params; those that it has already stay."""
        for begin in range(0, len(params), PARAMS_AT_ONCE):
            with named_errors():
                self.client.log_batch(run_id, params=params[begin : begin + PARAMS_AT_ONCE])

    def log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Add metrics to a run; one that is there already is the same."""
        for begin in range(0, len(metrics), METRICS_AT_ONCE):
            with named_errors():
                self.client.log_batch(run_id, metrics=metrics[begin : begin + METRICS_AT_ONCE])

    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Tag a run."""
        with named_errors():
            self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def terminate(self, run_id: str, status: str, end_time: int | None) -> None:
        """End a run."""
        with named_errors():
            self.client.set_terminated(run_id, status=status, end_time=end_time)

    def copy(self, run_id: str, directory: Path, name: str) -> None:
        """Copy the files of a directory into a folder of a run's artifacts."""
        with named_errors():
            self.client.log_artifacts(run_id, str(directory), name)

    def holds(self, run_id: str, name: str) -> bool:
        """Return whether there is anything in a folder of a run's artifacts."""
        with named_errors():
            return bool(self.client.list_artifacts(run_id, name))

    def tags_and_location(self, run_id: str) -> tuple[Mapping[str, str], str]:
        """Return the tags of a run, and the address of its artifacts."""
        with named_errors():
            run = self.client.get_run(run_id)
        return run.data.tags, run.info.artifact_uri

    def _make(self, artifacts: Path | None) -> Experiment:
        try:
            self.client.create_experiment(
                EXPERIMENT,
                artifact_location=artifacts.as_uri() if artifacts else None,
                tags={OUTBOX: uuid.uuid4().hex},
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, meanwhile
                raise
        return self.client.get_experiment_by_name(EXPERIMENT)


def client_of(uri: str, artifacts: Path | None) -> MlflowClient:
    """Return a client; the database of a local MLflow is there afterwards, whole and up to date."""
    if not uri.startswith(SQLITE):
        return MlflowClient(tracking_uri=uri)
    path = Path(unquote(uri.removeprefix(SQLITE)))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create or migrate one SQLite database at once break it.
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make_database(path, artifacts or path.with_name("mlartifacts"))
        client = MlflowClient(tracking_uri=uri)
        client.get_experiment_by_name(EXPERIMENT)
        return client


def make_database(path: Path, artifacts: Path) -> None:
    """Make MLflow's database beside ``path`` and move it there whole: a half-made one would stay broken."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with new_file(path) as scratch:
        SqlAlchemyStore(f"{SQLITE}{quote(str(scratch))}", artifacts.as_uri()).engine.dispose()


@contextmanager
def named_errors(refusals: Collection[str] = ()) -> Iterator[None]:
    """Raise MLflow's errors as Refused or Away; ``refusals`` are further codes of the former."""
    try:
        yield
    except MlflowException as error:
        kind = Refused if error.error_code in REFUSALS or error.error_code in refusals else Away
        raise kind(" ".join(str(error).split())) from error
