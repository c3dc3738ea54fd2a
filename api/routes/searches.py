"""Searches under ``/api/v1``: submit, list, read, edit, clone, read its log, take the winner home."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field, TypeAdapter

from api.archive import DirectoryArchive
from api.authorisation import ID_PATTERN
from api.dependencies import (
    Changes,
    Key,
    PageToken,
    Patch,
    Said,
    SearchId,
    Service,
    Spec,
    Versions,
    WhichSearches,
    Workspace,
    page_size,
)
from api.errors import problems
from api.paging import place_in, token_of
from api.schemas.estimates import EstimateResource
from api.schemas.searches import LogResource, SearchPage, SearchResource
from nas.clock import utc_now
from nas.listing import SearchOrder
from nas.search import Search
from nas.settings import DeviceFlops
from nas.spec import dump

router = APIRouter(tags=["searches"])

MAX_LOG_LINES = 10_000
PLACES: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(pattern=ID_PATTERN)])
"""A page begins after the search with an id."""
_TEXT = {"schema": {"type": "string"}}
CREATED: dict[int | str, Any] = {201: {"headers": {"Location": _TEXT, "ETag": _TEXT}}}
FOUND: dict[int | str, Any] = {200: {"headers": {"ETag": _TEXT}}}


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
        **CREATED,
        **problems(400, 413, 415, 422, 503, 507),
    },
)
def create_search(
    *,
    request: Request,
    response: Response,
    service: Service,
    spec: Spec,
    said: Said,
    key: Key,
    workspace: Workspace,
    validate_only: Annotated[bool, Query(description="Store nothing: say what it would cost.")] = False,
    device_flops: Annotated[
        DeviceFlops | None,
        Query(description="Operations a second of each process of a trial, for the hours."),
    ] = None,
) -> SearchResource | Response:
    """Submit a search, as JSON or YAML. Once this has answered, the search is stored and will be run."""
    if validate_only:
        found = EstimateResource.model_validate(service.plan(spec, flops_per_second=device_flops))
        return JSONResponse(found.model_dump(mode="json"))
    return _created(request, response, service, service.create(spec, said=said, key=key, workspace=workspace))


@router.get("/searches", operation_id="list_searches", responses=problems(404, 422, 503))
def list_searches(
    service: Service,
    which: WhichSearches,
    size: Annotated[int, Depends(page_size(50, 200))],
    order_by: Annotated[SearchOrder, Query(description="A minus puts the last first.")] = SearchOrder.NEWEST,
    page_token: PageToken = None,
) -> SearchPage:
    """List searches, by default the newest first. Pages stay right while searches are added."""
    asked = {"list": "searches", "order_by": order_by, **dump(which)}
    after = place_in(page_token, asked, PLACES) if page_token else None
    views = service.list_views(which, order=order_by, after=after, limit=size + 1)
    links = service.mlflow.of_searches([view.search.id for view in views[:size]])
    return SearchPage(
        searches=[SearchResource.of(view, mlflow_url=links.get(view.search.id)) for view in views[:size]],
        next_page_token=token_of(views[size - 1].search.id, asked) if len(views) > size else None,
    )


@router.get(
    "/searches/{search_id}", operation_id="get_search", responses={**FOUND, **problems(404, 422, 503)}
)
def get_search(response: Response, service: Service, search_id: SearchId) -> SearchResource:
    """Read a search, its best trial so far and how that compares with the baselines.

    The ETag is of what people say of it, not of what its workers find: an edit takes it as `If-Match`.
    """
    view = service.get(search_id)
    response.headers["ETag"] = f'"{view.search.version}"'
    return SearchResource.of(
        view,
        service.comparison(view.search),
        service.disk_bytes(search_id),
        mlflow_url=service.mlflow.of_searches((search_id,)).get(search_id),
        mlflow_behind_seconds=service.mlflow.behind_seconds(utc_now()),
        registered_model=service.mlflow.registered(search_id),
    )


@router.patch(
    "/searches/{search_id}",
    operation_id="edit_search",
    responses={**FOUND, **problems(400, 404, 412, 413, 415, 422, 503, 507)},
)
def edit_search(
    *, response: Response, service: Service, search_id: SearchId, edit: Changes, versions: Versions
) -> SearchResource:
    """Say whose a search is, tag it, note what was learnt, archive it: by a merge patch (RFC 7396), at any time."""
    service.edit(search_id, edit, versions=versions)
    return get_search(response, service, search_id)


@router.post(
    "/searches/{search_id}:clone",
    operation_id="clone_search",
    status_code=201,
    responses={**CREATED, **problems(400, 404, 413, 415, 422, 503, 507)},
)
def clone_search(
    *,
    request: Request,
    response: Response,
    service: Service,
    search_id: SearchId,
    patch: Patch,
    said: Said,
    key: Key,
    workspace: Workspace,
) -> SearchResource:
    """Submit a search like another: its spec, changed by a merge patch (RFC 7396) if the body is one."""
    made = service.clone(search_id, patch, said=said, key=key, workspace=workspace)
    return _created(request, response, service, made)


@router.get("/searches/{search_id}/logs", operation_id="get_log", responses=problems(404, 422, 503))
def get_log(
    service: Service,
    search_id: SearchId,
    tail: Annotated[int, Query(ge=1, le=MAX_LOG_LINES, description="At most so many lines.")] = 100,
) -> LogResource:
    """Read the end of the worker's log: of the file where the server sees it, else as a failure kept it."""
    return LogResource.model_validate(service.log(search_id, num_lines=tail))


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


def _created(request: Request, response: Response, service: Service, search: Search) -> SearchResource:
    """Answer with a search that was made, and say where it is."""
    response.headers["Location"] = str(request.url_for("get_search", search_id=search.id))
    return get_search(response, service, search.id)
