"""The thread that keeps a study: up to date while a search runs, late when it must be, never in the way."""

import logging
import time
from datetime import timedelta

import optuna
import pytest

from nas.clock import utc_now
from nas.driver import Driver
from nas.search import SearchState
from nas.storage.memory import InMemoryStore
from nas.study_storage import StudyStorage
from nas.trial import Point
from tests.fakes import FakeExecutor, Simulation, running_search, small_spec
from workers import studies
from workers.studies import SETTLED_SECONDS, StudyKeeper


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(studies, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(studies, "AWAY_SECONDS", 0.05)


@pytest.fixture
def store():
    return InMemoryStore()


def _trials(url, search_id="s1"):
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name=search_id, storage=storage).trials
    except KeyError:
        return []
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _once(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_study_follows_its_search(store, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    search, lease = running_search(store, small_spec(), utc_now)
    keeper = StudyKeeper(store, "s1", url=url)
    keeper.start()
    driver = Driver(search, store, lease, utc_now)
    trial = driver.next_trial()
    driver.on_attempt(trial.number, "worker")
    driver.on_point(trial.number, Point(num_tokens=0, loss=3.0, at=utc_now()), None)
    _once((tmp_path / "optuna.db").exists)
    _once(lambda: [each.intermediate_values for each in _trials(url)] == [{0: 3.0}])
    assert _trials(url)[0].state is optuna.trial.TrialState.RUNNING
    store.save_trial(store.trials("s1")[0].cancelled(utc_now()), lease)
    keeper.close(30)
    assert _trials(url)[0].state is optuna.trial.TrialState.FAIL


def test_a_storage_that_is_away_stops_nothing_and_is_brought_up_to_date(store, tmp_path, caplog):
    (tmp_path / "not-yet").touch()
    url = f"sqlite:///{tmp_path}/not-yet/optuna.db"
    search, lease = running_search(store, small_spec(), utc_now)
    keeper = StudyKeeper(store, "s1", url=url)
    keeper.start()
    simulation = Simulation(directory=tmp_path, spec=search.spec)
    FakeExecutor(simulation).run(Driver(search, store, lease, utc_now))
    _once(lambda: "falls behind" in caplog.text)
    time.sleep(0.3)
    assert caplog.text.count("falls behind") == 1, "said once"
    assert "nas study s1" in caplog.text
    (tmp_path / "not-yet").unlink()
    _once((tmp_path / "not-yet" / "optuna.db").exists)
    keeper.close(30)
    assert len(_trials(url)) == len(store.trials("s1"))


@pytest.mark.parametrize(
    "url", ["no address", "sqlite:////dev/null/optuna.db", "postgresql+psycopg://x@localhost:1/x"]
)
def test_a_storage_that_never_is_there_costs_a_warning(store, url, caplog):
    running_search(store, small_spec(), utc_now)
    keeper = StudyKeeper(store, "s1", url=url)
    keeper.start()
    begun = time.monotonic()
    keeper.close(30)
    assert time.monotonic() - begun < 20
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_keeper_completes_the_studies_of_searches_that_ended_without_theirs(store, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    long_ago = utc_now() - timedelta(seconds=2 * SETTLED_SECONDS)
    for search_id, ended in (("old", long_ago), ("fresh", utc_now())):
        search, lease = running_search(store, small_spec(), utc_now, search_id=search_id)
        driver = Driver(search, store, lease, utc_now)
        driver.next_trial()
        with StudyStorage(url) as storage:
            storage.write(store, search_id)
        store.save_trial(store.trials(search_id)[0].cancelled(utc_now()), lease)
        store.save_search(search.moved(SearchState.CANCELLED, ended), lease)
    elsewhere = InMemoryStore()
    running_search(elsewhere, small_spec(), utc_now, search_id="of another database")
    with StudyStorage(url) as storage:
        storage.write(elsewhere, "of another database")
    running_search(store, small_spec(), utc_now)
    keeper = StudyKeeper(store, "s1", url=url)
    keeper.start()
    keeper.close(30)
    assert _trials(url, "old")[0].state is optuna.trial.TrialState.FAIL
    assert _trials(url, "fresh")[0].state is optuna.trial.TrialState.RUNNING, "its own process may be at it"
