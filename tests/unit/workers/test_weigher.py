"""The thread that weighs axes: beside a search, late when it must be, never in the way."""

import logging
import time

import pytest

from nas.clock import utc_now
from nas.driver import Driver
from nas.errors import StoreUnavailable
from nas.search import Rungs
from nas.storage.memory import InMemoryStore
from tests.fakes import FakeExecutor, Simulation, running_search, small_spec
from workers import weigher as module
from workers.weigher import AxisWeigher


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)


@pytest.fixture
def store():
    return InMemoryStore()


def _searched(store, directory, num_trials):
    spec = small_spec(num_trials=num_trials, sampler="random", rungs=Rungs(fractions=()))
    search, lease = running_search(store, spec, utc_now)
    directory.mkdir()
    FakeExecutor(Simulation(directory=directory, spec=spec)).run(Driver(search, store, lease, utc_now))
    return lease


def test_axes_are_weighed_while_a_search_runs(store, tmp_path):
    weigher = AxisWeigher(store, _searched(store, tmp_path / "bench", 9))
    weigher.start()
    deadline = time.monotonic() + 30
    while store.get_search("s1").importance is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    weigher.close(10)
    assert store.get_search("s1").importance.num_trials == 9


def test_what_completed_last_counts_at_the_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 60)
    weigher = AxisWeigher(store, _searched(store, tmp_path / "bench", 9))
    weigher.start()
    weigher.close(30)
    assert store.get_search("s1").importance.num_trials == 9


def test_a_few_more_trials_are_not_worth_another_look(store, tmp_path):
    weigher = AxisWeigher(store, _searched(store, tmp_path / "bench", 9))
    weigher.weigh(least=10)
    assert store.get_search("s1").importance is None
    weigher.weigh()
    weigher.weigh()
    assert [event.data["importance"] is not None for event in store.events() if event.kind == "search"].count(
        True
    ) == 1


def test_a_store_that_is_away_is_told_and_nothing_else(store, tmp_path, caplog, monkeypatch):
    weigher = AxisWeigher(store, _searched(store, tmp_path / "bench", 3))

    def away(*_, **__):
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(store, "events", away)
    with caplog.at_level(logging.WARNING):
        weigher.start()
        time.sleep(0.2)
        weigher.close(10)
    assert "falls behind: the database is away" in caplog.text
