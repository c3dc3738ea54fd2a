"""What handlers are given: the service, and what a request's headers, parameters and body say."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Header, HTTPException, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator

from api.authorisation import ID_PATTERN
from api.identity import identity_of
from api.metrics import Metrics
from api.tailer import Tailer
from nas.accounts import WORKSPACE_PATTERN, Principal
from nas.edits import MAX_OWNER_LENGTH, MAX_TAG_LENGTH, MAX_TAGS, Edit, read_edit
from nas.errors import InvalidRequest
from nas.listing import SearchFilter, TrialFilter
from nas.scoped import scoped
from nas.search import SearchSpec, SearchState
from nas.service import SearchService
from nas.spec import parse_spec
from nas.storage.store import RequestKey
from nas.text import read_text
from nas.trial import TrialRole, TrialState

SPEC_TYPES = ("application/json", "application/yaml")
"""What a spec may be sent as; as in files, either text is read by the same parser."""
PATCH_TYPES = ("application/merge-patch+json", *SPEC_TYPES)
_ETAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
NO_NUL = "^[^\\x00]*$"
"""No database holds the character NUL in a text."""


def service_of(request: Request) -> SearchService:
    """Return the service that the application was made with, to whoever may everything."""
    service: SearchService = request.app.state.service
    return service


def principal_of(request: Request) -> Principal:
    """Return who asks."""
    return identity_of(request).principal


def service_for(request: Request) -> SearchService:
    """Return the service as whoever asks may use it."""
    principal, service = principal_of(request), service_of(request)
    return service if principal.is_local else scoped(service, lambda: principal)


def workspace_asked(
    workspace: Annotated[
        str | None,
        Query(
            pattern=WORKSPACE_PATTERN,
            description="Whose members shall see the search; by default those of your only workspace, else of "
            "`default`; of a clone those of the other search.",
        ),
    ] = None,
) -> str | None:
    """Return the workspace that a search is submitted to."""
    return workspace


def metrics_of(request: Request) -> Metrics:
    """Return the numbers of the application."""
    metrics: Metrics = request.app.state.metrics
    return metrics


def tailer_of(request: Request) -> Tailer:
    """Return the one reader of what happens."""
    tailer: Tailer = request.app.state.tailer
    return tailer


async def whole_body(request: Request) -> bytes:
    """Return the body, whose length ``api.guard`` bounds."""
    return await request.body()


Body = Annotated[bytes, Depends(whole_body)]


def submitted_spec(request: Request, body: Body) -> SearchSpec:
    """Return the spec in the body."""
    return parse_spec(text_of(request, body, SPEC_TYPES))


def submitted_patch(request: Request, body: Body) -> Any:
    """Return the merge patch (RFC 7396) in the body; without a body, the one that changes nothing."""
    return read_text(text_of(request, body, PATCH_TYPES)) if body else {}


def submitted_edit(request: Request, body: Body) -> Edit:
    """Return the edit that the body is a merge patch for; without a body, the one that changes nothing."""
    return read_edit(text_of(request, body, PATCH_TYPES)) if body else Edit()


def edited_versions(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The ETag that was read: an edit of what somebody else has edited meanwhile is refused. "
            "Without it, or with `*`, the last edit of a field wins.",
        ),
    ] = None,
) -> frozenset[int] | None:
    """Return the versions that an edit may be of; None means any."""
    if if_match is None or if_match.strip() == "*":
        return None
    if not re.fullmatch(rf"\s*{_ETAG}(\s*,\s*{_ETAG})*\s*", if_match):
        raise InvalidRequest("If-Match", f'found {if_match!r}, allowed: the ETag of the search, as "0", or *')
    # Ours are small numbers; any other is an ETag too, of nothing here. Weak ones never match.
    return frozenset(int(each) for each in re.findall(r'(?<!W/)"(0|[1-9][0-9]{0,17})"', if_match))


def said_at_first(
    owner: Annotated[str | None, Query(description="Whose the search is, in people's words.")] = None,
    tag: Annotated[list[str] | None, Query(description="A word to find it by; may be given again.")] = None,
) -> Edit:
    """Return what is said of a search that is submitted."""
    return Edit(owner=owner, tags=None if tag is None else tuple(tag))


def text_of(request: Request, body: bytes, allowed: tuple[str, ...]) -> str:
    """Return a body as text, if it is said to be of an allowed type."""
    # One of the types must be named: a web page elsewhere cannot make a browser send it unasked.
    media_type = request.headers.get("content-type", "none").partition(";")[0].strip().lower()
    if media_type not in allowed:
        raise HTTPException(415, f"Content-Type: found {media_type}, allowed: {', '.join(allowed)}")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "body: found bytes that are not UTF-8, allowed: JSON or YAML") from None


def request_key(
    request: Request,
    body: Body,
    said: Annotated[Edit, Depends(said_at_first)],
    workspace: Annotated[str | None, Depends(workspace_asked)],
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern='^("[!#-~]{1,255}"|[!#-~]{1,255})$',
            description="Any text that the sender has not used for another request, such as a UUID. The "
            "same request with the same key is done once, however often it is sent; it is answered with "
            "the search that it made, as that stands.",
        ),
    ] = None,
) -> RequestKey | None:
    """Return what makes this request known when it is sent again; None when its sender wants none."""
    if idempotency_key is None:
        return None
    told = "" if said == Edit() else f" {json.dumps([said.owner, said.tags])}"
    told += "" if workspace is None else f" {workspace}"
    asked = hashlib.sha256(f"{request.method} {request.url.path}{told}\n".encode() + body)
    # The draft of the header field quotes the key; others send it bare. Both mean the same.
    return RequestKey(key=idempotency_key.strip('"'), fingerprint=asked.hexdigest())


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("should be a time between the years 1 and 9999") from None


def _written_out(text: Any) -> Any:
    """Refuse a bare number, which would be seconds since 1970: 2026 is more likely meant as a year."""
    try:
        float(text)
    except (TypeError, ValueError):
        return text
    raise ValueError("should be a date or a time that is written out, as 2026-01-31 or 2026-01-31T12:00:00Z")


def _part_of(field: str) -> Any:
    description = f"Only searches with this in their {field}; ASCII letters in either case."
    return Query(max_length=200, pattern=NO_NUL, description=description)


def _time(description: str) -> Any:
    return Query(description=f"Only searches created {description}; without a time zone, UTC.")


Time = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


def search_filter(
    *,
    state: Annotated[list[SearchState] | None, Query(description="Only searches in these states.")] = None,
    name: Annotated[str | None, _part_of("name")] = None,
    parent: Annotated[str | None, _part_of("parent")] = None,
    created_after: Annotated[Time | None, _time("at this time or later")] = None,
    created_before: Annotated[Time | None, _time("before this time")] = None,
    owner: Annotated[
        str | None,
        Query(
            max_length=MAX_OWNER_LENGTH,
            pattern=NO_NUL,
            description="Only searches of this owner, by the whole name; empty: of nobody.",
        ),
    ] = None,
    tag: Annotated[
        list[Annotated[str, Query(max_length=MAX_TAG_LENGTH, pattern=NO_NUL)]] | None,
        Query(max_length=MAX_TAGS, description="Only searches with all of these tags."),
    ] = None,
    archived: Annotated[
        Literal["false", "true", "any"],
        Query(description="Archived searches are left out unless they, or any, are asked for."),
    ] = "false",
    text: Annotated[str | None, _part_of("name or notes")] = None,
    workspace: Annotated[
        list[Annotated[str, Query(pattern=WORKSPACE_PATTERN)]] | None,
        Query(max_length=100, description="Only searches of these workspaces, as far as you see them."),
    ] = None,
) -> SearchFilter:
    """Return which searches are asked for."""
    return SearchFilter(
        owner=owner,
        tags=_distinct(tag),
        archived=None if archived == "any" else archived == "true",
        text=text,
        states=_distinct(state),
        name=name,
        parent=parent,
        created_after=created_after,
        created_before=created_before,
        workspaces=_distinct(workspace),
    )


def trial_filter(
    state: Annotated[list[TrialState] | None, Query(description="Only trials in these states.")] = None,
    role: Annotated[list[TrialRole] | None, Query(description="Only trials with these roles.")] = None,
) -> TrialFilter:
    """Return which trials are asked for."""
    return TrialFilter(states=_distinct(state), roles=_distinct(role))


def _distinct(values: list[Any] | None) -> tuple[Any, ...] | None:
    return tuple(sorted(set(values))) if values is not None else None


def page_size(default: int, most: int) -> Callable[[int], int]:
    """Return what reads the parameter of how many items a page has."""

    def size(
        page_size: Annotated[int, Query(ge=1, description=f"At most {most} are given.")] = default,
    ) -> int:
        return min(page_size, most)

    return size


Events = Annotated[Tailer, Depends(tailer_of)]
Numbers = Annotated[Metrics, Depends(metrics_of)]
Service = Annotated[SearchService, Depends(service_for)]
WholeService = Annotated[SearchService, Depends(service_of)]
Who = Annotated[Principal, Depends(principal_of)]
Workspace = Annotated[str | None, Depends(workspace_asked)]
Spec = Annotated[SearchSpec, Depends(submitted_spec)]
Patch = Annotated[Any, Depends(submitted_patch)]
Changes = Annotated[Edit, Depends(submitted_edit)]
Said = Annotated[Edit, Depends(said_at_first)]
Versions = Annotated[frozenset[int] | None, Depends(edited_versions)]
Key = Annotated[RequestKey | None, Depends(request_key)]
SearchId = Annotated[str, Path(description="The id that the submission answered with.", pattern=ID_PATTERN)]
WhichSearches = Annotated[SearchFilter, Depends(search_filter)]
WhichTrials = Annotated[TrialFilter, Depends(trial_filter)]
PageToken = Annotated[
    str | None,
    Query(
        max_length=1024,
        description="``next_page_token`` of the page before, with the same filters and order; the page size "
        "may differ.",
    ),
]
