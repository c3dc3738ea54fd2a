"""A whole search in a process of its own: real parent, real training, real Ray, real MLflow."""

import json
import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.clock import utc_now
from nas.finals import Evaluation
from nas.history import HistoryFilter, keys_of
from nas.log_ranges import LogRanges
from nas.logs import log_path
from nas.orders import Cancel, Extend, Kill, Pause, Resume
from nas.promoting import finalists
from nas.resources import Resources
from nas.search import Rungs, SearchState
from nas.settings import Settings
from nas.storage.sql import open_store
from nas.supervisor import NOT_OURS
from nas.trial import FailureKind, TrialRole, TrialState
from tests.checkpoints import write_task
from tests.home import LEASE_SECONDS, Home, new_home, once, tell_mlflow
from tests.micro import STEP_TOKENS
from workers.runner import FAILURE, STARTING, run_search

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return new_home(tmp_path_factory)


@pytest.fixture(scope="module")
def finished(home):
    """A search that has run without interruption."""
    search_id = home.create()
    assert home.run(search_id) == 0
    return search_id


def test_a_search_succeeds(home, finished):
    search, trials = home.store.get_search(finished), home.store.trials(finished)
    assert search.state is SearchState.SUCCEEDED
    assert search.parent_loss > 0
    assert search.progress is None
    assert {trial.state for trial in trials} == {TrialState.COMPLETED, TrialState.STOPPED}
    assert [trial.role for trial in trials] == [TrialRole.SEARCH] * 4 + [TrialRole.RANDOM_INDICES]
    losses = [trial.measurement.loss for trial in trials[:4] if trial.measurement]
    assert trials[search.winner.trial_number].measurement.loss == min(losses)
    states = list((home.settings.artifact_root / "searches" / finished).glob("trials/*/states/*"))
    assert states == [], "resumable states are swept"


def test_its_trials_are_in_the_history_by_the_content_that_they_are_made_from(home, finished):
    search, trials = home.store.get_search(finished), home.store.trials(finished)
    found = [entry.measured for entry in home.store.history.measurements(HistoryFilter(search_id=finished))]
    assert {each.trial_number for each in found} == {trial.number for trial in trials}
    artifacts = home.settings.artifact_root
    assert (artifacts / "blocks" / search.made_from.blocks).is_dir()
    assert (artifacts / "scores" / f"{search.made_from.scores}.safetensors").is_file()
    assert (artifacts / "teachers" / search.made_from.teacher).is_dir()
    for each in found:
        is_whole = trials[each.trial_number].state is TrialState.COMPLETED
        assert each.is_partial != is_whole
        assert each.is_reusable == (is_whole and each.role is not TrialRole.RANDOM_INDICES)
        assert each.parent_key == keys_of(search.spec, search.made_from).parent


def test_the_winner_is_an_ordinary_checkpoint(home, finished):
    winner = home.store.get_search(finished).winner
    directory = home.settings.artifact_root / winner.path
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    trial = home.store.trials(finished)[winner.trial_number]
    assert sum(parameter.numel() for parameter in model.parameters()) == trial.architecture.parameter_count
    inputs = AutoTokenizer.from_pretrained(directory)("the model prunes", return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()
    student = home.settings.artifact_root / trial.checkpoint / "model.safetensors"
    assert student.samefile(directory / "model.safetensors"), "the weights take no space twice"
    assert f"{trial.measurement.loss:.4f}" in (directory / "README.md").read_text(encoding="utf-8")


def test_mlflow_shows_it(home, finished):
    tell_mlflow(home.settings)
    client = MlflowClient(tracking_uri=home.settings.tracking_uri)
    experiment = client.get_experiment_by_name("minitron-nas")
    runs = client.search_runs([experiment.experiment_id], f"tags.`nas.search_id` = '{finished}'")
    (parent,) = (run for run in runs if run.data.tags["nas.kind"] == "search")
    assert parent.info.status == "FINISHED"
    assert len(runs) == 1 + len(home.store.attempts(finished))
    assert len(parent.data.tags["nas.parent_fingerprint"]) == 64
    (version,) = client.search_model_versions(f"tags.`nas.search_id` = '{finished}'")
    assert version.tags["nas.trial"] == str(home.store.get_search(finished).winner.trial_number)
    assert client.get_model_version_by_alias(version.name, "champion").version == version.version
    artifacts = {file.path for file in client.list_artifacts(version.run_id, "winner")}
    assert {"winner/README.md", "winner/model.safetensors"} <= artifacts


def _is_gone(pid):
    """Return whether a process has ended, reaped or not."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def _soon(condition, otherwise):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


@pytest.mark.searches
def test_killed_it_goes_on_to_the_same_result(home, finished):
    search_id = home.create()
    process = home.start(search_id)
    once(lambda: len(home.store.points(search_id)) >= 7, process)
    process.kill()
    process.wait()
    assert not home.store.get_search(search_id).state.is_final
    workers = {int(attempt.worker.rpartition(":")[2]) for attempt in home.store.attempts(search_id)}
    _soon(lambda: all(map(_is_gone, workers)), "workers outlive their runner")
    time.sleep(LEASE_SECONDS)

    assert home.run(search_id) == 0
    assert home.store.get_search(search_id).state is SearchState.SUCCEEDED
    assert home.results(search_id) == home.results(finished)
    left, right = home.weights(search_id), home.weights(finished)
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert all(attempt.ended_at for attempt in home.store.attempts(search_id))


@pytest.mark.searches
def test_paused_it_gives_everything_back_and_goes_on_to_the_same_result(home, finished):
    search_id = home.create()
    process = home.start(search_id)
    once(lambda: len(home.store.points(search_id)) >= 7, process)
    home.store.give_order(search_id, Pause(), at=utc_now(), by="ann")
    assert process.wait(60) == 0
    search, attempts = home.store.get_search(search_id), home.store.attempts(search_id)
    assert search.state is SearchState.PAUSED
    assert all(attempt.ended_at and attempt.failure is None for attempt in attempts)
    assert TrialState.RUNNING not in {trial.state for trial in home.store.trials(search_id)}
    workers = {int(attempt.worker.rpartition(":")[2]) for attempt in attempts}
    _soon(lambda: all(map(_is_gone, workers)), "workers outlive the pause")
    assert search_id not in {each.id for each in home.store.unclaimed(utc_now())}
    assert home.run(search_id) == NOT_OURS
    home.store.give_order(search_id, Resume(), at=utc_now())
    assert home.run(search_id) == 0
    assert home.store.get_search(search_id).state is SearchState.SUCCEEDED
    assert home.results(search_id) == home.results(finished)
    left, right = home.weights(search_id), home.weights(finished)
    assert all(torch.equal(left[name], right[name]) for name in right)


@pytest.mark.searches
def test_killed_by_order_it_is_over_though_a_worker_hangs(home):
    search_id = home.create()
    process = home.start(search_id)
    once(lambda: home.store.points(search_id), process)
    (attempt,) = home.store.attempts(search_id)
    worker = int(attempt.worker.rpartition(":")[2])
    os.kill(worker, signal.SIGSTOP)
    killed = home.store.give_order(search_id, Kill(), at=utc_now())
    assert killed.state is SearchState.CANCELLED
    assert {trial.state for trial in home.store.trials(search_id)} == {TrialState.CANCELLED}
    assert process.wait(60) == NOT_OURS
    _soon(lambda: _is_gone(worker), "a hung worker outlives its search")
    assert home.store.get_search(search_id) == killed


@pytest.mark.searches
def test_it_ends_with_its_tokens_and_goes_on_with_more_of_them(home):
    """Asked for far more trials than its tokens suffice for, and given more while it trains."""
    one = 8 * STEP_TOKENS
    search_id = home.create(num_trials=1000, max_tokens=one, rungs=Rungs(fractions=()), max_parallel=1)
    process = home.start(search_id)
    once(lambda: home.store.points(search_id), process)
    extended = home.store.give_order(search_id, Extend(max_tokens=3 * one + 1), at=utc_now(), by="ann")
    assert (extended.spec.max_tokens, extended.spec_by_now.max_tokens) == (one, 3 * one + 1)
    assert process.wait(120) == 0
    assert home.store.get_search(search_id).state is SearchState.SUCCEEDED
    roles = [trial.role for trial in home.store.trials(search_id)]
    assert roles == [TrialRole.SEARCH] * 3 + [TrialRole.RANDOM_INDICES]
    tokens = [each.point.num_tokens for each in home.store.points(search_id, [0, 1, 2])]
    assert tokens.count(one) == 3


@pytest.mark.searches
@pytest.mark.parametrize("num_points", [0, 2])
def test_more_trials_at_once_than_ray_was_started_for_run_in_the_next_process(home, num_points):
    """Nothing that ran is lost: its attempt ends without a failure, and its trial goes on."""
    search_id = home.create(num_trials=6)
    process = home.start(search_id)
    once(lambda: home.store.get_search(search_id).state is not SearchState.QUEUED, process)
    once(lambda: len(home.store.points(search_id)) >= num_points, process)
    home.store.give_order(search_id, Extend(max_parallel=2), at=utc_now())
    assert process.wait(60) == 0
    assert "more trials are wanted at once than Ray was started for" in home.log
    assert all(attempt.ended_at and not attempt.failure for attempt in home.store.attempts(search_id))
    before = len(home.store.attempts(search_id))
    assert home.run(search_id) == 0
    assert home.store.get_search(search_id).state is SearchState.SUCCEEDED
    attempts = home.store.attempts(search_id)
    assert any(
        each.started_at < other.ended_at and other.started_at < each.ended_at and each != other
        for each in attempts[before:]
        for other in attempts[before:]
    ), "trials ran at once"


def test_each_attempt_keeps_a_log_where_the_service_sees_it(home, finished):
    ranges = LogRanges(
        home.store, artifact_root=home.settings.artifact_root, logs=home.settings.log_directory
    )
    for attempt in home.store.attempts(finished):
        found = ranges.of_attempt(finished, attempt.trial_number, attempt.number)
        trial = home.store.trials(finished)[attempt.trial_number]
        assert f"attempt {attempt.number}, {trial.architecture.name} on worker {attempt.worker}" in found.text
        assert found.next_offset == found.total_bytes > 0
    first = ranges.of_attempt(finished, 0, 1)
    assert "trial 0: pruned to" in first.text
    for each in home.store.points(finished):
        if each.trial_number == 0 and each.point.num_tokens <= 4 * STEP_TOKENS:
            assert f"loss {each.point.loss:.4f} at {each.point.num_tokens} tokens" in first.text
    log = ranges.of_search(finished, offset=10, limit=200)
    assert log.text
    assert log.next_offset < log.total_bytes


@pytest.mark.searches
def test_a_search_with_all_stages_survives_a_kill_in_its_correction(home, tmp_path):
    evaluation = Evaluation(tasks=("nouns",), task_path=str(write_task(tmp_path)), finalists=2)
    correction = CorrectionRecipe(num_tokens=500 * STEP_TOKENS, learning_rate_ratio=0.5)
    search_id = home.create(evaluation=evaluation, correction=correction, checkpoint_seconds=0.05)
    states = home.settings.artifact_root / "corrections"
    process = home.start(search_id)
    once(lambda: list(states.glob(".*.state/*.safetensors")), process)
    process.kill()
    process.wait()
    time.sleep(LEASE_SECONDS)
    assert home.run(search_id) == 0

    search = home.store.get_search(search_id)
    ranked = finalists(search.spec, home.store.trials(search_id))
    assert [each.trial_number for each in search.evaluated] == [None, *(trial.number for trial in ranked)]
    assert len(ranked) == 2
    assert {score.name for each in search.evaluated for score in each.scores} == {"nouns acc"}
    assert search.corrected_loss < search.parent_loss
    (corrected,) = states.iterdir()
    assert (corrected / "tokenizer.json").exists()
    card = (home.settings.artifact_root / search.winner.path / "README.md").read_text(encoding="utf-8")
    assert f"| corrected parent | {search.corrected_loss:.4f} |" in card
    assert f"| nouns acc | {search.evaluated[0].scores[0].value:.4f} |" in card
    tell_mlflow(home.settings)
    client = MlflowClient(tracking_uri=home.settings.tracking_uri)
    experiment = client.get_experiment_by_name("minitron-nas")
    query = f"tags.`nas.search_id` = '{search_id}' and tags.`nas.kind` = 'search'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert run.data.metrics["teacher/nouns/acc"] == search.evaluated[0].scores[0].value


@pytest.mark.searches
def test_trials_run_beside_the_correction_of_their_teacher_and_its_death_costs_time_only(home):
    correction = CorrectionRecipe(mode="alongside", stages=4, learning_rate_ratio=0.5)
    training = TrainingRecipe(num_tokens=400 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32")
    options = {"correction": correction, "training": training, "num_trials": 2, "rungs": Rungs(fractions=())}
    root = home.settings.artifact_root
    before = {*(root / "teachers").glob("*"), *(root / "corrections").glob("*")}
    search_id = home.create(**options)
    process = home.start(search_id)
    once(lambda: len({*(root / "teachers").glob("[!.]*")} - before) >= 2, process)
    (correcting,) = _workers(process.pid, "ray::_stream")
    os.kill(correcting, signal.SIGSTOP)
    once(lambda: home.store.points(search_id), process)
    assert not {*(root / "corrections").glob("[!.]*")} - before, "the correction has not ended"
    assert home.store.get_search(search_id).corrected_loss is None
    os.kill(correcting, signal.SIGKILL)
    assert process.wait(300) == 0

    search = home.store.get_search(search_id)
    assert search.state is SearchState.SUCCEEDED
    assert search.corrected_loss < search.parent_loss
    log = log_path(home.settings.log_directory, search_id).read_text(encoding="utf-8")
    assert "lost a worker process (1 of 1)" in log
    assert "beside the trials: correcting the teacher" in log
    card = (root / search.winner.path / "README.md").read_text(encoding="utf-8")
    assert f"| corrected parent | {search.corrected_loss:.4f} |" in card
    assert "corrected alongside, in 4 stages" in card
    again = home.create(**options)
    assert home.run(again) == 0
    assert home.results(again) == home.results(search_id)
    assert home.store.get_search(again).corrected_loss == search.corrected_loss


@pytest.mark.searches
def test_a_correction_beside_the_trials_that_fails_ends_the_search(home):
    correction = CorrectionRecipe(mode="alongside", stages=2, learning_rate_ratio=1.0)
    training = TrainingRecipe(
        num_tokens=8 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32", peak_learning_rate=1e30,
    )  # fmt: skip
    search_id = home.create(correction=correction, training=training)
    assert home.run(search_id) == FAILURE
    search = home.store.get_search(search_id)
    assert search.state is SearchState.FAILED
    assert search.failure.kind is FailureKind.NON_FINITE
    assert all(trial.state.is_final for trial in home.store.trials(search_id))


def _workers(pid, title):
    """Return the processes below one that bear a title."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().decode().startswith(title):
                found.append(int(path.name))

    def is_below(child):
        return child == pid or (child in parents and is_below(parents[child]))

    return [child for child in found if is_below(child)]


def test_asked_to_end_it_leaves_the_search_free_and_a_cancel_ends_it_atonce(home):
    search_id = home.create()
    process = home.start(search_id)
    once(lambda: home.stage(search_id) == STARTING.stage, process)
    process.terminate()
    assert process.wait(60) == 0
    assert not home.store.get_search(search_id).state.is_final
    assert search_id in {search.id for search in home.store.unclaimed(utc_now())}
    home.store.give_order(search_id, Cancel(), at=utc_now())
    assert home.store.get_search(search_id).state is SearchState.CANCELLED
    assert home.run(search_id) == NOT_OURS


def test_what_cannot_run_fails_at_once_and_says_why(home):
    search_id = home.create(resources=Resources(cpus=10_000))
    assert home.run(search_id) == 1
    search = home.store.get_search(search_id)
    assert search.state is SearchState.FAILED
    reason = "resources.cpus: found 10000, allowed: at most"
    assert reason in search.failure.message
    assert "Traceback" in search.failure.traceback
    assert reason in search.failure.log_tail.splitlines()[-1]


@pytest.mark.searches
def test_what_a_running_search_shares_is_marked_as_in_use(home):
    """Aged by hand, it is young again before the search has ended."""
    search_id = home.create()
    process = home.start(search_id)
    deadline = time.monotonic() + 120
    root = home.settings.artifact_root
    while not (root / "searches" / search_id / "uses.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    used = json.loads((root / "searches" / search_id / "uses.json").read_text())
    assert sorted(name.partition("/")[0] for name in used) == ["blocks", "scores", "teachers"]
    for name in used:
        os.utime(root / name, (1, 1))
    while any((root / name).stat().st_mtime == 1 for name in used):
        assert process.poll() is None
        time.sleep(0.02)
    assert process.wait(120) == 0
    assert not (root / "searches" / search_id / "uses.json").exists()


def test_an_artifact_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    settings = Settings(home=tmp_path / "home", artifact_root=tmp_path / "file" / "root")
    home = Home(settings, open_store(settings.database_url))
    search_id = home.create()
    assert home.run(search_id) == 1
    failure = home.store.get_search(search_id).failure
    assert f"NAS_ARTIFACT_ROOT: {tmp_path}/file/root: cannot be written" in failure.message


def test_a_search_that_another_process_holds_is_left_alone(home):
    search_id = home.create()
    now = utc_now()
    assert home.store.claim(search_id, "another", at=now, until=now + timedelta(minutes=5))
    assert run_search(search_id, home.settings) == 3
    assert home.store.get_search(search_id).state is SearchState.QUEUED
