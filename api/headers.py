"""Headers that tell a browser what it may do with each answer: nothing beyond what the pages need.

Plain ASGI, so that streams pass unbuffered. It stands outside the whole application, so that nothing the
application or the dashboard answers, errors included, goes around it.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCS_PATH = "/docs"
COMMON = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # none at all would make browsers hide the Origin of our own forms too
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOT_ELSEWHERE = "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of everything that is no page."""
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    f"img-src 'self' data:; font-src 'self'; {_NOT_ELSEWHERE}"
)
"""NiceGUI writes scripts into its pages and Vue compiles templates in the browser, so scripts cannot be told apart;
but whatever a page loads or sends goes nowhere but here."""
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    f"img-src 'self' data: https://fastapi.tiangolo.com; {_NOT_ELSEWHERE}"
)
"""Of the one page that loads from elsewhere, as FastAPI makes it."""


class Headed:
    """``app`` with these headers on each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, and say what a browser may do with it."""

        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in COMMON.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = _policy(path, headers.get("content-type", ""))
            await send(message)

        path = scope.get("path", "")  # the application may change the scope on its way
        await self._app(scope, receive, send_headed if scope["type"] == "http" else send)


def _policy(path: str, content_type: str) -> str:
    if not content_type.startswith("text/html"):
        return DATA_POLICY
    return DOCS_POLICY if path == DOCS_PATH else PAGE_POLICY
