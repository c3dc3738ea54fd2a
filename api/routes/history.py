"""What was ever measured, over all searches, under ``/api/v1``."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from api.authorisation import ID_PATTERN
from api.dependencies import NO_NUL, PageToken, Service, Time, WhichSearches, page_size
from api.errors import problems
from api.paging import place_in, token_of
from api.schemas.history import HistoryPage, MeasuredResource, ParentList, ParentResource
from api.tables import TABLE, Form, described, table
from nas.axes import AXIS_NAMES, AxisName
from nas.exports import HISTORY_COLUMNS, Format
from nas.history import Between, HistoryFilter, HistoryOrder, Place
from nas.spec import dump

router = APIRouter(tags=["history"])

PLACES: TypeAdapter[Place] = TypeAdapter(
    tuple[Annotated[str, Query(pattern=ID_PATTERN)], Annotated[int, Query(ge=0, lt=2**31)]]
)
"""A page begins after the measurement of a trial."""
KEY_PATTERN = "^[0-9a-f]{32}$"
AXIS_PATTERN = rf"^({'|'.join(AXIS_NAMES)}):[0-9]{{0,18}}\.\.[0-9]{{0,18}}$"
Size = Annotated[int | None, Query(ge=0, lt=2**63)]
Axes = Annotated[
    list[Annotated[str, Query(pattern=AXIS_PATTERN)]] | None,
    Query(
        max_length=2 * len(AXIS_NAMES),
        description="Sizes on an axis, both ends included and either left out: `num_layers:4..6`, `hidden_size:..512`.",
    ),
]


def _key(of: str) -> object:
    return Query(pattern=KEY_PATTERN, description=f"Only measurements with the same {of}.")


def history_filter(
    *,
    searches: WhichSearches,
    search: Annotated[str | None, Query(pattern=ID_PATTERN, description="Only those of this search.")] = None,
    parent_key: Annotated[str | None, _key("parent")] = None,
    data_key: Annotated[str | None, _key("data")] = None,
    recipe_key: Annotated[str | None, _key("recipe")] = None,
    reuse_key: Annotated[str | None, _key("parent, data and recipe by content")] = None,
    architecture: Annotated[
        str | None, Query(max_length=200, pattern=NO_NUL, description="The whole name of a shape.")
    ] = None,
    axis: Axes = None,
    min_parameters: Size = None,
    max_parameters: Size = None,
    max_loss: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    measured_after: Annotated[Time | None, Query(description="At this time or later.")] = None,
    measured_before: Annotated[Time | None, Query(description="Before this time.")] = None,
    partial: Annotated[
        Literal["false", "true", "any"],
        Query(description="Whether those are asked for that ended before their last rung, at fewer tokens."),
    ] = "any",
) -> HistoryFilter:
    """Return which measurements are asked for."""
    return HistoryFilter(
        searches=searches,
        search_id=search,
        parent_key=parent_key,
        data_key=data_key,
        recipe_key=recipe_key,
        reuse_key=reuse_key,
        architecture=architecture,
        axes=tuple(between(each) for each in axis or ()),
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        max_loss=max_loss,
        after=measured_after,
        before=measured_before,
        partial=None if partial == "any" else partial == "true",
    )


Which = Annotated[HistoryFilter, Depends(history_filter)]
OrderBy = Annotated[HistoryOrder, Query(description="A minus puts the greatest first.")]


@router.get("/history", operation_id="list_history", responses=problems(404, 422, 503))
def list_history(
    service: Service,
    which: Which,
    size: Annotated[int, Depends(page_size(50, 500))],
    order_by: OrderBy = HistoryOrder.NEWEST,
    page_token: PageToken = None,
) -> HistoryPage:
    """List what trials came to, over all searches. Pages stay right while more is measured.

    Losses compare where parent, data and tokens are the same.
    """
    asked = {"list": "history", "order_by": order_by, **dump(which)}
    after = place_in(page_token, asked, PLACES) if page_token else None
    entries = service.list_measurements(which, order=order_by, after=after, limit=size + 1)
    return HistoryPage(
        measurements=[MeasuredResource.of(entry) for entry in entries[:size]],
        next_page_token=token_of(entries[size - 1].measured.place, asked) if len(entries) > size else None,
    )


@router.get("/history/parents", operation_id="list_parents", responses=problems(422, 503))
def list_parents(
    service: Service, which: WhichSearches, size: Annotated[int, Depends(page_size(50, 200))]
) -> ParentList:
    """List the parents that students were measured of, that of the latest measurement first."""
    parents = service.list_parents(which, limit=size + 1)
    return ParentList(
        parents=[ParentResource.model_validate(each) for each in parents[:size]],
        is_whole=len(parents) <= size,
    )


@router.get(
    "/history/export",
    operation_id="export_history",
    response_class=StreamingResponse,
    responses={**TABLE, **problems(422, 503)},
    description="Take along what was measured, as a table that is made while it is sent. Its columns:\n\n"
    + described(HISTORY_COLUMNS),
)
def export_history(
    service: Service, which: Which, form: Form = Format.CSV, order_by: OrderBy = HistoryOrder.OLDEST
) -> StreamingResponse:
    """Answer with a table of measurements."""
    return table(service.history_rows(which, order=order_by), HISTORY_COLUMNS, form, "history")


def between(text: str) -> tuple[AxisName, Between]:
    """Return an axis and the sizes on it, as ``AXIS_PATTERN`` has them."""
    name, least, most = re.split(r":|\.\.", text)
    sizes = Between(least=int(least) if least else None, most=int(most) if most else None)
    return next(each for each in AXIS_NAMES if each == name), sizes
