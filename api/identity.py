"""Asks each request and each WebSocket who it is, before the application sees it; nobody is turned away.

Programs show a token as ``Authorization: Bearer``, browsers the session that they signed in to. Plain ASGI around the
whole application, dashboard, assets and documentation included, so that nothing is reached by being forgotten. A
WebSocket is asked again and again, and closed once its token does not hold any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.access import METHODS
from api.sessions import SESSION, Sessions, cookie_in
from nas.accounts import LOCAL, Principal
from nas.authentication import Authentication
from nas.errors import SearchError, StoreUnavailable, Unauthenticated

PUBLIC = frozenset({"/healthz", "/readyz", "/sign-in"})
"""What answers anybody."""
REMEMBERED = "/metrics"
"""What answers while the database is away whoever was known before: that is when it is looked at."""
SIGN_IN = "/sign-in"
ASK_AGAIN_SECONDS = 5.0
CLOSED = 1008
"""What a WebSocket is closed with: a policy was violated."""
_STATE = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a request is from."""

    principal: Principal
    authentication: Authentication
    session: str = ""
    """The session that it came with, where that is how it is known."""
    form_token: str = ""
    """What a form on a page of that session sends along."""

    def present(self) -> Principal:
        """Return who that is by now; raises Unauthenticated once it is nobody."""
        return self.authentication.again(self.principal)

    def is_present(self) -> bool:
        """Return whether that is still somebody; a database that does not answer changes nothing."""
        try:
            self.present()
        except Unauthenticated:
            return False
        except StoreUnavailable:
            return True
        return True


def identity_of(request: Request) -> Identity:
    """Return who a request is from; it did not come here without."""
    identity: Identity = request.scope["state"][_STATE]
    return identity


class Identified:
    """Stands before ``app``, for HTTP and WebSockets alike."""

    def __init__(self, app: ASGIApp, authentication: Authentication, sessions: Sessions) -> None:
        self._app = app
        self._authentication = authentication
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or let a request through with its identity."""
        if scope["type"] not in {"http", "websocket"} or _is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            identity = await run_in_threadpool(self._identify, scope)
        except SearchError as error:
            await _refuse(scope, receive, send, error)
            return
        scope.setdefault("state", {})[_STATE] = identity
        if scope["type"] == "websocket":
            await _While(identity.is_present, receive, send).run(scope, self._app)
        else:
            await self._app(scope, receive, send)

    def _identify(self, scope: Scope) -> Identity:
        headers, as_remembered = Headers(scope=scope), scope["path"] == REMEMBERED
        if not self._authentication.is_in_force(as_remembered=as_remembered):
            return Identity(principal=LOCAL, authentication=self._authentication)
        given = headers.getlist("authorization")
        if given:
            secret = _bearer(given)
            principal = self._authentication.of_secret(secret, as_remembered=as_remembered)
            return Identity(principal=principal, authentication=self._authentication)
        session = cookie_in(headers.get("cookie", ""), SESSION)
        token_id = self._sessions.token_of(session)
        if token_id is None:
            raise Unauthenticated(
                "Authorization: found none, allowed: Bearer and a token, from nas admin or an admin of the workspace"
            )
        principal = self._authentication.of_token(token_id)
        return Identity(
            principal=principal,
            authentication=self._authentication,
            session=session,
            form_token=self._sessions.form_token(session),
        )


def _is_public(scope: Scope) -> bool:
    """Return whether a request is for what answers anybody; by a method that no route knows, it is the dashboard's."""
    return scope["path"] in PUBLIC and scope.get("method") in METHODS


def _bearer(given: list[str]) -> str:
    scheme, _, secret = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise Unauthenticated("Authorization: found another scheme, or several, allowed: Bearer and a token")
    return secret


async def _refuse(scope: Scope, receive: Receive, send: Send, error: SearchError) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": CLOSED})  # before it is accepted: a 403
        return
    request = Request(scope)
    if isinstance(error, Unauthenticated) and _is_for_people(request):
        query = f"?{request.url.query}" if request.url.query else ""
        there = f"{SIGN_IN}?next={quote(request.url.path + query, safe='')}".encode()
        await send({"type": "http.response.start", "status": 303, "headers": [(b"location", there)]})
        await send({"type": "http.response.body", "body": b""})
        return
    await errors.domain_problem(request, error)(scope, receive, send)


def _is_for_people(request: Request) -> bool:
    """Return whether this is a page that somebody opens, and not what a page or a program loads."""
    is_data = request.url.path.startswith(("/api/", "/_nicegui")) or request.url.path in {
        "/metrics",
        "/openapi.json",
    }
    return request.method == "GET" and not is_data and "text/html" in request.headers.get("accept", "")


class _While:
    """A WebSocket that lasts while ``holds`` is true; the application sees it end as if its visitor had left."""

    def __init__(self, holds: Callable[[], bool], receive: Receive, send: Send) -> None:
        self._holds = holds
        self._receive_next = receive
        self._send_on = send
        self._ended = asyncio.Event()
        self._waiting: asyncio.Task[Message] | None = None

    async def run(self, scope: Scope, app: ASGIApp) -> None:
        """Let the application speak with the visitor."""
        watch = asyncio.create_task(self._watch())
        try:
            await app(scope, self._receive, self._send)
        finally:
            watch.cancel()
            if self._waiting is not None:
                self._waiting.cancel()

    async def _watch(self) -> None:
        while await run_in_threadpool(self._holds):  # noqa: ASYNC110 - others, and time itself, end tokens
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        self._ended.set()
        await self._send_on({"type": "websocket.close", "code": CLOSED})

    async def _receive(self) -> Message:
        if self._waiting is None:
            self._waiting = asyncio.create_task(_awaited(self._receive_next()))
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait({self._waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._ended.is_set():
            return {"type": "websocket.disconnect", "code": CLOSED}
        message, self._waiting = self._waiting.result(), None
        return message

    async def _send(self, message: Message) -> None:
        if not self._ended.is_set():
            await self._send_on(message)


async def _awaited(message: Awaitable[Message]) -> Message:
    return await message
