"""Projects a search to MLflow: one run for the search, one below it for each attempt at a trial.

Reads the store's events from a cursor that the search's run carries as a tag, so that whatever was
missed while MLflow or this process was away is sent later, and what is sent twice changes nothing. Runs
in a thread of its own; nothing it meets slows or stops a search. The only file that imports mlflow.
"""

import logging
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from minitron.files import new_file
from nas.clock import utc_now
from nas.errors import LostLease, NotFound
from nas.search import Event, Search, SearchState
from nas.spec import load, spec_to_json
from nas.storage.store import Lease, SearchStore
from nas.trial import Attempt, Point, Trial, TrialRole, TrialState

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "minitron-nas"
FLUSH_SECONDS = 5.0
EVENTS_AT_ONCE = 500
SETTLED_SECONDS = 600.0
"""After its end, the process of a search has long stopped telling MLflow of it."""
SIZES = (
    "num_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "vocab_size", "parameter_count", "non_embedding_parameters", "name",
)  # fmt: skip
RECIPES = ("data", "calibration", "distillation", "training", "correction")
MAX_PARAM_LENGTH = 500
CURSOR = "nas.cursor"
_UNNAMED = re.compile(r"[^\w./ -]")
"""What MLflow allows in no name of a metric."""


class Tracker:
    """Keeps MLflow up to date with one search from ``start`` to ``close``.

    Args:
        store: Where the events are read.
        lease: Of the search; attempts are told which run shows them.
        uri: Of the MLflow server or database.
        artifacts: Where MLflow keeps artifacts when ``uri`` is a local database.
        root: The artifact root, where the winner lies.
    """

    def __init__(self, store: SearchStore, lease: Lease, *, uri: str, artifacts: Path, root: Path) -> None:
        self._store = store
        self._lease = lease
        self._uri = uri
        self._artifacts = artifacts
        self._root = root
        self._fingerprints: Mapping[str, str] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin to project, in a thread."""
        self._thread.start()

    def identify(self, fingerprints: Mapping[str, str]) -> None:
        """Tag the search and every later attempt with what they were made from."""
        self._fingerprints = fingerprints

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so many seconds."""
        self._closing.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("MLflow at %s did not take everything in %.0f s", self._uri, seconds)

    def _run(self) -> None:
        projection: _Projection | None = None
        is_away = False
        is_last = False
        while not is_last:
            is_last = self._closing.wait(FLUSH_SECONDS if projection or is_away else 0)
            try:
                projection = projection or self._connected()
                while projection.flush(self._fingerprints):
                    logger.debug("MLflow is some events behind")
                is_away = False
            except LostLease:
                return
            except Exception as error:
                if not is_away:
                    logger.warning("MLflow at %s is away, to be brought up to date: %s", self._uri, error)
                is_away = True
                projection = None  # what it remembers of MLflow may be wrong now

    def _connected(self) -> "_Projection":
        os.environ.update(
            MLFLOW_DISABLE_TELEMETRY="true",
            # A server that is away is asked again by us, with the search long gone on.
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
            MLFLOW_HTTP_REQUEST_TIMEOUT="10",
        )
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        is_local = self._uri.startswith("sqlite:///")
        path = Path(self._uri.removeprefix("sqlite:///"))
        if is_local:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create or migrate one SQLite database at once break it.
        with FileLock(f"{path}.lock") if is_local else nullcontext():
            if is_local and not path.exists():
                _make_database(path, self._artifacts)
            client = MlflowClient(tracking_uri=self._uri)
            found = client.get_experiment_by_name(EXPERIMENT)
            location = self._artifacts.as_uri() if is_local else None
            experiment = (
                found.experiment_id
                if found
                else client.create_experiment(EXPERIMENT, artifact_location=location)
            )
        self._settle(client, experiment)
        return _Projection(client, experiment, self._store, self._lease, self._root)

    def _settle(self, client: "MlflowClient", experiment: str) -> None:
        """Bring the searches to their end whose processes were killed after the store had seen it."""
        query = "attributes.status = 'RUNNING' and tags.`nas.kind` = 'search'"
        for run in client.search_runs([experiment], query):
            search_id = run.data.tags["nas.search_id"]
            try:
                search = self._store.get_search(search_id)
            except NotFound:
                continue  # of another database
            if not _is_long_over(search):
                continue  # its own process may still be at it
            lock = FileLock(self._artifacts.with_name(f".{search_id}.mlflow.lock"), timeout=0)
            with suppress(Timeout), lock:  # another process may be settling it
                projection = _Projection(client, experiment, self._store, search_id, self._root)
                while projection.flush({}):
                    logger.debug("MLflow is some events behind on search %s", search_id)


def _is_long_over(search: Search) -> bool:
    ended = search.finished_at
    return ended is not None and (utc_now() - ended).total_seconds() > SETTLED_SECONDS


def _make_database(path: Path, artifacts: Path) -> None:
    """Make MLflow's database beside ``path`` and move it there whole: a half-made one would stay broken."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with new_file(path) as scratch:
        SqlAlchemyStore(f"sqlite:///{scratch}", artifacts.as_uri()).engine.dispose()


class _Projection:
    """What MLflow has been told, and how to tell it more. Events are sent in order, metrics in batches."""

    def __init__(
        self, client: "MlflowClient", experiment: str, store: SearchStore, held: Lease | str, root: Path
    ) -> None:
        """``held`` is the lease of the search, or the id of one that is final and has none."""
        self._client = client
        self._experiment = experiment
        self._store = store
        self._lease = held if isinstance(held, Lease) else None
        self._search_id = held.search_id if isinstance(held, Lease) else held
        self._root = root
        search = store.get_search(self._search_id)
        parents = self._runs("nas.kind", "search")
        parent = parents[0] if parents else self._create_parent(search)
        self._run_id: str = parent.info.run_id
        self._cursor = int(parent.data.tags.get(CURSOR, 0))
        self._has_parent_loss = "parent_loss" in parent.data.metrics
        self._has_scores = "nas.scored" in parent.data.tags
        self._has_ended = False
        self._fingerprints: Mapping[str, str] = {}
        self._children: dict[tuple[int, int], str] = {}
        """Run ids by trial number and attempt number."""
        for run in self._runs("nas.kind", "attempt"):
            tags = run.data.tags
            self._children[int(tags["nas.trial"]), int(tags["nas.attempt"])] = run.info.run_id
        self._recipe = {
            name: value for name, value in _flat(spec_to_json(search.spec)) if name.split(".")[0] in RECIPES
        }

    def flush(self, fingerprints: Mapping[str, str]) -> bool:
        """Send the next events, or what stands at the end of them; return whether there were any."""
        search = self._store.get_search(self._search_id)
        events = self._store.events(after=self._cursor, search_id=search.id, limit=EVENTS_AT_ONCE)
        self._tag(fingerprints)
        if not events:
            self._tell_of_search(search)
            return False
        trials = {trial.number: trial for trial in self._store.trials(search.id)}
        metrics: defaultdict[str, list[Metric]] = defaultdict(list)
        ends: list[Attempt | Trial] = []
        for event in events:
            self._read(event, trials, metrics, ends)
        for run_id, batch in metrics.items():
            self._client.log_batch(run_id, metrics=batch)
        for end in ends:
            self._end(end, trials)
        self._cursor = events[-1].sequence
        self._client.set_tag(self._run_id, CURSOR, str(self._cursor))
        return True

    def _tag(self, fingerprints: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if fingerprints != self._fingerprints:
            tags = [RunTag(f"nas.{name}", value) for name, value in fingerprints.items()]
            self._client.log_batch(self._run_id, tags=tags)
            self._fingerprints = fingerprints

    def _tell_of_search(self, search: Search) -> None:
        if search.parent_loss is not None and not self._has_parent_loss:
            metric = _metric("parent_loss", search.parent_loss, search.started_at or search.created_at, 0)
            self._client.log_batch(self._run_id, metrics=[metric])
            self._has_parent_loss = True
        if search.evaluated and not self._has_scores:
            self._tell_scores(search)
            self._has_scores = True
        if search.state.is_final and not self._has_ended:
            self._end_search(search)
            self._has_ended = True

    def _tell_scores(self, search: Search) -> None:
        """Log what finalists scored with their latest runs, and what the teacher did with the search's."""
        for each in search.evaluated:
            is_teacher = each.trial_number is None
            run_id = self._run_id if each.trial_number is None else self._latest(each.trial_number)
            at, prefix = utc_now(), "teacher/" if is_teacher else ""
            metrics = [
                _metric(_UNNAMED.sub("_", f"{prefix}{score.task}/{score.metric}"), score.value, at, 0)
                for score in each.scores
            ]
            self._client.log_batch(run_id, metrics=metrics)
        self._client.set_tag(self._run_id, "nas.scored", "true")

    def _read(
        self,
        event: Event,
        trials: Mapping[int, Trial],
        metrics: "defaultdict[str, list[Metric]]",
        ends: list[Attempt | Trial],
    ) -> None:
        if event.kind == "attempt":
            attempt = load(Attempt, event.data)
            if (attempt.trial_number, attempt.number) not in self._children:
                self._create_child(attempt, trials[attempt.trial_number])
            if attempt.ended_at is not None and attempt.mlflow_run_id is None:
                ends.append(attempt)
        elif event.kind == "point":
            assert event.trial_number is not None
            metrics[self._latest(event.trial_number)] += _point_metrics(load(Point, event.data))
        elif event.kind == "trial":
            trial = load(Trial, event.data)
            if trial.state is TrialState.COMPLETED and trial.role is TrialRole.SEARCH:
                metrics[self._run_id] += _best_loss(trial, trials.values())
            if trial.state is TrialState.CANCELLED and trial.num_attempts:
                ends.append(trial)

    def _end(self, end: Attempt | Trial, trials: Mapping[int, Trial]) -> None:
        """Close a run; a cancelled trial closes its latest."""
        if isinstance(end, Trial):
            self._terminate(self._latest(end.number), "KILLED", end.finished_at)
        else:
            run_id = self._children[end.trial_number, end.number]
            is_cancelled = trials[end.trial_number].state is TrialState.CANCELLED
            status = "FAILED" if end.failure else "KILLED" if is_cancelled else "FINISHED"
            self._terminate(run_id, status, end.ended_at)
            if end.failure:
                self._client.set_tag(run_id, "nas.failure", end.failure.message[:MAX_PARAM_LENGTH])
            if self._lease:
                # An attempt that has ended is nobody's to write any more but ours.
                self._store.save_attempt(replace(end, mlflow_run_id=run_id), self._lease)

    def _end_search(self, search: Search) -> None:
        if search.winner is not None:
            self._client.set_tag(self._run_id, "nas.winner", str(search.winner.trial_number))
            self._client.log_artifacts(self._run_id, str(self._root / search.winner.path), "winner")
        if search.failure is not None:
            self._client.set_tag(self._run_id, "nas.failure", search.failure.message[:MAX_PARAM_LENGTH])
        status = {SearchState.SUCCEEDED: "FINISHED", SearchState.CANCELLED: "KILLED"}
        self._terminate(self._run_id, status.get(search.state, "FAILED"), search.finished_at)

    def _create_parent(self, search: Search) -> "Run":
        run = self._client.create_run(
            self._experiment,
            start_time=_milliseconds(search.created_at),
            run_name=search.spec.name or search.id,
            tags={"nas.search_id": search.id, "nas.kind": "search"},
        )
        params = dict(_flat(spec_to_json(search.spec)))
        params |= {"parent_parameters": search.parent_parameters, "num_feasible": search.num_feasible}
        self._log_params(run.info.run_id, params)
        return run

    def _create_child(self, attempt: Attempt, trial: Trial) -> None:
        run = self._client.create_run(
            self._experiment,
            start_time=_milliseconds(attempt.started_at),
            run_name=f"trial {trial.number}, attempt {attempt.number}",
            tags={
                "mlflow.parentRunId": self._run_id,
                "nas.search_id": attempt.search_id,
                "nas.kind": "attempt",
                "nas.trial": str(trial.number),
                "nas.attempt": str(attempt.number),
                "nas.role": trial.role.value,
                "nas.worker": attempt.worker,
                **{f"nas.{name}": value for name, value in self._fingerprints.items()},
            },
        )
        sizes = {name: getattr(trial.architecture, name) for name in SIZES}
        self._log_params(run.info.run_id, sizes | self._recipe)
        self._children[attempt.trial_number, attempt.number] = run.info.run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        batch = [Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in params.items()]
        self._client.log_batch(run_id, params=batch)

    def _latest(self, trial_number: int) -> str:
        """Return the run of a trial's latest attempt."""
        return max(
            (attempt, run_id) for (trial, attempt), run_id in self._children.items() if trial == trial_number
        )[1]

    def _terminate(self, run_id: str, status: str, at: datetime | None) -> None:
        end_time = _milliseconds(at) if at else None
        self._client.set_terminated(run_id, status=status, end_time=end_time)

    def _runs(self, tag: str, value: str) -> "list[Run]":
        query = f"tags.`nas.search_id` = '{self._search_id}' and tags.`{tag}` = '{value}'"
        runs: list[Run] = []
        page = self._client.search_runs([self._experiment], query)
        runs += page
        while page.token:
            page = self._client.search_runs([self._experiment], query, page_token=page.token)
            runs += page
        return runs


def _point_metrics(point: Point) -> "list[Metric]":
    metrics = [_metric("loss", point.loss, point.at, point.num_tokens)]
    if point.train_loss is not None:
        metrics.append(_metric("train_loss", point.train_loss, point.at, point.num_tokens))
    return metrics


def _best_loss(completed: Trial, trials: Iterable[Trial]) -> "list[Metric]":
    """Return the lowest loss of the search when ``completed`` had finished, by completed trials."""
    until = completed.finished_at
    assert until is not None
    losses = [
        trial.measurement.loss
        for trial in trials
        if trial.role is TrialRole.SEARCH
        and trial.measurement
        and trial.finished_at
        and trial.finished_at <= until
    ]
    return [_metric("best_loss", min(losses), until, len(losses))]


def _metric(name: str, value: float, at: datetime, step: int) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, value, _milliseconds(at), step)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested mappings with dotted names."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
