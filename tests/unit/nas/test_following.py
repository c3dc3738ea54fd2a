"""Who follows a search sees what is stored, at a cost that does not grow while nothing happens."""

import random
from dataclasses import replace

import pytest

from nas.driver import Driver
from nas.edits import Edit
from nas.errors import NotFound, StoreUnavailable
from nas.following import Following
from nas.search import Rungs, SearchState
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.fakes import FakeExecutor, Faults, ManualClock, Simulation, running_search, small_spec


class Watched(InMemoryStore):
    """Lets a follower look between any two writes, and counts what is read."""

    def __init__(self):
        self.at_write = lambda: None
        self.read = []
        self.is_away = False
        super().__init__(ManualClock())

    def _tell(self, *told):
        super()._tell(*told)
        self.at_write()

    def __getattribute__(self, name):
        if name in {"events", "trials", "points", "attempts", "get_search"}:
            if self.is_away:
                raise StoreUnavailable("away")
            self.read.append(name)
        return super().__getattribute__(name)


@pytest.fixture
def store():
    return Watched()


@pytest.fixture
def service(store, tmp_path):
    return SearchService(store, artifact_root=tmp_path)


def follow(service, search_id="s1"):
    return Following(service, search_id)


def run(store, directory, **changes):
    spec = small_spec(rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False), **changes)
    clock = ManualClock()
    search, lease = running_search(store, spec, clock)
    directory.mkdir()
    faults = Faults(lost_workers={1: 1}, raising=frozenset({2}))
    driver = Driver(search, store, lease, clock)
    FakeExecutor(Simulation(directory=directory, spec=spec, faults=faults)).run(driver)
    return lease


@pytest.mark.parametrize("seed", range(3))
def test_whenever_one_looks_one_sees_what_is_stored(store, service, tmp_path, seed):
    """Looks at random moments of a search with rungs, a lost worker and a failure."""
    chance, seen, following = random.Random(seed), [], None

    def look():
        nonlocal following
        if chance.random() < 0.2 and "s1" in store._records:
            following = following or follow(service)
            found = following.now()
            assert list(found.records) == [replace(each, waiting=None) for each in service.trials("s1")]
            assert found.search == service.search("s1")
            seen.append(found.sequence)

    store.at_write = look
    run(store, tmp_path / "bench", seed=seed)
    assert len(set(seen)) > 5
    assert seen == sorted(seen)


def test_while_nothing_happens_one_look_is_one_query_that_finds_nothing(store, service, tmp_path):
    run(store, tmp_path / "bench")
    following = follow(service)
    first = following.now()
    store.read.clear()
    assert following.now().sequence == first.sequence
    assert store.read == ["events"]


def test_what_people_say_is_seen(store, service, tmp_path):
    lease = run(store, tmp_path / "bench")
    following = follow(service)
    following.now()
    store.edit_search("s1", Edit(notes="learnt"))
    assert following.now().search.notes == "learnt"
    search = store.get_search("s1")
    store.save_search(replace(search, state=SearchState.COMPLETING), lease)
    assert following.now().search.state is SearchState.COMPLETING


def test_what_was_missed_while_the_store_was_away_is_made_up_for(store, service, tmp_path):
    lease = run(store, tmp_path / "bench")
    following = follow(service)
    before = following.now()
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        following.now()
    store.is_away = False
    assert following.now().records == before.records
    store.save_search(replace(store.get_search("s1"), parent_loss=9.0), lease)
    assert following.now().search.parent_loss == 9.0


def test_nothing_to_follow(service):
    with pytest.raises(NotFound):
        follow(service).now()
