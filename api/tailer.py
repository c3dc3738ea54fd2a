"""One reader of what happens, for all who follow it: streams of events, and pages that show what is stored.

Each process polls the store once, however many follow. A follower begins with the store, hands over to what the one
reader brings, and falls back to the store when it is slower than that; it misses nothing and gets nothing twice. Knows
no HTTP and no page.
"""

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from nas.errors import StoreUnavailable
from nas.search import Event, SearchState
from nas.service import SearchService

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.3
EVENTS_PER_READ = 500
MOST_QUEUED = 1000
"""Events that a follower may be behind before it goes on from the store."""
FINAL = frozenset(state.value for state in SearchState if state.is_final)


@dataclass(eq=False, slots=True)
class _Follower:
    """Where the one reader puts what a follower waits for."""

    most_queued: int
    queue: deque[Event] = field(default_factory=deque)
    is_behind: bool = False
    """More came than it may be behind; nothing is put here any more."""
    is_over: bool = False
    """The one reader has ended: the store is away, or the server is to end."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: Event) -> None:
        if len(self.queue) >= self.most_queued:
            self.is_behind = True
            self.queue.clear()
        elif not self.is_behind:
            self.queue.append(event)
        self.woken.set()

    def end(self) -> None:
        self.is_over = True
        self.woken.set()

    async def next(self) -> Event | None:
        """Return the next event, once there is one; None when no more will come."""
        while not (self.queue or self.is_behind or self.is_over):
            self.woken.clear()
            await self.woken.wait()
        return self.queue.popleft() if self.queue else None


class Watch:
    """Says when something happened; what happened is read from the store."""

    def __init__(self, follower: _Follower) -> None:
        self._follower = follower

    async def changed(self) -> bool:
        """Wait until something has happened since this was asked last; False when no more will be told."""
        while not (self._follower.is_over or self._follower.queue or self._follower.is_behind):
            self._follower.woken.clear()
            await self._follower.woken.wait()
        self._follower.queue.clear()
        self._follower.is_behind = False
        return not self._follower.is_over


class Tailer:
    """The one reader of an application; it reads while anybody follows, on the loop of those who do.

    Args:
        service: What is read.
        stopping: Set once the server is to end; followers are told so.
    """

    def __init__(
        self,
        service: SearchService,
        stopping: threading.Event,
        *,
        poll_seconds: float = POLL_SECONDS,
        events_per_read: int = EVENTS_PER_READ,
        most_queued: int = MOST_QUEUED,
    ) -> None:
        self._service = service
        self._stopping = stopping
        self._poll_seconds = poll_seconds
        self._events_per_read = events_per_read
        self._most_queued = most_queued
        self._followers: defaultdict[str | None, set[_Follower]] = defaultdict(set)
        """By the search that they follow; None follows all."""
        self._position = 0
        """Sequence of the last event that was handed on."""
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def follow(self, after: int, search_id: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield events after a cursor: of one search until it is final, or of all until the server ends.

        Raises:
            StoreUnavailable: The store is away as it is read; also told by an early end.
        """
        while not self._stopping.is_set():
            # Whoever follows first and reads then finds all of before in the store, and what comes after here.
            async with self._following(search_id, self._most_queued) as follower:
                is_final = search_id is not None and await self._is_final(search_id)
                async for event in self._stored(after, search_id):
                    after, is_final = event.sequence, _is_final_after(event, search_id, is_final)
                    yield event
                while not is_final and (told := await follower.next()) is not None:
                    if told.sequence > after:
                        after, is_final = told.sequence, _is_final_after(told, search_id, is_final)
                        yield told
                if is_final:  # what was committed together with its end
                    async for event in self._stored(after, search_id):
                        yield event
                    return
                if follower.is_over:
                    return

    @asynccontextmanager
    async def watching(self, search_id: str | None = None) -> AsyncIterator[Watch]:
        """Give what tells of changes to one search, or to any: of all that are committed from now on.

        Raises:
            StoreUnavailable: The store is away.
        """
        async with self._following(search_id, 1) as follower:
            yield Watch(follower)

    @asynccontextmanager
    async def _following(self, search_id: str | None, most_queued: int) -> AsyncIterator[_Follower]:
        follower = _Follower(most_queued)
        async with self._starting:
            if self._task is None or self._task.done():
                self._position = await run_in_threadpool(self._service.event_cursor, None, "after")
                self._task = asyncio.create_task(self._read(), name="tailer")
            self._followers[search_id].add(follower)
        try:
            yield follower
        finally:
            self._followers[search_id].discard(follower)
            if not self._followers[search_id]:
                del self._followers[search_id]

    async def _stored(self, after: int, search_id: str | None) -> AsyncIterator[Event]:
        """Yield what is stored after a cursor, a page at a time."""
        while True:
            events = await run_in_threadpool(
                self._service.events, after=after, search_id=search_id, limit=self._events_per_read
            )
            for event in events:
                yield event
            if len(events) < self._events_per_read or self._stopping.is_set():
                return
            after = events[-1].sequence

    async def _is_final(self, search_id: str) -> bool:
        return (await run_in_threadpool(self._service.search, search_id)).state.is_final

    async def _read(self) -> None:
        """Hand on what happens while anybody follows."""
        try:
            while self._followers and not self._stopping.is_set():
                events = await run_in_threadpool(
                    self._service.events, after=self._position, limit=self._events_per_read
                )
                for event in events:
                    self._hand_on(event)
                if len(events) < self._events_per_read:
                    await asyncio.sleep(self._poll_seconds)
        except StoreUnavailable as error:
            logger.warning("streams of events end early: %s", error)
        finally:
            for followers in self._followers.values():
                for follower in followers:
                    follower.end()

    def _hand_on(self, event: Event) -> None:
        self._position = event.sequence
        for key in (event.search_id, None):
            for follower in self._followers.get(key, ()):
                follower.put(event)


def _is_final_after(event: Event, search_id: str | None, is_final: bool) -> bool:
    """Return whether the search that is followed is final after an event."""
    return is_final if search_id is None or event.kind != "search" else event.data["state"] in FINAL
