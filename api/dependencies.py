"""What handlers are given: the service, the store's searches and the spec in a request's body."""

import threading
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Request

from nas.search import SearchSpec
from nas.service import SearchService
from nas.spec import parse_spec

MAX_SPEC_BYTES = 1 << 20
SPEC_TYPES = ("application/json", "application/yaml")
"""What a spec may be sent as; as in files, either text is read by the same parser."""


def service_of(request: Request) -> SearchService:
    """Return the service that the application was made with."""
    service: SearchService = request.app.state.service
    return service


def stopping_of(request: Request) -> threading.Event:
    """Return the event that is set once the server is to end."""
    stopping: threading.Event = request.app.state.stopping
    return stopping


async def submitted_spec(request: Request) -> SearchSpec:
    """Return the spec in the body, which is refused once it is longer than ``MAX_SPEC_BYTES``."""
    # One of these types must be named: a web page elsewhere cannot make a browser send it unasked.
    media_type = request.headers.get("content-type", "none").partition(";")[0].strip().lower()
    if media_type not in SPEC_TYPES:
        raise HTTPException(415, f"Content-Type: found {media_type}, allowed: {', '.join(SPEC_TYPES)}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SPEC_BYTES:
            raise HTTPException(413, f"body: found more than {MAX_SPEC_BYTES} bytes, allowed: that many")
    try:
        return parse_spec(body.decode())
    except UnicodeDecodeError:
        raise HTTPException(400, "body: found bytes that are not UTF-8, allowed: JSON or YAML") from None


Stopping = Annotated[threading.Event, Depends(stopping_of)]
Service = Annotated[SearchService, Depends(service_of)]
Spec = Annotated[SearchSpec, Depends(submitted_spec)]
SearchId = Annotated[str, Path(description="The id that the submission answered with.", max_length=64)]
