"""Watches each answer go out, around everything else: how long it took, by the route that gave it.

Each request has an id, which its answer and all that is logged meanwhile carry. Plain ASGI, so that streams pass
unbuffered.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from nas import log_lines

logger = logging.getLogger(__name__)

ASSETS = "/_nicegui"
"""Below this lies all that the pages load; it counts as one route and is not logged."""
NO_ROUTE = "none"
REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SEARCH = re.compile(r"/searches/([A-Za-z0-9_-]{1,64})(?=[/:]|$)")


class Observed:
    """``app``, watched; ``templates`` are the paths of routes by their operation."""

    def __init__(self, app: ASGIApp, metrics: Metrics, templates: Mapping[str, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        # The server gives each request a task of its own, so nothing has to be unbound.
        request_id, path = _id_of(scope), scope["path"]
        search = _SEARCH.search(path)
        log_lines.bind(request_id=request_id, search_id=search[1] if search else None)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        method, begun, status = scope["method"], time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                self._metrics.observe(method, self._route(scope, path), status, time.perf_counter() - begun)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not path.startswith(ASSETS):
                seconds = round(time.perf_counter() - begun, 6)
                about = {"method": method, "path": path, "status": status or None, "seconds": seconds}
                logger.info("%s %s: %s", method, path, status or "no answer", extra=about)

    def _route(self, scope: Scope, path: str) -> str:
        """Return the template of the route that a request was led to."""
        if path.startswith(ASSETS):
            return ASSETS
        route = scope.get("route")
        template = self._templates.get(getattr(route, "operation_id", None) or "")
        return template or getattr(route, "path_format", None) or NO_ROUTE


def _id_of(scope: Scope) -> str:
    """Return the id that a request came with, where it is one that is safe to repeat, else a new one."""
    given = Headers(scope=scope).getlist(REQUEST_ID)
    return given[0] if len(given) == 1 and _SANE_ID.fullmatch(given[0]) else uuid.uuid4().hex
