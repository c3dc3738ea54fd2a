"""What searches found, under ``/api/v1``: fronts, curves, searches side by side, tables to take along."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api.authorisation import ID_PATTERN
from api.dependencies import SearchId, Service
from api.errors import problems
from api.schemas.history import FrontResource, PriorList, SeriesResource, SideBySideResource
from api.schemas.report import ReportResource
from api.tables import TABLE, Form, described, table
from nas.exports import POINT_COLUMNS, TRIAL_COLUMNS, Format
from nas.report_page import report_page
from nas.series import LEAST_POINTS, MOST_CURVES, MOST_POINTS
from nas.side_by_side import MOST_SEARCHES

router = APIRouter(tags=["results"])


@router.get("/compare", operation_id="compare_searches", responses=problems(404, 422, 503))
def compare_searches(
    service: Service,
    search: Annotated[
        list[Annotated[str, Query(pattern=ID_PATTERN)]],
        Query(min_length=1, max_length=MOST_SEARCHES, description="A search; may be given again."),
    ],
) -> SideBySideResource:
    """Compare searches: what was asked otherwise, what each found, and whether their losses may be compared."""
    return SideBySideResource.of(service.compare(search))


@router.get("/searches/{search_id}/front", operation_id="get_front", responses=problems(404, 422, 503))
def get_front(service: Service, search_id: SearchId) -> FrontResource:
    """Read the completed trials that no smaller or equal one beats."""
    return FrontResource.of(search_id, service.front(search_id))


@router.get("/searches/{search_id}/priors", operation_id="get_priors", responses=problems(404, 422, 503))
def get_priors(service: Service, search_id: SearchId) -> PriorList:
    """Read the earlier measurements that a search's proposals began from; none before that was settled."""
    return PriorList.model_validate({"search_id": search_id, "priors": service.priors(search_id)})


@router.get("/searches/{search_id}/series", operation_id="get_series", responses=problems(404, 422, 503))
def get_series(
    service: Service,
    search_id: SearchId,
    trial: Annotated[
        list[Annotated[int, Query(ge=0, lt=2**31)]] | None,
        Query(max_length=MOST_CURVES, description="Only these trials; else those that are furthest."),
    ] = None,
    max_points: Annotated[
        int,
        Query(
            ge=LEAST_POINTS, le=MOST_POINTS, description="Of each curve, its ends and extremes among them."
        ),
    ] = 200,
    max_trials: Annotated[int, Query(ge=1, le=MOST_CURVES, description="Where none are named.")] = 50,
) -> SeriesResource:
    """Read learning curves, down-sampled."""
    found = service.series(search_id, numbers=trial, max_points=max_points, max_trials=max_trials)
    return SeriesResource.model_validate(found)


@router.get(
    "/searches/{search_id}/report",
    operation_id="get_report",
    response_model=ReportResource,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **problems(404, 422, 503)},
)
def get_report(
    service: Service,
    search_id: SearchId,
    form: Annotated[
        Literal["json", "html"],
        Query(alias="format", description="`html` is one file that needs nothing else, of about 5 MB."),
    ] = "json",
) -> ReportResource | StreamingResponse:
    """Read what a search found, what it cost and what it teaches, as it stands; or take it along with its figures."""
    found = service.report(search_id)
    if form == "json":
        return ReportResource.model_validate(found)
    headers = {"Content-Disposition": f'inline; filename="report-{search_id}.html"'}
    return StreamingResponse(report_page(found), media_type="text/html; charset=utf-8", headers=headers)


@router.get(
    "/searches/{search_id}/export",
    operation_id="export_search",
    response_class=StreamingResponse,
    responses={**TABLE, **problems(404, 422, 503)},
    description="Take along the trials of a search or their points, as a table that is made while it is sent. "
    f"Columns of trials:\n\n{described(TRIAL_COLUMNS)}\n\nColumns of points:\n\n{described(POINT_COLUMNS)}",
)
def export_search(
    service: Service,
    search_id: SearchId,
    rows: Annotated[Literal["trials", "points"], Query(description="What has a row each.")] = "trials",
    form: Form = Format.CSV,
) -> StreamingResponse:
    """Answer with a table of trials or of points."""
    name = f"{rows}-{search_id}"
    if rows == "trials":
        return table(service.trial_rows(search_id), TRIAL_COLUMNS, form, name)
    return table(service.point_rows(search_id), POINT_COLUMNS, form, name)
