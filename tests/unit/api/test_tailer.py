"""The one reader of events: whatever interleaves, each follower gets each of its events once and in order."""

import asyncio
import threading
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.tailer import Tailer
from nas.edits import Edit
from nas.errors import StoreUnavailable
from nas.orders import Cancel
from nas.search import SearchState
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.searches import after, make_search

IDS = ("a", "b")


@dataclass
class Spied(InMemoryStore):
    """A store that counts reads of events, and may be away."""

    num_own_reads: int = 0
    """Of one search's events, which a follower asks for; the one reader asks for all."""
    is_away: bool = False

    def __post_init__(self):
        super().__init__()

    def events(self, **options):
        self.num_own_reads += options.get("search_id") is not None
        if self.is_away:
            raise StoreUnavailable("database: away")
        return super().events(**options)


@dataclass
class Bench:
    """A tailer that is small, so that every limit is met, over a store with two searches."""

    store: Spied = field(default_factory=Spied)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        for search_id in IDS:
            self.store.add_search(make_search(search_id))
        service = SearchService(self.store, artifact_root=Path("/nowhere"))
        self.tailer = Tailer(service, self.stopping, poll_seconds=0.001, events_per_read=3, most_queued=2)

    def write(self, search_id, text):
        """Say something of a search that has not ended, of which nobody follows more."""
        if self.store.get_search(search_id).state.is_final:
            return
        self.store.edit_search(search_id, Edit(notes=text))

    def end(self, search_id):
        if not self.store.get_search(search_id).state.is_final:
            self.store.give_order(search_id, Cancel(), at=after(1))

    def stored(self, search_id, cursor):
        return self.store.events(after=cursor, search_id=search_id, limit=10_000)


followers = st.tuples(st.sampled_from((*IDS, None)), st.integers(0, 2), st.integers(0, 3))
"""Whom to follow, after which of the two first events, and how many turns of the loop each event takes."""
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(IDS), st.integers(1, 5)),
        st.tuples(st.just("follow"), followers, st.just(0)),
        st.tuples(st.just("wait"), st.none(), st.integers(0, 6)),
        st.tuples(st.just("end"), st.sampled_from(IDS), st.just(1)),
    ),
    max_size=25,
)


async def until(condition):
    """Wait for something that no event of the loop tells."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def read(bench, whom, seen):
    search_id, cursor, pause = whom
    async with aclosing(bench.tailer.follow(cursor, search_id)) as events:
        async for event in events:
            seen.append(event)
            for _ in range(pause):
                await asyncio.sleep(0.0005)


async def play(bench, steps):
    """Do what the steps say; return who reads, what each has seen, and its task."""
    readers = []
    for number, (kind, what, count) in enumerate(steps):
        if kind == "follow":
            seen = []
            readers.append((what, seen, asyncio.create_task(read(bench, what, seen))))
        elif kind == "end":
            bench.end(what)
        for each in range(count):
            if kind == "write":
                bench.write(what, f"{number} {each}")
            else:
                await asyncio.sleep(0.0005)
    return readers


@given(steps=steps)
@settings(max_examples=60)
def test_each_follower_gets_each_event_once_and_in_order(steps):
    async def run():
        bench = Bench()
        readers = await play(bench, steps)
        for search_id in IDS:
            bench.end(search_id)
        for (search_id, cursor, _), seen, task in readers:
            wanted = bench.stored(search_id, cursor)
            await until(lambda task=task, seen=seen, wanted=wanted: task.done() or len(seen) >= len(wanted))
            if search_id is not None:
                await asyncio.wait_for(task, 20)
            assert seen == wanted
        bench.stopping.set()
        await asyncio.gather(*(task for *_, task in readers))

    asyncio.run(run())


def test_however_many_follow_a_change_is_read_once_for_all():
    async def run():
        bench = Bench()
        tasks = [asyncio.create_task(anext(bench.tailer.follow(2, "a"))) for _ in range(100)]
        await until(lambda: bench.store.num_own_reads == 100)  # each begins with the store
        bench.write("a", "x")
        assert {event.sequence for event in await asyncio.gather(*tasks)} == {3}
        assert bench.store.num_own_reads == 100
        bench.stopping.set()

    asyncio.run(run())


def test_a_reader_that_does_not_keep_up_costs_the_others_nothing():
    async def run():
        bench = Bench()
        slow = bench.tailer.follow(0, None)
        first = await anext(slow)
        fast = bench.tailer.follow(0, None)
        for number in range(50):
            bench.write("a", f"{number}")
        told = [await anext(fast) for _ in range(52)]
        assert told == bench.stored(None, 0)
        assert [first] + [await anext(slow) for _ in range(51)] == told
        await slow.aclose()
        await fast.aclose()
        assert not bench.tailer._followers

    asyncio.run(run())


def test_followers_end_when_the_store_is_away_and_begin_again_when_it_is_back():
    async def run():
        bench = Bench()
        events = bench.tailer.follow(2, "a")
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0.02)
        bench.store.is_away = True
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(StoreUnavailable):
            await anext(bench.tailer.follow(2, "a"))
        bench.store.is_away = False
        bench.write("a", "back")
        assert (await anext(bench.tailer.follow(2, "a"))).data["notes"] == "back"

    asyncio.run(run())


def test_a_search_that_goes_on_after_its_end_is_followed_to_its_last_end():
    """An end that was told before is none, if the search has moved since."""

    async def run():
        bench = Bench()
        lease = bench.store.claim("a", "runner", at=after(0), until=after(60))
        search = bench.store.get_search("a")
        for state in (SearchState.FAILED, SearchState.RUNNING):
            bench.store.save_search(replace(search, state=state), lease)
        events = bench.tailer.follow(0, "a")
        told = [await anext(events) for _ in range(3)]
        bench.store.save_search(replace(search, state=SearchState.SUCCEEDED), lease)
        told += [event async for event in events]
        assert told == bench.stored("a", 0)

    asyncio.run(run())


def test_a_watch_tells_once_of_all_that_happened_and_nothing_of_others():
    async def run():
        bench = Bench()
        async with bench.tailer.watching("a") as watch:
            for number in range(5):
                bench.write("a", f"{number}")
            assert await watch.changed()
            await until(lambda: bench.tailer._position == bench.store.last_sequence())
            if watch._follower.queue or watch._follower.is_behind:  # the rest of them came since
                assert await watch.changed()
            waiting = asyncio.create_task(watch.changed())
            bench.write("b", "not ours")
            await asyncio.sleep(0.05)
            assert not waiting.done()
            bench.write("a", "ours")
            assert await waiting
            bench.store.is_away = True
            assert not await watch.changed()

    asyncio.run(run())
