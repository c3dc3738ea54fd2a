"""All who look at a search share what was read and worked out."""

import gc

import pytest

from api.dashboard.snapshot import SnapshotReader, SnapshotReaders
from nas.edits import Edit
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.seeded import NOW, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    store = InMemoryStore(ManualClock(NOW))
    played = fill(store, root, NOW)
    return store, SearchService(store, artifact_root=root), played


def test_a_snapshot_holds_what_the_page_shows(filled):
    _, service, played = filled
    snapshot = SnapshotReader(service, played["succeeded"].id).read()
    assert snapshot.view == service.get(snapshot.search.id)
    assert {line.record.trial.number for line in snapshot.lines} == {
        record.trial.number for record in service.trials(snapshot.search.id)
    }
    assert snapshot.winner == service.winner_directory(snapshot.search.id)
    assert snapshot.parent.num_layers == 6
    assert snapshot.agreement
    assert snapshot.happened[0].text.startswith("succeeded")
    assert snapshot.search.importance.num_trials >= 8
    assert snapshot.line(3).record.trial.number == 3
    assert snapshot.line(None) is snapshot.line(999) is None


def test_what_did_not_change_is_not_worked_out_again(filled):
    store, service, played = filled
    reader = SnapshotReader(service, played["failed"].id)
    first = reader.read()
    assert reader.read() is first
    store.edit_search(played["failed"].id, Edit(owner="Ann"))
    assert reader.read().search.owner == "Ann"


def test_readers_are_shared_and_forgotten(filled):
    _, service, played = filled
    readers = SnapshotReaders(service)
    one = readers.of(played["running"].id)
    assert readers.of(played["running"].id) is one
    assert readers.of(played["failed"].id) is not one
    del one
    gc.collect()
    assert not readers._readers
