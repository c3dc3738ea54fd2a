"""A ledger is what is stored, read from memory and written through."""

from dataclasses import replace

import pytest

from nas.errors import LostLease
from nas.ledger import Ledger
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.trial import Failure, FailureKind, Point, Trial
from tests.fakes import EPOCH, ManualClock, running_search, small_spec, taken_over

CLOCK = ManualClock()
TRIAL = Trial(
    search_id="s1", number=0, architecture=search_space(small_spec()).smallest, created_at=EPOCH
).started(EPOCH)


@pytest.fixture
def store():
    return InMemoryStore(CLOCK)


@pytest.fixture
def ledger(store):
    _, lease = running_search(store, small_spec(), CLOCK)
    return Ledger(store, lease)


def reloaded(store):
    return Ledger(store, taken_over(store, CLOCK, owner="runner 2")[1])


def test_what_is_written_is_stored_and_found_by_the_next(store, ledger):
    ledger.save(TRIAL)
    ledger.add_point(0, Point(num_tokens=16, loss=2.0, at=EPOCH))
    ledger.open_attempt(TRIAL, "worker", EPOCH)
    other = reloaded(store)
    assert other.trials == ledger.trials == store.trials("s1") == [TRIAL]
    assert other.points == ledger.points == store.points("s1")
    assert other.losses == ledger.losses == {0: {16: 2.0}}
    assert other.open_attempts == ledger.open_attempts
    assert [attempt.worker for attempt in store.attempts("s1")] == ["worker"]


def test_the_first_point_at_its_tokens_stands(store, ledger):
    """As it does in the store; a worker that resumes measures again."""
    ledger.save(TRIAL)
    for loss in (2.0, 1.0):
        ledger.add_point(0, Point(num_tokens=16, loss=loss, at=EPOCH))
    assert ledger.losses == reloaded(store).losses == {0: {16: 2.0}}
    assert len(ledger.points) == 1


def test_an_attempt_is_closed_once(store, ledger):
    ledger.save(TRIAL)
    ledger.open_attempt(TRIAL, "worker", EPOCH)
    failure = Failure(kind=FailureKind.WORKER_LOST, message="worker died")
    ledger.close_attempt(0, EPOCH, failure)
    ledger.close_attempt(0, EPOCH)
    assert [attempt.failure for attempt in store.attempts("s1")] == [failure]
    assert reloaded(store).open_attempts == {}


def test_what_the_store_refuses_is_not_remembered(store, ledger):
    ledger.save(TRIAL)
    taken_over(store, CLOCK, owner="runner 2")
    with pytest.raises(LostLease):
        ledger.save(replace(TRIAL, rung=1))
    with pytest.raises(LostLease):
        ledger.add_point(0, Point(num_tokens=16, loss=2.0, at=EPOCH))
    assert ledger.trials == [TRIAL]
    assert ledger.points == []
