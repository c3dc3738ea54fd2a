"""What goes wrong, as ``application/problem+json`` (RFC 9457) with codes that never change.

One table turns the errors of the domain into statuses. Nothing else in this package catches them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.schemas.base import FieldProblem, Problem
from nas.errors import (
    Conflict,
    EmptySpace,
    Forbidden,
    HubUnavailable,
    InvalidEdit,
    InvalidOrder,
    InvalidPageToken,
    InvalidRequest,
    InvalidSpec,
    KeyReused,
    LastAdmin,
    LogUnavailable,
    NotFound,
    SearchError,
    StaleVersion,
    StoreFull,
    StoreUnavailable,
    Unauthenticated,
    UnknownAccount,
    UnknownCursor,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
CHALLENGE = 'Bearer realm="searches"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of error is told: a status, a code for programs and a title for people."""

    status: int
    code: str
    title: str


DOMAIN_ERRORS: dict[type[Exception], Kind] = {
    # The nearest base class of an error decides, so the order does not matter.
    EmptySpace: Kind(status=422, code="empty_space", title="No architecture fits the spec"),
    InvalidSpec: Kind(status=422, code="invalid_spec", title="The spec cannot be run"),
    InvalidEdit: Kind(status=422, code="invalid_edit", title="That cannot be said of a search"),
    InvalidOrder: Kind(status=422, code="invalid_order", title="That cannot be ordered of a search"),
    InvalidRequest: Kind(status=422, code="invalid_request", title="A parameter is not allowed"),
    InvalidPageToken: Kind(status=422, code="invalid_page_token", title="No page of this list"),
    UnknownCursor: Kind(status=422, code="unknown_cursor", title="No such event yet"),
    Unauthenticated: Kind(status=401, code="unauthenticated", title="No token that holds"),
    Forbidden: Kind(status=403, code="forbidden", title="Not allowed in this role"),
    UnknownAccount: Kind(status=404, code="not_found", title="No such workspace, member or token"),
    LastAdmin: Kind(status=409, code="last_admin", title="Somebody must manage the workspace"),
    KeyReused: Kind(status=422, code="idempotency_key_reused", title="The key belongs to another request"),
    NotFound: Kind(status=404, code="not_found", title="No such search"),
    LogUnavailable: Kind(status=404, code="log_unavailable", title="No log to read here"),
    Conflict: Kind(status=409, code="conflict", title="Not possible in the present state"),
    StaleVersion: Kind(status=412, code="stale_version", title="The search was edited meanwhile"),
    HubUnavailable: Kind(status=503, code="hub_unavailable", title="The Hugging Face hub does not answer"),
    StoreUnavailable: Kind(status=503, code="store_unavailable", title="The database does not answer"),
    # Not 503: what RFC 4918 says of 507, that it is not to be sent again unasked, is what helps here.
    StoreFull: Kind(status=507, code="store_full", title="The disk that holds the database is full"),
    SearchError: Kind(status=500, code="internal", title="The service failed"),
}

HTTP_CODES = {
    400: "malformed_body",
    404: "not_found",
    405: "method_not_allowed",
    415: "unsupported_media_type",
}
"""Codes of what is wrong with a request before it reaches the domain."""


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(SearchError, domain_problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(Exception, _unexpected_problem)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that can answer with these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def answer(
    request: Request,
    kind: Kind,
    detail: str,
    *,
    errors: Sequence[tuple[str, str]] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that tells a problem."""
    problem = Problem(
        type=f"urn:minitron-nas:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        code=kind.code,
        detail=detail,
        instance=request.url.path,
        errors=[FieldProblem(field=field, reason=reason) for field, reason in errors],
    )
    return JSONResponse(
        problem.model_dump(mode="json"), status_code=kind.status, headers=headers, media_type=MEDIA_TYPE
    )


def domain_problem(request: Request, error: Exception) -> JSONResponse:
    """Return the answer that tells an error of the domain."""
    kind = next(DOMAIN_ERRORS[base] for base in type(error).__mro__ if base in DOMAIN_ERRORS)
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    errors: Sequence[tuple[str, str]] = ()
    if isinstance(error, InvalidSpec | InvalidEdit | InvalidOrder):
        errors = error.problems
    elif isinstance(error, StaleVersion):
        errors = (("If-Match", error.reason),)
    elif isinstance(error, InvalidRequest):
        errors = ((error.field, error.reason),)
    return answer(request, kind, str(error), errors=errors, headers=_headers(kind.status))


def _headers(status: int) -> dict[str, str] | None:
    """Return what a refusal says beside its problem."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(RETRY_SECONDS)}
    return {"WWW-Authenticate": CHALLENGE} if status == HTTPStatus.UNAUTHORIZED else None


def _http_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = HTTP_CODES.get(status, status.name.lower())
    detail = error.detail
    if detail == status.phrase:
        detail = f"{request.method} {request.url.path}: {status.phrase.lower()}"
    kind = Kind(status=status, code=code, title=status.phrase)
    return answer(request, kind, detail, headers=dict(error.headers or {}))


def _validation_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [(".".join(str(part) for part in found["loc"][1:]), found["msg"]) for found in error.errors()]
    detail = "; ".join(f"{field}: {reason}" for field, reason in errors)
    return answer(request, DOMAIN_ERRORS[InvalidRequest], detail, errors=errors)


def _unexpected_problem(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises the error again after this answer, so the server logs it with its traceback.
    kind = Kind(status=500, code="internal", title="The service failed")
    return answer(request, kind, f"unexpected {type(error).__name__}; the server's log has the traceback")
