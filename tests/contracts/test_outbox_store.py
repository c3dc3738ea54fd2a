"""What every OutboxStore guarantees, held against each implementation."""

import pytest

from nas.outbox import Backlog, RegisteredVersion, TrackedRun, target_of
from tests.searches import after, make_search

RUNS = (
    TrackedRun(search_id="search-1", run_id="r"),
    TrackedRun(search_id="search-1", trial_number=0, attempt_number=1, run_id="r01"),
    TrackedRun(search_id="search-1", trial_number=0, attempt_number=2, run_id="r02"),
    TrackedRun(search_id="search-2", run_id="s"),
)
VERSIONS = (
    RegisteredVersion(search_id="search-1", trial_number=0, name="m", version=2),
    RegisteredVersion(search_id="search-1", trial_number=3, name="m", version=10),
    RegisteredVersion(search_id="search-2", trial_number=0, name="m", version=4),
)


@pytest.fixture
def store(store):
    """A store with two searches, so with two events."""
    for number in (1, 2):
        store.add_search(make_search(f"search-{number}"))
    return store


def opened(store, outbox_id="a", *, owner="me", at=0, target="here"):
    return store.outboxes.open(
        outbox_id, target=target, experiment_id="7", owner=owner, at=after(at), until=after(at + 60)
    )


def advanced(store, outbox, cursor, runs=(), versions=(), *, owner="me", until=60):
    return store.outboxes.advance(outbox, cursor, runs, versions, owner=owner, until=after(until))


def test_a_new_outbox_has_all_before_it(store):
    outbox = opened(store)
    assert (outbox.cursor, outbox.experiment_id, outbox.target) == (0, "7", "here")
    assert store.outboxes.at("here") == outbox
    assert store.outboxes.at("there") is None
    first = store.events(limit=1)[0]
    assert store.outboxes.backlog(outbox) == Backlog(num_events=2, since=first.at)


def test_what_was_sent_stays_sent_and_shown(store):
    outbox = advanced(store, opened(store), 1, RUNS[:2])
    assert store.outboxes.at("here") == outbox
    assert opened(store) == outbox
    outbox = advanced(store, outbox, 2, RUNS[2:])
    assert store.outboxes.backlog(outbox) == Backlog(num_events=0, since=None)
    assert store.outboxes.runs("a", ["search-1"], attempts=True) == list(RUNS[:3])
    assert store.outboxes.runs("a", ["search-1", "search-2", "none"], attempts=False) == [RUNS[0], RUNS[3]]
    assert store.outboxes.runs("none", ["search-1"], attempts=True) == []


def test_a_run_takes_the_place_of_another_that_showed_the_same(store):
    outbox = advanced(store, opened(store), 1, RUNS)
    again = TrackedRun(search_id="search-1", trial_number=0, attempt_number=1, run_id="new")
    advanced(store, outbox, 1, [again])
    assert store.outboxes.runs("a", ["search-1"], attempts=True) == [RUNS[0], again, RUNS[2]]


def test_winners_are_versions_and_the_newest_is_last(store):
    outbox = advanced(store, opened(store), 1, (), VERSIONS)
    assert store.outboxes.versions("a", "search-1") == list(VERSIONS[:2])
    assert store.outboxes.versions("a", "none") == store.outboxes.versions("none", "search-1") == []
    again = RegisteredVersion(search_id="search-1", trial_number=0, name="other", version=11)
    advanced(store, outbox, 2, (), [again])
    assert store.outboxes.versions("a", "search-1") == [VERSIONS[1], again]
    assert store.outboxes.versions("a", "search-2") == [VERSIONS[2]]


def test_a_cursor_moves_from_where_it_is_and_not_otherwise(store):
    """Who was slow, or was told to send all again meanwhile, records nothing."""
    outbox = opened(store)
    assert advanced(store, outbox, 2) is not None
    assert advanced(store, outbox, 1, RUNS, VERSIONS) is None
    assert store.outboxes.at("here").cursor == 2
    assert store.outboxes.versions("a", "search-1") == []
    assert store.outboxes.runs("a", ["search-1"], attempts=True) == []
    store.outboxes.rewind("there")
    assert store.outboxes.at("here").cursor == 2
    store.outboxes.rewind("here")
    assert store.outboxes.at("here").cursor == 0


def test_one_sends_at_a_time(store):
    outbox = opened(store)
    assert opened(store, owner="other", at=59) is None
    assert opened(store, at=59) == outbox
    assert opened(store, owner="other", at=60) is None
    assert opened(store, owner="other", at=119) == outbox
    assert opened(store, at=120) is None


def test_a_turn_is_renewed_by_sending_and_ends_when_it_is_given_back(store):
    outbox = opened(store)
    advanced(store, outbox, 1, until=600)
    assert opened(store, owner="other", at=500) is None
    store.outboxes.release("a", "other")
    assert opened(store, owner="other", at=500) is None
    store.outboxes.release("a", "me")
    assert opened(store, owner="other", at=500).cursor == 1


def test_another_mlflow_at_the_same_place_is_told_from_the_beginning(store):
    outbox = advanced(store, opened(store), 2, RUNS, VERSIONS)
    elsewhere = opened(store, "b", target="there")
    new = opened(store, "c", owner="other")
    assert (new.id, new.cursor) == ("c", 0)
    assert store.outboxes.at("here") == new
    assert store.outboxes.at("there") == elsewhere
    assert store.outboxes.runs("a", ["search-1"], attempts=True) == []
    assert store.outboxes.versions("a", "search-1") == []
    assert advanced(store, outbox, 2) is None


def test_an_mlflow_that_has_moved_is_the_same(store):
    outbox = advanced(store, opened(store), 2, RUNS)
    moved = opened(store, target="there")
    assert (moved.id, moved.cursor) == (outbox.id, 2)
    assert store.outboxes.at("here") is None
    assert store.outboxes.runs("a", ["search-1"], attempts=True) == list(RUNS[:3])


def test_an_mlflow_is_known_by_its_file_and_machine_or_its_address_without_the_password():
    assert target_of("sqlite:////home/mlflow.db").endswith(":/home/mlflow.db")
    assert target_of("https://ann:secret@mlflow.example:5000/at") == "https://mlflow.example:5000/at"
    assert target_of("http://[::1]:5000") == "http://[::1]:5000"
    assert "secret" not in target_of("postgresql://ann:secret@db.example/mlflow")
