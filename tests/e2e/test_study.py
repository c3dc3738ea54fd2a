"""Optuna's own tools on searches that really run: load_study, importance and the dashboard's server."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.importance import get_param_importances
from optuna.trial import TrialState as OptunaState

from nas.frontier import best_trial
from nas.trial import TrialRole
from tests.home import LEASE_SECONDS, new_home

SERVE = """
import sys
from wsgiref.simple_server import make_server
import optuna_dashboard
server = make_server("127.0.0.1", 0, optuna_dashboard.wsgi(sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""
NAS = Path(sys.executable).with_name("nas")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = new_home(tmp_path_factory)
    yield home
    home.end()


@pytest.fixture(scope="module")
def finished(home):
    """A search that has run without interruption."""
    search_id = home.create(num_trials=6)
    assert home.run(search_id) == 0
    return search_id


@contextmanager
def _loaded(url, search_id):
    """Give a study as ``load_study`` finds it; None where there is none."""
    storage = optuna.storages.RDBStorage(url)
    try:
        yield optuna.load_study(study_name=search_id, storage=storage)
    except KeyError:
        yield None
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _dashboard(url):
    """Give what calls the API of a real server of optuna-dashboard."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (extra [dev])")
    command = (sys.executable, "-c", SERVE, url)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = int(server.stdout.readline())

            def get(path):
                with closing(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60)) as answer:
                    return json.load(answer) if path.startswith("/api") else answer.read().decode()

            yield get
        finally:
            server.terminate()


def _same(home, search_id, study):
    trials = home.store.trials(search_id)
    losses = {}
    for each in home.store.points(search_id):
        losses.setdefault(each.trial_number, {})[each.point.num_tokens] = each.point.loss
    assert [told.number for told in study.trials] == [trial.number for trial in trials]
    for told, trial in zip(study.trials, trials, strict=True):
        assert told.value == (trial.measurement.loss if trial.measurement else None)
        assert told.intermediate_values == losses[trial.number]
        assert told.user_attrs["architecture"] == trial.architecture.name
        assert told.user_attrs["role"] == trial.role
        assert told.user_attrs["checkpoint"] == trial.checkpoint
        assert told.datetime_complete.astimezone() == trial.finished_at
        assert told.params == {name: getattr(trial.architecture, name) for name in told.params}
    best = best_trial(trials)
    assert (study.best_trial.number, study.best_value) == (best.number, best.measurement.loss)


def test_load_study_and_importance(home, finished):
    with _loaded(home.settings.optuna_storage, finished) as study:
        _same(home, finished, study)
        assert study.user_attrs["parent_loss"] == home.store.get_search(finished).parent_loss
        assert study.user_attrs["state"] == "SUCCEEDED"
        assert {told.state for told in study.trials} == {OptunaState.COMPLETE, OptunaState.PRUNED}
        assert set(get_param_importances(study)) == {"num_layers", "hidden_size", "intermediate_size"}
        assert len(study.trials_dataframe()) == len(home.store.trials(finished))


def test_the_dashboard_shows_it(home, finished):
    trials = home.store.trials(finished)
    with _dashboard(home.settings.optuna_storage) as get:
        (summary,) = (
            each for each in get("/api/studies")["study_summaries"] if each["study_name"] == finished
        )
        shown = get(f"/api/studies/{summary['study_id']}?after=0")
        importances = get(f"/api/studies/{summary['study_id']}/param_importances")
        assert "<html" in get("/dashboard").lower()
        table = get(f"/csv/{summary['study_id']}")
    assert shown["directions"] == ["minimize"]
    assert [trial["number"] for trial in shown["trials"]] == [trial.number for trial in trials]
    lowest = min((trial for trial in trials if trial.measurement), key=lambda trial: trial.measurement.loss)
    assert [each["number"] for each in shown["best_trials"]] == [lowest.number], (
        "the dashboard asks no constraints"
    )
    assert shown["has_intermediate_values"]
    assert len(shown["intersection_search_space"]) == 3
    is_baseline = [trial.role is not TrialRole.SEARCH for trial in trials]
    assert [any(bound > 0 for bound in trial["constraints"]) for trial in shown["trials"]] == is_baseline
    assert len(importances["param_importances"][0]) == 3
    assert len(table.strip().splitlines()) == 1 + len(trials)


@pytest.mark.searches
def test_live_killed_and_resumed(home, finished):
    search_id, url = home.create(num_trials=6), home.settings.optuna_storage
    process = home.start(search_id)
    deadline = time.monotonic() + 120
    states = []
    while OptunaState.RUNNING not in states:
        assert process.poll() is None, home.log
        assert time.monotonic() < deadline
        time.sleep(0.05)
        with _loaded(url, search_id) as study:
            states = [told.state for told in study.trials] if study else []
    with _dashboard(url) as get:
        (study_id,) = (
            each["study_id"]
            for each in get("/api/studies")["study_summaries"]
            if each["study_name"] == search_id
        )
        assert get(f"/api/studies/{study_id}?after=0")["trials"]
        process.kill()
        process.wait()
    assert not home.store.get_search(search_id).state.is_final
    time.sleep(LEASE_SECONDS)
    assert home.run(search_id) == 0
    assert home.results(search_id) == home.results(finished)
    with _loaded(url, search_id) as study:
        _same(home, search_id, study)


def test_the_command_writes_a_study_anywhere_and_says_how_to_open_it(home, finished, tmp_path):
    url = f"sqlite:///{tmp_path}/copy.db"
    environment = os.environ | home.settings.environment()
    for _ in range(2):
        command = (NAS, "study", finished, "--storage", "sqlite:///copy.db")
        printed = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
    num_trials = len(home.store.trials(finished))
    assert printed.stdout.splitlines() == [
        f"study {finished}: {num_trials} trials",
        f"  optuna-dashboard {url}",
        f"  optuna.load_study(study_name={finished!r}, storage={url!r})",
    ]
    with _loaded(url, finished) as study:
        _same(home, finished, study)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("unknown",), 2, "search unknown: not found"),
        (
            ("FINISHED", "--storage", "optuna.db"),
            2,
            "NAS_OPTUNA_STORAGE: found 'optuna.db', allowed: sqlite:///FILE",
        ),
        (("FINISHED", "--storage", "sqlite:////dev/null/o.db"), 1, "sqlite:////dev/null/o.db: "),
    ],
)
def test_what_the_command_cannot_do_is_one_line(home, finished, arguments, code, message):
    arguments = [finished if each == "FINISHED" else each for each in arguments]
    ended = subprocess.run(
        (NAS, "study", *arguments), env=os.environ | home.settings.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {message}")
