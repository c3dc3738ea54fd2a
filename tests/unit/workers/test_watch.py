"""A process knows that it must end, and leaves its search free for the next."""

import os
import signal
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from nas.clock import utc_now
from nas.errors import StoreUnavailable
from nas.orders import Kill, Orders
from nas.search import SearchState
from nas.storage.memory import InMemoryStore
from tests.fakes import END_OF_TIME, running_search, small_spec
from workers import watch as module
from workers.watch import Reason, Watch

LEASE_SECONDS = 0.6


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    return InMemoryStore()


@pytest.fixture
def make_watch(store):
    _, lease = running_search(store, small_spec(), utc_now)

    def make(at_renewal=lambda: None):
        return Watch(store, lease, lease_seconds=LEASE_SECONDS, at_renewal=at_renewal)

    return make


def _until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _claim(store, owner):
    now = utc_now()
    return store.claim("s1", owner, at=now, until=now + timedelta(seconds=60))


def test_the_lease_outlasts_its_term_and_is_free_afterwards(store, make_watch):
    renewals = []
    with make_watch(lambda: renewals.append(time.monotonic())) as watch:
        _until(lambda: len(renewals) > 8)
        assert renewals[-1] - renewals[0] > LEASE_SECONDS
        assert _claim(store, "another") is None
        assert not watch.must_stop()
    assert _claim(store, "another") is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_an_end(store, make_watch, number):
    handler = signal.getsignal(number)
    with make_watch() as watch:
        os.kill(os.getpid(), number)
        _until(watch.must_stop)
        assert watch.reason is Reason.TERMINATED
    assert signal.getsignal(number) is handler
    assert _claim(store, "another") is not None


def test_an_orphan_ends(make_watch, monkeypatch):
    with make_watch() as watch:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        _until(watch.must_stop)
    assert watch.reason is Reason.ORPHANED


def test_what_another_has_taken_is_left_to_it(store, make_watch):
    watch = make_watch()
    assert store.claim("s1", "another", at=END_OF_TIME, until=END_OF_TIME)
    with watch:
        _until(watch.must_stop)
    assert watch.reason is Reason.LOST_LEASE
    assert _claim(store, "a third") is None


def test_what_was_taken_away_is_not_taken_back_though_nobody_has_it(store, make_watch):
    watch = make_watch()
    store.give_order("s1", Kill(), at=utc_now())
    again = replace(store.get_search("s1"), state=SearchState.QUEUED, orders=Orders())
    store._records["s1"].search = again  # queued again for a promotion before this process hears of its end
    with watch:
        _until(watch.must_stop)
    assert watch.reason is Reason.LOST_LEASE
    assert store.unclaimed(utc_now()) == [again]


def test_a_database_that_is_away_for_a_moment_is_no_reason_to_end(store, make_watch):
    renew, outage = store.renew, threading.Event()

    def fail(*args, **kwargs):
        if outage.is_set():
            raise StoreUnavailable("away")
        return renew(*args, **kwargs)

    store.renew = fail
    with make_watch() as watch:
        outage.set()
        time.sleep(LEASE_SECONDS / 2)
        outage.clear()
        time.sleep(LEASE_SECONDS / 2)
        assert not watch.must_stop()
        outage.set()
        _until(watch.must_stop)
        assert watch.reason is Reason.LOST_LEASE
