"""What happens, as server-sent events under ``/api/v1``: of one search to its end, or of all for ever."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.dependencies import Events, SearchId, Service, WholeService
from api.errors import problems
from api.identity import ASK_AGAIN_SECONDS, Identity, identity_of
from api.schemas.events import EventResource
from api.tailer import Tailer
from nas.errors import SearchError, StoreUnavailable
from nas.scoped import sees
from nas.service import SearchService

logger = logging.getLogger(__name__)
router = APIRouter(tags=["events"])

After = Annotated[
    int | Literal["now"],
    Query(
        description="Only events with a greater sequence; ``now`` gives only what happens from now on.",
        union_mode="left_to_right",
    ),
]
LastEventId = Annotated[
    int | None, Header(alias="Last-Event-ID", description="The id seen last; wins over ``after``.")
]


def cursor_of(service: Service, after: After = 0, last_event_id: LastEventId = None) -> int:
    """Return where to begin; before the stream does, so that a cursor that is none is a problem."""
    if last_event_id is not None:
        return service.event_cursor(last_event_id, "Last-Event-ID")
    return service.event_cursor(None if after == "now" else after, "after")


def known(service: Service, search_id: SearchId) -> str:
    """Return the id of a search; before the stream begins, so that an unknown one is a 404."""
    service.search(search_id)
    return search_id


Cursor = Annotated[int, Depends(cursor_of)]
KnownSearch = Annotated[str, Depends(known)]


@router.get(
    "/searches/{search_id}/events",
    operation_id="stream_events",
    response_class=EventSourceResponse,
    responses=problems(404, 422, 503),
)
async def stream_events(
    *, request: Request, service: WholeService, tailer: Events, search_id: KnownSearch, cursor: Cursor
) -> AsyncIterator[EventResource]:
    """Follow a search: all events from the beginning or after a cursor, until the search is final.

    A stream that ends earlier, because the server does, is gone on with by `Last-Event-ID`.
    """
    followed = _told(tailer, cursor, search_id)
    async for event in _seen(service, identity_of(request), followed):
        yield event  # type: ignore[misc]


@router.get(
    "/events",
    operation_id="stream_all_events",
    response_class=EventSourceResponse,
    responses=problems(422, 503),
)
async def stream_all_events(
    *, request: Request, service: WholeService, tailer: Events, cursor: Cursor
) -> AsyncIterator[EventResource]:
    """Follow all searches that you see: all events from the beginning or after a cursor, until the server ends.

    It is gone on with by `Last-Event-ID`.
    """
    followed = _told(tailer, cursor, None)
    async for event in _seen(service, identity_of(request), followed):
        yield event  # type: ignore[misc]


async def _seen(
    service: SearchService, identity: Identity, events: AsyncIterator[ServerSentEvent]
) -> AsyncIterator[ServerSentEvent]:
    """Yield what whoever follows may see, until they are nobody any more; that is asked again every few seconds."""
    principal, asked = identity.principal, time.monotonic()
    async for event in events:
        try:
            if time.monotonic() > asked + ASK_AGAIN_SECONDS:
                principal, asked = await run_in_threadpool(identity.present), time.monotonic()
            is_seen = principal.is_local or await run_in_threadpool(
                sees, service, principal, event.data.search_id
            )
        except SearchError as error:
            logger.info("a stream of events ends early: %s", error)
            return
        if is_seen:
            yield event


async def _told(tailer: Tailer, cursor: int, search_id: str | None) -> AsyncIterator[ServerSentEvent]:
    """Yield events after ``cursor``; of one search until it is final.

    Ends early when the server is to end or the database is away: the reader goes on later.
    """
    try:
        async with aclosing(tailer.follow(cursor, search_id)) as events:
            async for event in events:
                resource = EventResource.model_validate(event)
                yield ServerSentEvent(id=str(event.sequence), event=event.kind, data=resource)
    except StoreUnavailable as error:
        logger.warning("a stream of events ends early: %s", error)
