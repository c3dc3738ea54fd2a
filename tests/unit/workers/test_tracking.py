"""MLflow shows what the store holds, however late, however often it is told, and never in the way."""

import threading
import time
from dataclasses import replace
from functools import partial

import pytest
from mlflow.tracking import MlflowClient

from nas.clock import utc_now
from nas.driver import Driver
from nas.finals import Evaluated
from nas.frontier import best_trial
from nas.rungs import schedule
from nas.search import Comparisons, SearchState, Winner
from nas.storage.memory import InMemoryStore
from nas.trial import Attempt, Failure, FailureKind, TrialRole, TrialState
from tests.fakes import FakeExecutor, Faults, Simulation, running_search, small_spec
from tests.searches import make_scores
from workers import tracking
from workers.tracking import CURSOR, EXPERIMENT, Tracker

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own models, on the SQLAlchemy that we use.
    "ignore:The ``noload`` loader strategy is deprecated"
)
FINGERPRINTS = {"parent_fingerprint": "p1", "scores_fingerprint": "s1"}


class Bench:
    """A search that a fake executor has run, and MLflow in a directory."""

    def __init__(self, directory, mlflow, search_id, *, faults=None, **changes):
        self.uri = f"sqlite:///{mlflow}/new/mlflow.db"
        self.artifacts = mlflow / "artifacts"
        self.directory = directory
        self.search_id = search_id
        self.store = InMemoryStore()
        self.spec = small_spec(name="a search", comparisons=Comparisons(random_indices=1), **changes)
        self.search, self.lease = running_search(self.store, self.spec, utc_now, search_id=search_id)
        self.driver = Driver(self.search, self.store, self.lease, utc_now)
        (directory / "states").mkdir(exist_ok=True)
        simulation = Simulation(directory=directory / "states", spec=self.spec, faults=faults or Faults())
        self.executor = FakeExecutor(simulation)

    def run(self):
        self.executor.run(self.driver)

    def finish(self, state=SearchState.SUCCEEDED, **changes):
        search = self.store.get_search(self.search_id).moved(state, utc_now(), **changes)
        self.store.save_search(search, self.lease)

    def track(self, uri=None):
        tracker = Tracker(
            self.store,
            self.lease,
            uri=uri or self.uri,
            artifacts=self.artifacts,
            root=self.directory,
        )
        tracker.identify(FINGERPRINTS)
        tracker.start()
        return tracker

    def project(self):
        self.track().close(60)

    @property
    def client(self):
        return MlflowClient(tracking_uri=self.uri)

    def runs(self, kind):
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        query = f"tags.`nas.search_id` = '{self.search_id}' and tags.`nas.kind` = '{kind}'"
        return self.client.search_runs([experiment.experiment_id], query)

    def parent(self):
        (parent,) = self.runs("search")
        return parent

    def history(self, run, key):
        return sorted(
            (each.step, each.value) for each in self.client.get_metric_history(run.info.run_id, key)
        )


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """One MLflow for all tests, because making its database takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def bench(tmp_path, mlflow, request):
    return partial(Bench, tmp_path, mlflow, request.node.name)


def _finished(bench):
    bench.run()
    winner = best_trial(bench.store.trials(bench.search_id))
    directory = bench.directory / "winner"
    directory.mkdir()
    (directory / "README.md").write_text("# card", encoding="utf-8")
    bench.finish(winner=Winner(trial_number=winner.number, path="winner"))
    return winner


def test_scores_of_the_finals_stand_with_the_runs_that_they_are_of(bench):
    search = bench()
    search.run()
    winner = best_trial(search.store.trials(search.search_id))
    stored = search.store.get_search(search.search_id)
    evaluated = (
        Evaluated(trial_number=None, scores=make_scores(arc=0.5)),
        Evaluated(trial_number=winner.number, scores=make_scores(arc=0.25)),
    )
    search.store.save_search(replace(stored, evaluated=evaluated), search.lease)
    for _ in range(2):
        search.project()
    assert search.parent().data.metrics["teacher/arc/acc"] == 0.5
    scored = [run for run in search.runs("attempt") if "arc/acc" in run.data.metrics]
    assert [run.data.tags["nas.trial"] for run in scored] == [str(winner.number)]
    assert search.history(scored[0], "arc/acc") == [(0, 0.25)]


def test_a_search_is_a_run_and_each_attempt_a_run_below_it(bench):
    search = bench()
    winner = _finished(search)
    search.project()
    parent, children = search.parent(), search.runs("attempt")
    assert parent.info.run_name == "a search"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["training.num_tokens"] == "80"
    assert parent.data.tags["nas.parent_fingerprint"] == "p1"
    assert parent.data.tags["nas.winner"] == str(winner.number)
    assert parent.data.metrics["parent_loss"] == 1.0
    assert search.history(parent, "best_loss")[-1][1] == winner.measurement.loss
    assert [file.path for file in search.client.list_artifacts(parent.info.run_id, "winner")] == [
        "winner/README.md"
    ]
    attempts = search.store.attempts(search.search_id)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.info.run_id for child in children} == {attempt.mlflow_run_id for attempt in attempts}
    assert all(child.info.status == "FINISHED" for child in children)
    points = {
        (point.trial_number, point.point.num_tokens): point.point
        for point in search.store.points(search.search_id)
    }
    shown = {
        (int(child.data.tags["nas.trial"]), step): value
        for child in children
        for step, value in search.history(child, "loss")
    }
    assert shown == {key: point.loss for key, point in points.items()}
    one = next(child for child in children if child.data.tags["nas.trial"] == str(winner.number))
    assert one.data.params["name"] == winner.architecture.name
    assert one.data.params["parameter_count"] == str(winner.architecture.parameter_count)
    assert one.data.params["distillation.loss"] == "forward_kl"
    assert one.data.tags["nas.scores_fingerprint"] == "s1"
    stamps = search.client.get_metric_history(one.info.run_id, "loss")
    assert {stamp.timestamp for stamp in stamps} == {
        int(point.at.timestamp() * 1000) for (number, _), point in points.items() if number == winner.number
    }
    roles = {child.data.tags["nas.role"] for child in children}
    assert roles == {TrialRole.SEARCH, TrialRole.RANDOM_INDICES}


def test_what_is_sent_twice_changes_nothing(bench):
    """The process dies after sending and before it notes so; the next sends all again."""
    search = bench()
    _finished(search)
    search.project()
    runs = len(search.runs("attempt"))
    losses = {run.info.run_id: search.history(run, "loss") for run in search.runs("attempt")}
    search.client.set_tag(search.parent().info.run_id, CURSOR, "0")
    search.project()
    assert len(search.runs("attempt")) == runs
    assert {run.info.run_id: search.history(run, "loss") for run in search.runs("attempt")} == losses


def test_failures_and_cancellation_show(bench):
    search = bench(faults=Faults(diverging=frozenset({0}), lost_workers={1: 1}))
    failure = Failure(kind=FailureKind.ERROR, message="the disk burnt", traceback="Traceback")
    search.run()
    search.finish(SearchState.FAILED, failure=failure)
    search.project()
    assert search.parent().info.status == "FAILED"
    assert search.parent().data.tags["nas.failure"] == "the disk burnt"
    status = {
        (child.data.tags["nas.trial"], child.data.tags["nas.attempt"]): child.info.status
        for child in search.runs("attempt")
    }
    assert status["0", "1"] == "FAILED"
    assert (status["1", "1"], status["1", "2"]) == ("FAILED", "FINISHED")


def test_what_runs_when_a_search_is_cancelled_is_killed(bench):
    search = bench()
    trial = search.driver.next_trial()
    search.driver.on_attempt(trial.number, "host:1")
    search.project()
    assert [child.info.status for child in search.runs("attempt")] == ["RUNNING"]
    search.driver.finish_cancelled()
    search.finish(SearchState.CANCELLED)
    search.project()
    assert [child.info.status for child in search.runs("attempt")] == ["KILLED"]
    assert search.parent().info.status == "KILLED"
    assert search.store.trials(search.search_id)[0].state is TrialState.CANCELLED


def test_mlflow_away_stops_nothing_and_is_told_later(bench, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.05)
    search = bench()
    away = search.track(uri="http://127.0.0.1:9")
    _finished(search)
    began = time.monotonic()
    away.close(20)
    assert time.monotonic() - began < 20
    complaints = [record for record in caplog.records if "is away" in record.message]
    assert len(complaints) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"]
    search.project()
    assert search.parent().info.status == "FINISHED"
    assert search.history(search.runs("attempt")[0], "loss")[0][0] in schedule(search.spec).points


def test_an_attempt_that_another_process_owns_now_is_left_alone(bench):
    search = bench()
    _finished(search)
    before = search.store.attempts(search.search_id)
    search.lease = replace(search.lease, owner="long gone")
    search.project()
    assert search.store.attempts(search.search_id) == before
    assert all(isinstance(attempt, Attempt) and attempt.mlflow_run_id is None for attempt in before)


def _unseen_end(bench, monkeypatch):
    """A search whose process was killed after the store had its end, and before MLflow had."""
    killed = bench()
    with monkeypatch.context() as patch:
        patch.setattr(tracking._Projection, "_end_search", lambda *_: None)
        _finished(killed)
        killed.project()
    assert killed.parent().info.status == "RUNNING"
    return killed


def _following(bench, killed, suffix):
    following = bench()
    following.store, following.search_id = killed.store, f"{killed.search_id}-{suffix}"
    following.search, following.lease = running_search(
        killed.store, killed.spec, utc_now, search_id=following.search_id
    )
    return following


def test_a_search_that_ended_unseen_is_ended_by_a_later_one_and_those_that_run_are_left_alone(
    bench, monkeypatch
):
    monkeypatch.setattr(tracking, "SETTLED_SECONDS", -1)
    killed = _unseen_end(bench, monkeypatch)
    running, following = (_following(bench, killed, suffix) for suffix in ("running", "following"))
    running.project()
    assert killed.parent().info.status == "FINISHED"
    num_runs = len(killed.runs("attempt"))
    following.project()
    assert [search.parent().info.status for search in (killed, running, following)] == [
        "FINISHED", "RUNNING", "RUNNING",
    ]  # fmt: skip
    assert len(killed.runs("attempt")) == num_runs == len(killed.store.attempts(killed.search_id))


def test_a_search_that_has_just_ended_is_its_own_processs_to_tell_of(bench, monkeypatch):
    killed = _unseen_end(bench, monkeypatch)
    _following(bench, killed, "following").project()
    assert killed.parent().info.status == "RUNNING"


def test_a_database_that_was_not_made_whole_is_none(tmp_path, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    def breaks(*_):
        raise OSError("no space left")

    path = tmp_path / "mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(
            sqlalchemy_store.SqlAlchemyStore, "_verify_registry_tables_exist", breaks, raising=False
        )
        patch.setattr("mlflow.store.db.utils._verify_schema", breaks)
        with pytest.raises(OSError, match="no space left"):
            tracking._make_database(path, tmp_path / "artifacts")
    assert not path.exists()
    tracking._make_database(path, tmp_path / "artifacts")
    assert MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
