"""Searches under way, under ``/api/v1``: pause, resume, extend, enqueue, stop or promote a trial, cancel, kill; logs."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from api.dependencies import SPEC_TYPES, Body, SearchId, Service, text_of
from api.errors import problems
from api.schemas.control import LogRangeResource
from api.schemas.searches import SearchResource
from nas.control import parse_limits, parse_sizes, read_order
from nas.edits import MAX_OWNER_LENGTH
from nas.log_ranges import DEFAULT_BYTES, MAX_BYTES, MAX_OFFSET
from nas.orders import Extend

router = APIRouter(tags=["control"])
MOST_NUMBER = 2**31 - 1


def asker(
    by: Annotated[
        str,
        Query(
            max_length=MAX_OWNER_LENGTH,
            pattern=r"^[^\x00-\x1f\x7f]*$",
            description="Who wants it, in people's words; told with the event of the order.",
        ),
    ] = "",
) -> str:
    """Return who gives an order."""
    return by


def ordered_limits(request: Request, body: Body) -> Extend:
    """Return the limits in the body."""
    return parse_limits(_content(request, body))


def ordered_sizes(request: Request, body: Body) -> dict[str, int]:
    """Return the sizes in the body."""
    return parse_sizes(_content(request, body))


def ordered_promotion(request: Request, body: Body) -> Any:
    """Return the changes in the body to how the spec promotes; without a body, none."""
    return _content(request, body)


def _content(request: Request, body: bytes) -> Any:
    return read_order(text_of(request, body, SPEC_TYPES)) if body else {}


By = Annotated[str, Depends(asker)]
TrialNumber = Annotated[int, Path(ge=0, le=MOST_NUMBER, description="Counted from 0 within its search.")]
AttemptNumber = Annotated[int, Path(ge=1, le=MOST_NUMBER, description="Counted from 1 within its trial.")]
Offset = Annotated[
    int, Query(ge=0, le=MAX_OFFSET, description="The first byte; ``next_offset`` of the part before.")
]
Limit = Annotated[int, Query(ge=1, le=MAX_BYTES, description="At most so many bytes.")]
ORDERED = problems(404, 409, 422, 503, 507)
ORDERED_WITH_BODY = problems(400, 404, 409, 413, 415, 422, 503, 507)


def _answer(service: Service, search_id: str) -> SearchResource:
    links = service.mlflow.of_searches((search_id,))
    return SearchResource.of(service.get(search_id), mlflow_url=links.get(search_id))


@router.post("/searches/{search_id}:pause", operation_id="pause_search", responses=ORDERED)
def pause_search(service: Service, search_id: SearchId, by: By) -> SearchResource:
    """Give back what a search uses and leave it alone. What is done is kept; it ends as if it had never been paused."""
    service.control.pause(search_id, by=by)
    return _answer(service, search_id)


@router.post("/searches/{search_id}:resume", operation_id="resume_search", responses=ORDERED)
def resume_search(service: Service, search_id: SearchId, by: By) -> SearchResource:
    """Queue a paused search again; its trials go on from their last checkpoints."""
    service.control.resume(search_id, by=by)
    return _answer(service, search_id)


@router.post("/searches/{search_id}:cancel", operation_id="cancel_search", responses=ORDERED)
def cancel_search(service: Service, search_id: SearchId, by: By) -> SearchResource:
    """Ask for the end of a search. Its workers stop within seconds; what is measured is kept."""
    service.control.cancel(search_id, by=by)
    return _answer(service, search_id)


@router.post("/searches/{search_id}:kill", operation_id="kill_search", responses=ORDERED)
def kill_search(service: Service, search_id: SearchId, by: By) -> SearchResource:
    """End a search now. It is CANCELLED when this answers; what its workers still report is dropped.

    `:cancel` ends it in order: what runs may report first.
    """
    service.control.kill(search_id, by=by)
    return _answer(service, search_id)


@router.post("/searches/{search_id}:extend", operation_id="extend_search", responses=ORDERED_WITH_BODY)
def extend_search(
    service: Service, search_id: SearchId, limits: Annotated[Extend, Depends(ordered_limits)], by: By
) -> SearchResource:
    """Let a search try more or fewer architectures, or more or fewer at a time. Its spec stays as it was asked."""
    service.control.extend(search_id, limits, by=by)
    return _answer(service, search_id)


@router.post(
    "/searches/{search_id}:enqueue", operation_id="enqueue_architecture", responses=ORDERED_WITH_BODY
)
def enqueue_architecture(
    service: Service, search_id: SearchId, sizes: Annotated[dict[str, int], Depends(ordered_sizes)], by: By
) -> SearchResource:
    """Have an architecture tried before the next proposal, in its place; after the last proposal it is one more."""
    service.control.enqueue(search_id, sizes, by=by)
    return _answer(service, search_id)


@router.post("/searches/{search_id}/trials/{trial_number}:stop", operation_id="stop_trial", responses=ORDERED)
def stop_trial(service: Service, search_id: SearchId, trial_number: TrialNumber, by: By) -> SearchResource:
    """End one trial, wherever it stands: it becomes CANCELLED, and the search goes on without it."""
    service.control.stop_trial(search_id, trial_number, by=by)
    return _answer(service, search_id)


@router.post(
    "/searches/{search_id}/trials/{trial_number}:promote",
    operation_id="promote_trial",
    responses=ORDERED_WITH_BODY,
)
def promote_trial(
    *,
    service: Service,
    search_id: SearchId,
    trial_number: TrialNumber,
    promotion: Annotated[Any, Depends(ordered_promotion)],
    by: By,
) -> SearchResource:
    """Have the student of a completed trial retrained for longer, as the spec says, changed by a merge patch in the body.

    Where the spec says nothing of it, the recipe of its trials is changed, and the body must say for how many tokens. A
    search that is over is queued again for that, and ends as it had ended, perhaps with another winner.
    """
    service.control.promote(search_id, trial_number, promotion, by=by)
    return _answer(service, search_id)


@router.get(
    "/searches/{search_id}/trials/{trial_number}/attempts/{attempt_number}/log",
    operation_id="read_attempt_log",
    responses=problems(404, 422, 503),
)
def read_attempt_log(
    *,
    service: Service,
    search_id: SearchId,
    trial_number: TrialNumber,
    attempt_number: AttemptNumber,
    offset: Offset = 0,
    limit: Limit = DEFAULT_BYTES,
) -> LogRangeResource:
    """Read a part of what one attempt logged and printed: where it began, points, checkpoints, warnings, traceback."""
    found = service.log_ranges.of_attempt(search_id, trial_number, attempt_number, offset=offset, limit=limit)
    return LogRangeResource.model_validate(found)


@router.get("/searches/{search_id}/log", operation_id="read_search_log", responses=problems(404, 422, 503))
def read_search_log(
    service: Service, search_id: SearchId, offset: Offset = 0, limit: Limit = DEFAULT_BYTES
) -> LogRangeResource:
    """Read a part of the worker's log; `logs` answers with its end."""
    return LogRangeResource.model_validate(
        service.log_ranges.of_search(search_id, offset=offset, limit=limit)
    )
