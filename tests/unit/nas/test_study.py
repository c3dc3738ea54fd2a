"""A search as an Optuna study: what Optuna's own functions say of it is what the store says."""

import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from urllib.parse import quote

import optuna
import pytest
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState as OptunaState
from sqlalchemy.orm import Session

from nas.axes import Axes, Multiples
from nas.axis_importance import axis_importance
from nas.budget import Budget
from nas.driver import Driver
from nas.errors import Conflict, InvalidSettings, NotFound, StudiesUnavailable
from nas.frontier import best_trial, pareto_front
from nas.sampling import Objective
from nas.search import Comparisons, Rungs, SearchState, Winner
from nas.settings import Settings
from nas.storage.memory import InMemoryStore
from nas.study import OF_HIDDEN, study_trials
from nas.study_storage import StudyStorage, shown
from nas.trial import Point, TrialRole, TrialState
from nas.verdicts import Next
from tests.fakes import (
    FakeExecutor,
    Faults,
    Fuse,
    ManualClock,
    RunnerKilled,
    Simulation,
    running_search,
    small_spec,
)
from tests.postgres import private_server
from tests.searches import MEASUREMENT, after, make_search, make_spec, make_trial


class Bench:
    """A search that a fake executor runs, and a storage for its study."""

    def __init__(self, directory, url, *, faults=None, fuse=None, search_id="s1", **changes):
        self.url = url
        self.search_id = search_id
        self.store = InMemoryStore()
        self.clock = ManualClock(step=timedelta(seconds=2))
        options = {"comparisons": Comparisons(random_indices=1, random_architectures=1)}
        self.spec = small_spec(name="a search", **(options | changes))
        self.search, self.lease = running_search(self.store, self.spec, self.clock, search_id=search_id)
        states = directory / f"states-{search_id}"
        states.mkdir()
        simulation = Simulation(directory=states, spec=self.spec, faults=faults or Faults())
        self.driver = Driver(self.search, self.store, self.lease, self.clock)
        self.executor = FakeExecutor(simulation, fuse=fuse or Fuse())

    def run(self):
        self.executor.run(self.driver)
        return self

    def finish(self):
        winner = best_trial(self.trials)
        ended = {"winner": Winner(trial_number=winner.number, path="winner")}
        search = self.store.get_search(self.search_id).moved(SearchState.SUCCEEDED, self.clock(), **ended)
        self.store.save_search(search, self.lease)
        return self

    def write(self):
        with StudyStorage(self.url) as storage:
            return storage.write(self.store, self.search_id)

    @property
    def trials(self):
        return self.store.trials(self.search_id)

    @property
    def study(self):
        return optuna.load_study(study_name=self.search_id, storage=self.url)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/new/optuna.db"


@pytest.fixture
def bench(tmp_path, url):
    return partial(Bench, tmp_path, url)


@pytest.fixture(autouse=True)
def _connections_are_closed(monkeypatch):
    """Optuna leaves the connections of studies that were loaded to the collector, which warns of them."""
    opened, make = [], optuna.storages.RDBStorage.__init__

    def remember(self, *arguments, **options):
        make(self, *arguments, **options)
        opened.append(self)

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", remember)
    yield
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


def _rows(url):
    """Everything that a SQLite storage holds."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return list(connection.iterdump())


def _compare(bench):
    """Hold every trial of the study to the store's."""
    study = bench.study
    losses = {}
    for each in bench.store.points(bench.search_id):
        losses.setdefault(each.trial_number, {})[each.point.num_tokens] = each.point.loss
    assert len(study.trials) == len(bench.trials)
    for told, trial in zip(study.trials, bench.trials, strict=True):
        assert told.number == trial.number == told.user_attrs["number"]
        assert told.params == {name: getattr(trial.architecture, name) for name in told.params}
        assert told.value == (trial.measurement.loss if trial.measurement else None)
        assert told.intermediate_values == losses.get(trial.number, {})
        assert told.user_attrs["architecture"] == trial.architecture.name
        assert told.user_attrs["parameters"] == trial.architecture.parameter_count
        assert told.user_attrs["search_id"] == bench.search_id
        assert told.user_attrs["role"] == trial.role.value
        assert told.user_attrs.get("checkpoint") == trial.checkpoint
        assert told.user_attrs.get("loss_before_retraining") == losses.get(trial.number, {}).get(0)
        assert told.datetime_start.astimezone() == (trial.started_at or trial.created_at)
        assert (told.datetime_complete and told.datetime_complete.astimezone()) == trial.finished_at
    return study


def test_a_finished_search_is_a_finished_study(bench):
    done = bench().run().finish()
    assert done.write() == len(done.trials)
    study = _compare(done)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    roles = [trial.role for trial in done.trials]
    assert roles.count(TrialRole.SEARCH) == 6
    states = {OptunaState.COMPLETE: TrialState.COMPLETED, OptunaState.PRUNED: TrialState.STOPPED}
    assert [states[told.state] for told in study.trials] == [trial.state for trial in done.trials]
    winner = best_trial(done.trials)
    assert (study.best_trial.number, study.best_value) == (winner.number, winner.measurement.loss)
    assert [told.number for told in study.best_trials] == [winner.number]
    assert study.user_attrs == {
        "search_id": "s1", "name": "a search", "parent": "builtin:tiny", "state": "SUCCEEDED",
        "parent_parameters": done.search.parent_parameters, "parent_loss": 1.0, "winner": winner.number,
        "budget": {"max_parameters": 640_000, "min_parameters": 520_000, "counting": "total"},
    }  # fmt: skip
    assert study.trials[0].distributions == {
        "num_layers": optuna.distributions.IntDistribution(4, 6),
        "hidden_size": optuna.distributions.IntDistribution(80, 128, step=8),
        "intermediate_size": optuna.distributions.IntDistribution(96, 256, step=16),
        "num_attention_heads": optuna.distributions.IntDistribution(4, 8, step=4),
    }


@pytest.mark.parametrize("cost", ["parameters", "memory", "flops"])
def test_a_search_that_weighs_two_is_a_study_of_two(bench, cost):
    """Optuna's front is ours, baselines are none of it, and the losses on the way stay."""
    objective = Objective(cost=cost, batch=16)
    done = (
        bench(sampler="nsga2", objective=objective, rungs=Rungs(fractions=()), num_trials=12).run().finish()
    )
    done.write()
    rows = _rows(done.url)
    done.write()
    assert _rows(done.url) == rows
    study = done.study
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    assert [told.values for told in study.trials] == [
        [trial.measurement.loss, objective.of(trial.architecture)] for trial in done.trials
    ]
    front = pareto_front(done.trials, objective)
    assert {told.number for told in study.best_trials} == {trial.number for trial in front}
    assert best_trial(done.trials) in front
    assert study.trials[0].intermediate_values.keys() == {0, 16, 32, 48, 64, 80}
    assert axis_importance(done.search, done.trials, []).num_trials == 13


def test_a_search_that_weighs_two_at_rungs_is_a_study_too(bench):
    done = bench(sampler="nsga2", objective=Objective(), num_trials=12).run().finish()
    assert {trial.state for trial in done.trials} == {TrialState.COMPLETED, TrialState.STOPPED}
    done.write()
    told = {each.number: each.state for each in done.study.trials}
    assert [told[trial.number] is OptunaState.PRUNED for trial in done.trials] == [
        trial.state is TrialState.STOPPED for trial in done.trials
    ]
    front = pareto_front(done.trials, Objective())
    assert {each.number for each in done.study.best_trials} == {trial.number for trial in front}


@pytest.mark.parametrize("evaluator", [None, FanovaImportanceEvaluator(seed=0)])
def test_importance_is_computed_from_it(bench, evaluator):
    done = bench(num_trials=12).run()
    done.write()
    importances = get_param_importances(done.study, evaluator=evaluator)
    assert set(importances) == {"num_layers", "hidden_size", "intermediate_size", "num_attention_heads"}
    assert sum(importances.values()) == pytest.approx(1)


def test_written_twice_nothing_changes(bench, url):
    done = bench().run().finish()
    done.write()
    rows = _rows(url)
    done.write()
    assert _rows(url) == rows


def test_written_at_every_step_it_ends_as_when_written_once(tmp_path, bench, url):
    live = bench(faults=Faults(diverging={1}, lost_workers={2: 1}))
    with StudyStorage(url) as storage:
        add_point = live.store.add_point
        save_trial = live.store.save_trial

        def write_after(method):
            def call(*arguments):
                method(*arguments)
                storage.write(live.store, "s1")

            return call

        live.store.add_point, live.store.save_trial = write_after(add_point), write_after(save_trial)
        live.run().finish()
        storage.write(live.store, "s1")
    study = _compare(live)
    once = f"sqlite:///{tmp_path}/once.db"
    with StudyStorage(once) as storage:
        storage.write(live.store, "s1")
    assert optuna.load_study(study_name="s1", storage=once).trials == study.trials
    assert study.trials[1].state is OptunaState.FAIL
    assert "nan" in study.trials[1].user_attrs["failure"]


def test_running_trials_run_and_end_later(bench):
    live = bench(fuse=Fuse(20))
    with pytest.raises(RunnerKilled):
        live.run()
    live.write()
    study = _compare(live)
    running = [told.number for told in study.trials if told.state is OptunaState.RUNNING]
    assert running == [trial.number for trial in live.trials if not trial.state.is_final]
    assert running
    assert study.user_attrs["state"] == "RUNNING"
    live.driver = Driver(live.search, live.store, live.lease, live.clock)
    live.executor = FakeExecutor(live.executor.simulation)
    live.run().finish().write()
    study = _compare(live)
    assert all(told.state.is_finished() for told in study.trials)
    assert study.user_attrs["state"] == "SUCCEEDED"


def test_what_waits_at_a_rung_or_was_not_begun_runs_and_what_is_cancelled_failed(bench):
    live = bench(num_trials=2, max_parallel=1)
    proposed = live.driver.next_trial()
    assert proposed is not Next.WAIT
    live.write()
    assert live.study.trials[0].state is OptunaState.RUNNING
    _compare(live)
    live.clock.advance(60)
    live.driver.on_attempt(0, "worker")
    live.driver.on_point(0, Point(num_tokens=0, loss=3.0, at=live.clock()), None)
    live.write()
    _compare(live)
    live.driver.on_point(0, Point(num_tokens=40, loss=2.0, at=live.clock()), "state")
    (waiting,) = live.trials
    assert waiting.state is TrialState.WAITING
    live.write()
    _compare(live)
    assert live.study.trials[0].state is OptunaState.RUNNING
    live.store.save_trial(waiting.cancelled(live.clock()), live.lease)
    live.write()
    _compare(live)
    assert live.study.trials[0].state is OptunaState.FAIL


class _Killed(BaseException):
    """The writer ends here."""


def test_a_study_half_written_is_completed_by_the_next(bench, tmp_path, url, monkeypatch):
    """Killed before any of its commits, in a study that holds running trials already."""
    live = bench(fuse=Fuse(20))
    with pytest.raises(RunnerKilled):
        live.run()
    live.write()
    live.driver = Driver(live.search, live.store, live.lease, live.clock)
    live.executor = FakeExecutor(live.executor.simulation)
    live.run().finish()
    commit, num_left, half = Session.commit, [0], url.removeprefix("sqlite:///")

    def burn(session):
        if not num_left[0]:
            raise _Killed
        num_left[0] -= 1
        commit(session)

    for step in count():
        live.url = f"sqlite:///{tmp_path}/{step}.db"
        shutil.copy(half, tmp_path / f"{step}.db")
        num_left[0] = step
        with monkeypatch.context() as patch, suppress(_Killed):
            patch.setattr(Session, "commit", burn)
            live.write()
            break
        assert live.write() == len(live.trials)
        _compare(live)
    assert step > 20


def test_times_of_trials_that_ended_are_mended(bench, url):
    done = bench().run()
    done.write()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "UPDATE trials SET datetime_complete = '2030-01-01 00:00:00.000000' WHERE number = 1"
        )
        connection.commit()
    with StudyStorage(url) as storage:
        storage.write(done.store, "s1")
        rows = _rows(url)
        storage.write(done.store, "s1")
    assert _rows(url) == rows
    _compare(done)


def test_a_study_that_others_wrote_into_is_written_anew(bench, caplog):
    done = bench().run().finish()
    done.write()
    done.study.add_trial(optuna.trial.create_trial(value=0.0, params={}, distributions={}))
    assert len(done.study.trials) == len(done.trials) + 1
    done.write()
    _compare(done)
    assert "written anew" in caplog.text


def test_a_study_of_the_same_name_that_is_not_ours_is_left_alone(bench, url, tmp_path):
    done = bench().run()
    with StudyStorage(url):
        pass  # which makes the database
    optuna.create_study(study_name="s1", storage=url).add_trial(optuna.trial.create_trial(value=0.0))
    with pytest.raises(Conflict, match="not made from the search"):
        done.write()
    assert len(done.study.trials) == 1


def test_multiples_of_hidden_are_an_axis_of_multiples(bench):
    axes = Axes(
        hidden_size=(96, 128), intermediate_size=Multiples(of_hidden=(1, 1.5, 2)), num_layers=(4, 5, 6)
    )
    done = bench(axes=axes, budget=Budget(max_parameters=700_000), num_trials=4).run()
    done.write()
    for told, trial in zip(done.study.trials, done.trials, strict=True):
        sizes = trial.architecture
        assert told.params[OF_HIDDEN] * sizes.hidden_size == sizes.intermediate_size
        assert told.params["hidden_size"] == sizes.hidden_size
        assert told.distributions[OF_HIDDEN] == optuna.distributions.FloatDistribution(1, 2)


def test_uneven_choices_are_steps_that_land_on_each(bench):
    done = bench(
        axes=Axes(num_layers=(3, 4, 6), hidden_size=(112, 128)), budget=Budget(max_parameters=10**6)
    ).run()
    done.write()
    assert done.study.trials[0].distributions["num_layers"] == optuna.distributions.IntDistribution(3, 6)


def test_a_baseline_that_beats_the_winner_is_not_the_best_trial(bench):
    done = bench().run()
    winner = best_trial(done.trials)
    baseline = next(
        trial for trial in done.trials if trial.role is not TrialRole.SEARCH and trial.measurement
    )
    lower = replace(baseline.measurement, loss=winner.measurement.loss / 2)
    trials = [replace(trial, measurement=lower) if trial == baseline else trial for trial in done.trials]
    done.store.trials = lambda _: trials
    done.write()
    assert done.study.trials[baseline.number].value == lower.loss
    assert done.study.best_trial.number == winner.number


def test_several_searches_share_a_storage_and_write_at_once(tmp_path, url):
    benches = [Bench(tmp_path, url, search_id=f"s{number}").run() for number in range(4)]
    errors = []

    def write(bench):
        try:
            for _ in range(3):
                bench.write()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for bench in benches:
        _compare(bench)
    with StudyStorage(url) as storage:
        assert sorted(storage.unfinished()) == ["s0", "s1", "s2", "s3"]
        benches[2].finish()
        storage.write(benches[2].store, "s2")
        assert sorted(storage.unfinished()) == ["s0", "s1", "s3"]


def test_two_that_write_one_study_at_once_agree(bench):
    done = bench().run()
    threads = [threading.Thread(target=done.write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _compare(done)


def test_in_postgresql(tmp_path):
    with private_server() as server:
        live = Bench(tmp_path, server.new_database(), fuse=Fuse(20))
        with pytest.raises(RunnerKilled):
            live.run()
        live.write()
        _compare(live)
        live.driver = Driver(live.search, live.store, live.lease, live.clock)
        live.executor = FakeExecutor(live.executor.simulation)
        live.run().finish().write()
        study = _compare(live)
        assert study.best_trial.number == best_trial(live.trials).number
        study._storage._backend.engine.dispose()
        server.stop()
        with pytest.raises(StudiesUnavailable):
            live.write()
        server.start()
        live.write()
        _compare(live)
        with StudyStorage(live.url) as storage:
            assert storage.unfinished() == []


@pytest.mark.parametrize("url", ["optuna.db", "sqlite://", "sqlite:///:memory:", "", "/tmp/optuna.db"])
def test_what_is_no_address_of_a_storage(url):
    with pytest.raises(InvalidSettings, match=r"NAS_OPTUNA_STORAGE: found .*, allowed: sqlite:///FILE"):
        StudyStorage(url)


@pytest.mark.parametrize(
    "url",
    ["nothing://here/db", "sqlite:////dev/null/optuna.db", "postgresql+psycopg://nobody@localhost:1/none"],
)
def test_a_storage_that_cannot_be_opened_is_named_in_one_line(url):
    with pytest.raises(StudiesUnavailable) as caught, StudyStorage(url):
        pass
    assert str(caught.value).startswith(f"{url}: ")
    assert "\n" not in str(caught.value)


def test_passwords_are_not_shown():
    assert shown("postgresql+psycopg://me:secret@db/optuna") == "postgresql+psycopg://me:***@db/optuna"
    assert shown("sqlite:////srv/a:b@c.db") == "sqlite:////srv/a:b@c.db"


def test_a_home_of_any_name_holds_the_storage(tmp_path, bench):
    home = tmp_path / "my home 100%20?#{x}"
    done = bench().run()
    done.url = Settings(home=home).optuna_storage
    assert quote(str(home)) in done.url
    done.write()
    assert (home / "optuna.db").is_file()
    _compare(done)


def test_an_unknown_search_has_no_study(url):
    with StudyStorage(url) as storage, pytest.raises(NotFound):
        storage.write(InMemoryStore(), "unknown")
    assert optuna.get_all_study_names(url) == []


def test_a_reused_trial_says_whose_measurement_it_is():
    earlier = make_trial(7, search_id="earlier", state=TrialState.COMPLETED, measurement=MEASUREMENT)
    trial = make_trial().reused(earlier, rung=0, at=after(1))
    (told,) = study_trials(make_search(spec=make_spec(axes=Axes(num_layers=(3, 4)))), [trial], ())
    assert told.state is OptunaState.COMPLETE
    assert (told.value, told.user_attrs["reused_from"]) == (MEASUREMENT.loss, "search earlier, trial 7")
