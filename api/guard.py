"""The gate before the application: turns away what may not ask, and bounds the bodies of requests.

Plain ASGI, so that streams pass unbuffered. It stands outside the whole application, dashboard included.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.access import READING, Access
from nas.text import MAX_LENGTH

MAX_BODY_BYTES = MAX_LENGTH
"""As much as is read of a spec."""
FOREIGN_HOST = errors.Kind(status=421, code="host_not_allowed", title="Not a name of this service")
CROSS_SITE = errors.Kind(status=403, code="cross_site", title="Not from another site's page")
TOO_LARGE = errors.Kind(status=413, code="body_too_large", title="The body is too large")


class Guard:
    """Stands before ``app``, for HTTP and WebSockets alike."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or let the request through."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif refused := self._refused(scope):
            await _refuse(scope, receive, send, *refused)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[errors.Kind, str] | None:
        headers = Headers(scope=scope)
        if detail := self._access.refused_host(headers):
            return FOREIGN_HOST, detail
        # A WebSocket, which has no method, is for writing: the dashboard's buttons speak through it.
        if scope.get("method") not in READING and (detail := self._access.refused_origin(headers)):
            return CROSS_SITE, detail
        return None

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through as long as its body is not too long, whether that tells its length or not."""
        request = dict(scope)  # the application may change the scope on its way
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told[:20]) > MAX_BODY_BYTES:
            await _refuse(request, receive, send, TOO_LARGE, _too_large(told[:20]))
            return
        body = _Body(receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if not body.is_too_long:
                raise
        if body.is_too_long and not body.is_answered:
            await _refuse(request, receive, send, TOO_LARGE, _too_large(f"more than {MAX_BODY_BYTES}"))


class _Body:
    """What one request's body has come to; once it is too long, the application is not heard any more."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._num_bytes = 0
        self.is_too_long = False
        self.is_answered = False
        """Whether the answer had begun before."""

    async def receive(self) -> Message:
        """Give the next part."""
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > MAX_BODY_BYTES:
            self.is_too_long = True
            raise HTTPException(TOO_LARGE.status)
        return message

    async def send(self, message: Message) -> None:
        """Take what the application answers."""
        if not self.is_too_long:
            self.is_answered = True
        if self.is_answered:
            await self._send(message)


async def _refuse(scope: Scope, receive: Receive, send: Send, kind: errors.Kind, detail: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403
    else:
        await errors.answer(Request(scope), kind, detail)(scope, receive, send)


def _too_large(found: str) -> str:
    return f"body: found {found} bytes, allowed: at most {MAX_BODY_BYTES}"
