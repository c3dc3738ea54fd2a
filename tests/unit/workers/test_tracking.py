"""MLflow shows what the store holds, however late, however often it is told, whatever is killed."""

import logging
import re
from dataclasses import fields
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.finals import Evaluated
from nas.frontier import best_trial
from nas.promotion import Promotion
from nas.rungs import schedule
from nas.search import Rungs, SearchState
from nas.trial import Failure, FailureKind, TrialRole, TrialState
from tests.fakes import Faults
from tests.searches import make_scores, make_search, make_spec, make_trial
from tests.unit.workers.mlflow_bench import Bench
from workers.tracking import projector, target
from workers.tracking.projection import EVENT, Projection
from workers.tracking.values import trial_params

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own models, on the SQLAlchemy that we use.
    "ignore:The ``noload`` loader strategy is deprecated"
)
WORDS = (
    "create_run", "log_batch", "set_terminated", "log_artifacts",
    "create_registered_model", "create_model_version", "set_registered_model_alias",
)  # fmt: skip
"""Of MLflow's client, that change what it shows."""
LOST = Faults(lost_workers={1: 1, 2: 2})


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """One MLflow for all tests, because making its database takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def bench(tmp_path, mlflow, request):
    return partial(Bench, tmp_path, mlflow, request.node.name)


def test_a_promotion_is_shown_with_the_recipe_of_its_own():
    promotion = Promotion(training=TrainingRecipe(num_tokens=4_000_000))
    search = make_search(spec=make_spec(promotion=promotion, correction=CorrectionRecipe()))
    promoted = make_trial(1, role=TrialRole.PROMOTION, promoted_from=0, promotion=promotion)
    own, its = (
        {param.key: param.value for param in trial_params(search, each)} for each in (make_trial(), promoted)
    )
    assert own["training.num_tokens"] == str(search.spec.training.num_tokens) != "4000000"
    assert its["training.num_tokens"] == "4000000"
    assert {name for name in own if own[name] != its[name]} == {
        f"training.{field.name}"
        for field in fields(TrainingRecipe)
        if getattr(search.spec.training, field.name) != getattr(promotion.training, field.name)
    }


def test_a_search_is_a_run_and_each_attempt_a_run_below_it(bench):
    search = bench()
    winner = search.succeed()
    assert search.project()
    parent, children = search.parent(), search.runs("attempt")
    assert parent.info.run_name == "a search"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["training.num_tokens"] == "80"
    assert parent.data.tags["nas.parent_fingerprint"] == "p1"
    assert parent.data.tags["nas.winner"] == str(winner.number)
    assert parent.data.metrics["parent_loss"] == 1.0
    assert search.history(parent, "best_loss")[-1][1] == winner.measurement.loss
    attempts = search.store.attempts(search.search_id)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert len(children) == len(attempts)
    assert all(child.info.status == "FINISHED" for child in children)
    points = {
        (point.trial_number, point.point.num_tokens): point.point
        for point in search.store.points(search.search_id)
    }
    shown = {
        (int(child.data.tags["nas.trial"]), step): value
        for child in children
        for step, value, _ in search.history(child, "loss")
    }
    assert shown == {key: point.loss for key, point in points.items()}
    one = next(child for child in children if child.data.tags["nas.trial"] == str(winner.number))
    assert [file.path for file in search.client.list_artifacts(one.info.run_id, "winner")] == [
        "winner/README.md"
    ]
    assert one.data.params["name"] == winner.architecture.name
    assert one.data.params["parameter_count"] == str(winner.architecture.parameter_count)
    assert one.data.params["distillation.loss"] == "forward_kl"
    assert one.data.tags["nas.scores_fingerprint"] == "s1"
    assert {at for _, _, at in search.history(one, "loss")} == {
        int(point.at.timestamp() * 1000) for (number, _), point in points.items() if number == winner.number
    }
    roles = {child.data.tags["nas.role"] for child in children}
    assert roles == {TrialRole.SEARCH, TrialRole.RANDOM_INDICES}


def test_a_reused_trial_has_a_run_with_its_curve_though_nobody_attempted_it(bench, monkeypatch):
    monkeypatch.setattr(projector, "EVENTS_AT_ONCE", 5)
    whole = {"rungs": Rungs(fractions=()), "sampler": "random"}
    earlier = bench(**whole)
    earlier.run()
    search = earlier.another(f"{earlier.search_id}-again")
    search.succeed()
    assert search.project()
    content = search.content()
    search.rewind()
    assert search.project()
    assert search.content() == content
    trials = {trial.number: trial for trial in search.store.trials(search.search_id)}
    runs = {int(run.data.tags["nas.trial"]): run for run in search.runs("attempt")}
    assert runs.keys() == trials.keys()
    reused = [number for number, trial in trials.items() if trial.reused_from]
    assert len(reused) == len(trials) - 1  # random indices are trained
    for number in reused:
        run = runs[number]
        assert run.info.run_name == f"trial {number}, reused"
        assert run.info.status == "FINISHED"
        assert run.data.tags["nas.reused_from"] == str(trials[number].reused_from)
        points = [each.point for each in search.store.points(search.search_id, [number])]
        assert [(step, value) for step, value, _ in search.history(run, "loss")] == [
            (point.num_tokens, point.loss) for point in points
        ]


def test_the_store_knows_which_run_shows_what(bench):
    search = bench(faults=LOST)
    search.succeed()
    search.project()
    outbox = search.store.outboxes.at("here")
    assert outbox.experiment_id == search.experiment.experiment_id
    runs = search.store.outboxes.runs(outbox.id, (search.search_id,), attempts=True)
    of_attempts = {
        (str(run.trial_number), str(run.attempt_number)): run.run_id
        for run in runs
        if run.trial_number is not None
    }
    assert of_attempts == {
        (run.data.tags["nas.trial"], run.data.tags["nas.attempt"]): run.info.run_id
        for run in search.runs("attempt")
    }
    assert [run.run_id for run in runs if run.trial_number is None] == [search.parent().info.run_id]


def test_scores_of_the_finals_stand_with_the_runs_that_they_are_of(bench):
    search = bench()
    search.run()
    winner = best_trial(search.store.trials(search.search_id))
    teacher = Evaluated(trial_number=None, scores=make_scores(arc=0.5))
    finalist = Evaluated(trial_number=winner.number, scores=make_scores(arc=0.25))
    search.save(evaluated=(teacher, finalist))
    for _ in range(2):
        search.project()
        search.rewind()
    assert search.parent().data.metrics["teacher/arc/acc"] == 0.5
    scored = [run for run in search.runs("attempt") if "arc/acc" in run.data.metrics]
    assert [run.data.tags["nas.trial"] for run in scored] == [str(winner.number)]
    assert [(step, value) for step, value, _ in search.history(scored[0], "arc/acc")] == [(0, 0.25)]


def test_points_belong_to_the_attempt_that_measured_them_however_often_they_are_sent(bench, monkeypatch):
    """Sent again, a point of a lost worker comes when the attempts after it are known already."""
    monkeypatch.setattr(projector, "EVENTS_AT_ONCE", 7)
    search = bench(faults=LOST)
    search.succeed()
    search.project()
    content = search.content()
    search.rewind()
    search.project()
    assert search.content() == content
    runs = {
        (run.data.tags["nas.trial"], run.data.tags["nas.attempt"]): search.history(run, "loss")
        for run in search.runs("attempt")
    }
    steps = [step for attempt in ("1", "2") for step, _, _ in runs["1", attempt]]
    assert steps == sorted(set(steps))


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at_once=st.integers(1, 40), kills=st.lists(st.integers(1, 30), min_size=1, max_size=3))
def test_a_projector_killed_between_any_two_words_to_mlflow_leaves_nothing_out_and_nothing_twice(
    bench, at_once, kills
):
    search, expected = _once(bench)
    name = f"{search.search_id}-{at_once}-{'-'.join(map(str, kills))}"
    if name in _SEEN:
        return
    _SEEN.add(name)
    killed = search.untold(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "EVENTS_AT_ONCE", at_once)
        for words in kills:
            with pytest.MonkeyPatch.context() as fuse:
                _burn(fuse, words)
                killed.project()
            killed.turn_ends()
        assert killed.project()
    assert _unnamed(killed.content(), name, search.search_id) == _unnamed(expected, search.search_id)
    assert killed.champion() == name


_SEEN: set[str] = set()
"""Names of histories that MLflow was told of; an example that comes again is the same."""
_ONCE: list[tuple[Bench, list]] = []


def _once(bench):
    """A search with lost workers that was told of without any trouble, and all that MLflow shows of it."""
    if not _ONCE:
        search = bench(faults=LOST)
        search.succeed()
        search.project()
        _ONCE.append((search, search.content()))
    return _ONCE[0]


def _unnamed(content, *names):
    """Both histories have one directory for their winner, named after the first of them."""
    return [[re.sub("|".join(map(re.escape, names)), "NAME", str(part)) for part in run] for run in content]


def _burn(patch, words):
    """End the process, as far as it can tell, after so many words to MLflow: before or after one is heard."""
    left = [words]
    for name in WORDS:
        spoken = getattr(MlflowClient, name)

        def say(self, *arguments, spoken=spoken, **options):
            left[0] -= 1
            if left[0] < 0:
                raise SystemError("killed before it was said")
            answer = spoken(self, *arguments, **options)
            if left[0] == 0:
                raise SystemError("killed after it was said")
            return answer

        patch.setattr(MlflowClient, name, say)


def test_failures_show(bench):
    search = bench(faults=Faults(diverging=frozenset({0}), lost_workers={1: 1}))
    failure = Failure(kind=FailureKind.ERROR, message="the disk burnt", traceback="Traceback")
    search.run()
    search.end(SearchState.FAILED, failure=failure)
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
    search.end(SearchState.CANCELLED)
    search.project()
    assert [child.info.status for child in search.runs("attempt")] == ["KILLED"]
    assert search.parent().info.status == "KILLED"
    assert search.store.trials(search.search_id)[0].state is TrialState.CANCELLED


def test_searches_take_turns_in_one_stream(bench, tmp_path, mlflow, monkeypatch):
    monkeypatch.setattr(projector, "EVENTS_AT_ONCE", 5)
    first = bench(faults=LOST)
    second = Bench(tmp_path, mlflow, f"{first.search_id}-2", store=first.store)
    trials = [(search, search.driver.next_trial().number) for search in (first, second, first, second)]
    for search, number in trials:
        search.driver.on_attempt(number, "host:1")
    first.project()
    for search, _ in trials:
        search.driver.finish_cancelled()
    first.end(SearchState.CANCELLED)
    first.project()
    assert [run.info.status for run in first.runs("attempt")] == ["KILLED", "KILLED"]
    assert (first.parent().info.status, second.parent().info.status) == ("KILLED", "RUNNING")


def test_one_sends_and_another_waits_for_its_turn(bench):
    search = bench()
    search.succeed()
    assert search.project()
    outbox = search.store.outboxes.at("here")
    held = search.projector()
    assert held._round() is False
    search.rewind()
    waiting = search.projector()
    assert waiting._round() is False
    assert search.store.outboxes.at("here").cursor == 0
    assert waiting._outbox is None
    search.turn_ends()
    while waiting._round():
        pass
    assert search.store.outboxes.at("here").cursor == outbox.cursor


def test_mlflow_away_is_said_once_and_told_later(bench, caplog, monkeypatch):
    monkeypatch.setattr(projector, "FLUSH_SECONDS", 0.01)
    search = bench()
    away = search.projector(uri="http://127.0.0.1:9")
    tried = []
    forget = away._forget
    monkeypatch.setattr(away, "_forget", lambda: (forget(), tried.append(1), len(tried) > 2 and away.stop()))
    search.succeed()
    assert not away.run()
    assert len(tried) > 2
    complaints = [record for record in caplog.records if "is away" in record.message]
    assert len(complaints) == 1
    assert search.project()
    assert search.parent().info.status == "FINISHED"
    assert search.history(search.runs("attempt")[0], "loss")[0][0] in schedule(search.spec).points


def test_what_mlflow_refuses_holds_nothing_else_up_and_is_said_once(bench, caplog, tmp_path, mlflow):
    """A run that somebody has put into the trash stays there."""
    thrown = bench()
    thrown.project()
    thrown.client.delete_run(thrown.parent().info.run_id)
    other = Bench(tmp_path, mlflow, f"{thrown.search_id}-2", store=thrown.store)
    thrown.succeed()
    other.succeed()
    with caplog.at_level(logging.WARNING):
        assert other.project()
    assert other.parent().info.status == "FINISHED"
    assert thrown.runs("search") == []
    assert len(thrown.runs("search", ViewType.DELETED_ONLY)) == 1
    said = [record.message for record in caplog.records if "never gets all" in record.message]
    assert len(said) == 1
    assert thrown.search_id in said[0]


def test_an_mlflow_that_was_emptied_is_told_all_again(bench, tmp_path):
    search = bench()
    search.uri, search.artifacts = f"sqlite:///{tmp_path}/own.db", tmp_path / "own"
    search.succeed()
    search.project()
    content = search.content()
    (tmp_path / "own.db").unlink()
    assert search.project()
    assert search.content() == content
    outbox = search.store.outboxes.at("here")
    runs = search.store.outboxes.runs(outbox.id, (search.search_id,), attempts=True)
    assert len(runs) == 1 + len(search.runs("attempt"))


def test_runs_of_earlier_versions_are_completed_rather_than_made_again(bench):
    """They say nothing of the event that they began with, and some were killed before they had their params."""
    search = bench(faults=LOST)
    search.succeed()
    search.project()
    content = search.content()
    for run in search.runs("attempt"):
        search.client.delete_tag(run.info.run_id, EVENT)
    search.rewind()
    search.project()
    without = [
        [[tag for tag in part if tag[0] != EVENT] if isinstance(part, list) else part for part in run]
        for run in content
    ]
    assert search.content() == [tuple(run) for run in without]


def test_a_run_whose_maker_was_killed_gets_its_params(bench, monkeypatch):
    search = bench()
    with monkeypatch.context() as patch:
        _burn(patch, 1)
        search.project()
    assert search.parent().data.params == {}
    search.turn_ends()
    assert search.project()
    assert search.parent().data.params["training.num_tokens"] == "80"


def test_a_winner_whose_files_are_gone_ends_its_run_all_the_same(bench):
    search = bench()
    search.succeed()
    for file in (search.directory / f"winner-{search.search_id}").iterdir():
        file.unlink()
    (search.directory / f"winner-{search.search_id}").rmdir()
    assert search.project()
    assert search.parent().info.status == "FINISHED"


def test_a_long_history_is_read_once(bench, monkeypatch):
    """A round asks for what comes after the cursor, however much is before it, and for no search without news."""
    search = bench()
    search.succeed()
    search.project()
    asked = []
    events = search.store.events
    monkeypatch.setattr(search.store, "events", lambda **how: asked.append(how) or events(**how))
    for method in ("get_search", "list_searches", "trials", "points", "attempts"):
        monkeypatch.delattr(type(search.store), method)
    monkeypatch.setattr(Projection, "send", None)
    resting = search.projector()
    assert resting._round() is False
    assert asked == [{"after": search.store.last_sequence(), "limit": projector.EVENTS_AT_ONCE}]


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
            target.make_database(path, tmp_path / "artifacts")
    assert not path.exists()
    target.make_database(path, tmp_path / "artifacts")
    assert MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
