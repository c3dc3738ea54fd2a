"""Watches each answer go out, around everything else: how long it took, by the route that gave it.

Plain ASGI, so that streams pass unbuffered.
"""

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics

ASSETS = "/_nicegui"
"""Below this lies all that the pages load; it counts as one route."""
NO_ROUTE = "none"


class Observed:
    """``app``, watched; ``templates`` are the paths of routes by their operation."""

    def __init__(self, app: ASGIApp, metrics: Metrics, templates: Mapping[str, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, path = time.perf_counter(), scope["path"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - begun
                self._metrics.observe(scope["method"], self._route(scope, path), message["status"], seconds)
            await send(message)

        await self._app(scope, receive, watched)

    def _route(self, scope: Scope, path: str) -> str:
        """Return the template of the route that a request was led to."""
        if path.startswith(ASSETS):
            return ASSETS
        route = scope.get("route")
        template = self._templates.get(getattr(route, "operation_id", None) or "")
        return template or getattr(route, "path_format", None) or NO_ROUTE
