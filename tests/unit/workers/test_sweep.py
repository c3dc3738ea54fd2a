"""What a runner does beside its lease: states go once they are not needed, what is shared is marked as in use."""

import os
import time

import pytest

from nas import layout
from nas.disk import keep_in_use
from nas.search import SearchState
from nas.storage.memory import InMemoryStore
from tests.searches import MEASUREMENT, START, after, make_search, make_trial
from workers.sweep import Sweep


@pytest.fixture
def store():
    store = InMemoryStore()
    store.add_search(make_search())
    return store


def states(root, trial):
    path = layout.states_directory(root, trial) / "100"
    path.mkdir(parents=True)
    return path


def test_states_go_with_the_end_of_their_trial(store, tmp_path):
    lease = store.claim("search-1", "me", at=START, until=after(60))
    running, completed = make_trial(0).started(START), make_trial(1).started(START)
    store.save_trial(running, lease)
    store.save_trial(completed.completed(MEASUREMENT, "student", after(1)), lease)
    kept, gone = states(tmp_path, running), states(tmp_path, completed)
    Sweep(store, "search-1", tmp_path)()
    assert kept.exists()
    assert not gone.exists()


def test_what_is_in_use_is_marked_so_that_no_other_process_takes_it_for_unused(store, tmp_path):
    used = tmp_path / "teachers" / "t"
    used.mkdir(parents=True)
    os.utime(used, (1, 1))
    sweep = Sweep(store, "search-1", tmp_path)
    sweep()
    assert used.stat().st_mtime == 1
    sweep.in_use = (used, tmp_path / "gone")
    sweep()
    assert time.time() - used.stat().st_mtime < 60


def test_the_note_of_what_is_used_goes_with_the_search(store, tmp_path):
    keep_in_use(tmp_path, "search-1", [])
    sweep = Sweep(store, "search-1", tmp_path)
    sweep()
    assert layout.uses_file(tmp_path, "search-1").exists()
    lease = store.claim("search-1", "me", at=START, until=after(60))
    store.save_search(store.get_search("search-1").moved(SearchState.CANCELLED, after(1)), lease)
    sweep()
    assert not layout.uses_file(tmp_path, "search-1").exists()
