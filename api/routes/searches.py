"""Searches under ``/api/v1``: submit, list, read, cancel, follow, take the winner home."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.archive import DirectoryArchive
from api.dependencies import SearchId, Service, Spec, Stopping
from api.errors import problems
from api.schemas import (
    EstimateResource,
    EventResource,
    SearchPage,
    SearchResource,
    TrialList,
    TrialRecordResource,
)
from nas.leaderboard import comparison_of
from nas.search import SearchState

router = APIRouter(tags=["searches"])

MAX_PAGE_SIZE = 200
EVENTS_PER_READ = 500
POLL_SECONDS = 0.5


@router.post(
    "/searches",
    operation_id="create_search",
    status_code=201,
    response_model=SearchResource,
    responses={
        200: {
            "model": EstimateResource,
            "description": "What the search would cost; `validate_only` was set.",
        },
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problems(400, 413, 415, 422, 503),
    },
)
def create_search(
    *,
    request: Request,
    response: Response,
    service: Service,
    spec: Spec,
    validate_only: Annotated[bool, Query(description="Store nothing: say what it would cost.")] = False,
    device_flops: Annotated[
        float | None, Query(gt=0, description="Operations a second of a trial's resources, for the hours.")
    ] = None,
) -> SearchResource | Response:
    """Submit a search, as JSON or YAML. Once this has answered, the search is stored and will be run."""
    if validate_only:
        found = EstimateResource.model_validate(service.plan(spec, flops_per_second=device_flops))
        return JSONResponse(found.model_dump(mode="json"))
    search = service.create(spec)
    response.headers["Location"] = str(request.url_for("get_search", search_id=search.id))
    return SearchResource.of(service.get(search.id))


@router.get("/searches", operation_id="list_searches", responses=problems(422, 503))
def list_searches(
    service: Service,
    state: Annotated[list[SearchState] | None, Query(description="Only searches in these states.")] = None,
    page_size: Annotated[int, Query(ge=1, description=f"At most {MAX_PAGE_SIZE} are given.")] = 50,
    page_token: Annotated[int, Query(ge=0, description="``next_page_token`` of the page before.")] = 0,
) -> SearchPage:
    """List searches, newest first."""
    size = min(page_size, MAX_PAGE_SIZE)
    views = service.list_views(states=state, limit=size + 1, offset=page_token)
    return SearchPage(
        searches=[SearchResource.of(view) for view in views[:size]],
        next_page_token=str(page_token + size) if len(views) > size else None,
    )


@router.get("/searches/{search_id}", operation_id="get_search", responses=problems(404, 422, 503))
def get_search(service: Service, search_id: SearchId) -> SearchResource:
    """Read a search, its best trial so far and how that compares with the baselines."""
    view = service.get(search_id)
    return SearchResource.of(view, comparison_of(view.search, service.trials(search_id)))


@router.get("/searches/{search_id}/trials", operation_id="list_trials", responses=problems(404, 422, 503))
def list_trials(service: Service, search_id: SearchId) -> TrialList:
    """List all trials of a search with their points, attempts and failures."""
    return TrialList(trials=[TrialRecordResource.of(record) for record in service.trials(search_id)])


@router.post(
    "/searches/{search_id}:cancel", operation_id="cancel_search", responses=problems(404, 409, 422, 503)
)
def cancel_search(service: Service, search_id: SearchId) -> SearchResource:
    """Ask for the end of a search. Its workers stop within seconds; what is measured is kept."""
    service.cancel(search_id)
    return SearchResource.of(service.get(search_id))


def _cursor(
    service: Service,
    search_id: SearchId,
    after: Annotated[int, Query(ge=0, description="Only events with a greater sequence.")] = 0,
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, description="As ``after``; wins over it.")
    ] = None,
) -> int:
    """Return where to begin; before the stream does, so that an unknown search is a 404."""
    service.get(search_id)
    return after if last_event_id is None else last_event_id


@router.get(
    "/searches/{search_id}/events",
    operation_id="stream_events",
    response_class=EventSourceResponse,
    responses=problems(404, 422, 503),
)
async def stream_events(
    service: Service, stopping: Stopping, search_id: SearchId, cursor: Annotated[int, Depends(_cursor)]
) -> AsyncIterator[EventResource]:
    """Follow a search: all events from the beginning or after a cursor, until the search is final.

    A stream that ends earlier, because the server does, is gone on with by `Last-Event-ID`.
    """
    is_final = False
    while not stopping.is_set():
        events = await run_in_threadpool(
            service.events, after=cursor, search_id=search_id, limit=EVENTS_PER_READ
        )
        for event in events:
            cursor = event.sequence
            resource = EventResource.model_validate(event)
            yield ServerSentEvent(id=str(cursor), event=event.kind, data=resource)  # type: ignore[misc]
        if events:
            continue
        if is_final:
            return
        # Once it is final, one more read sends what was committed together with its end.
        is_final = (await run_in_threadpool(service.get, search_id)).search.state.is_final
        if not is_final:
            await asyncio.sleep(POLL_SECONDS)


@router.get(
    "/searches/{search_id}/winner",
    operation_id="download_winner",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {}}}, **problems(404, 409, 422, 503)},
)
def download_winner(service: Service, search_id: SearchId) -> StreamingResponse:
    """Download the winner's checkpoint directory as a tar archive."""
    archive = DirectoryArchive(service.winner_directory(search_id), f"winner-{search_id}")
    headers = {
        "Content-Disposition": f'attachment; filename="winner-{search_id}.tar"',
        "Content-Length": str(archive.num_bytes),
    }
    return StreamingResponse(archive, media_type="application/x-tar", headers=headers)
