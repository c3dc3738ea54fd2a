"""The trials of a search under ``/api/v1``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field, TypeAdapter

from api.dependencies import PageToken, SearchId, Service, WhichTrials, page_size
from api.errors import problems
from api.paging import place_in, token_of
from api.schemas.trials import TrialPage, TrialRecordResource
from nas.listing import TrialOrder, TrialPlace, place_of
from nas.spec import dump

router = APIRouter(tags=["trials"])

PLACES: TypeAdapter[TrialPlace] = TypeAdapter(
    tuple[Annotated[float, Field(allow_inf_nan=False)] | None, Annotated[int, Field(ge=0, lt=2**31)]]
)
"""A page begins after a trial: its number as a database can hold it, its loss as one is stored."""


@router.get("/searches/{search_id}/trials", operation_id="list_trials", responses=problems(404, 422, 503))
def list_trials(
    *,
    service: Service,
    search_id: SearchId,
    which: WhichTrials,
    size: Annotated[int, Depends(page_size(100, 500))],
    order_by: Annotated[
        TrialOrder,
        Query(
            description="The loss is that of completed trials, all at the same tokens; trials without come "
            "last. A minus puts the greatest first."
        ),
    ] = TrialOrder.NUMBER,
    page_token: PageToken = None,
) -> TrialPage:
    """List trials of a search with their points, attempts and failures.

    By number, pages hold every trial once; by loss, a trial that completes meanwhile may be missed.
    """
    asked = {"list": f"trials of {search_id}", "order_by": order_by, **dump(which)}
    after = place_in(page_token, asked, PLACES) if page_token else None
    records = service.list_trials(search_id, which, order=order_by, after=after, limit=size + 1)
    links, budget = service.mlflow.of(search_id), service.search(search_id).budget
    return TrialPage(
        trials=[TrialRecordResource.of(record, links, budget) for record in records[:size]],
        next_page_token=token_of(place_of(records[size - 1].trial), asked) if len(records) > size else None,
    )
