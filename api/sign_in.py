"""The page where a browser signs in by a token, and what signs it out: plain HTML that loads nothing.

The token comes in the body of a form, never in an address, so that no log and no history holds it. A link that signs in
by itself carries it behind ``#``, which browsers keep to themselves, and a few lines of script put it into the form.
"""

import secrets
from html import escape
from importlib.resources import files
from string import Template
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.identity import SIGN_IN, identity_of
from api.sessions import FORM, SESSION, Sessions, cookie_in, set_cookie
from nas.authentication import Authentication
from nas.errors import StoreUnavailable, Unauthenticated

SIGN_OUT = "/sign-out"
HOME = "/"
FORM_SECONDS = 3600
MAX_FIELDS = 10
FRAGMENT = "token="
"""What stands before the token in a link, behind ``#``."""


def link(address: str, secret: str) -> str:
    """Return the link that signs a browser in by a token."""
    return f"{address}{SIGN_IN}#{FRAGMENT}{secret}"


def install(app: FastAPI, authentication: Authentication, sessions: Sessions) -> None:
    """Add the pages to an application."""

    async def show(request: Request) -> Response:
        if not await run_in_threadpool(authentication.is_in_force):
            return RedirectResponse(HOME, status_code=303)
        return _form(request, sessions, there=_inner(request.query_params.get("next", HOME)))

    async def sign_in(request: Request, said: Annotated[dict[str, str], Depends(_said)]) -> Response:
        there = _inner(said.get("next", HOME))
        if not sessions.is_form_token(said.get("form", ""), _cookie(request, FORM)):
            return _form(
                request, sessions, there=there, problem="This page was too old. Try again.", status=403
            )
        try:
            principal = await run_in_threadpool(authentication.of_secret, said.get("token", ""))
        except Unauthenticated as error:
            return _form(request, sessions, there=there, problem=str(error), status=401)
        except StoreUnavailable:
            problem = "The database does not answer. Try again later."
            return _form(request, sessions, there=there, problem=problem, status=503)
        answer = RedirectResponse(there, status_code=303)
        session = sessions.session(str(principal.token_id))
        answer.headers.append("Set-Cookie", _set(request, SESSION, session))
        answer.headers.append("Set-Cookie", _set(request, FORM, "", max_age=0))
        return answer

    async def sign_out(request: Request, said: Annotated[dict[str, str], Depends(_said)]) -> Response:
        session = identity_of(request).session
        answer = RedirectResponse(SIGN_IN, status_code=303)
        if sessions.is_form_token(said.get("form", ""), session):
            answer.headers.append("Set-Cookie", _set(request, SESSION, "", max_age=0))
        return answer

    app.add_api_route(SIGN_IN, show, methods=["GET"], include_in_schema=False)
    app.add_api_route(SIGN_IN, sign_in, methods=["POST"], include_in_schema=False)
    app.add_api_route(SIGN_OUT, sign_out, methods=["POST"], include_in_schema=False)


async def _said(request: Request) -> dict[str, str]:
    """Return the fields of a form, whose length ``api.guard`` bounds; the last of several with one name.

    Raises:
        HTTPException: It has more fields than any form here.
    """
    body = (await request.body()).decode(errors="replace")
    try:
        fields = parse_qs(body, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, f"body: found a longer form, allowed: {MAX_FIELDS} fields") from None
    return {name: values[-1] for name, values in fields.items()}


def _inner(there: str) -> str:
    """Return an address on this server to go on at; what leads elsewhere leads home."""
    is_inner = (
        there.startswith("/") and not there.startswith("//") and there.isprintable() and "\\" not in there
    )
    return there if is_inner else HOME


def _cookie(request: Request, name: str) -> str:
    return cookie_in(request.headers.get("cookie", ""), name)


def _set(request: Request, name: str, value: str, **changes: int) -> str:
    return set_cookie(name, value, is_secure=request.url.scheme == "https", **changes)


def _form(
    request: Request, sessions: Sessions, *, there: str, problem: str = "", status: int = 200
) -> HTMLResponse:
    cookie = secrets.token_urlsafe(16)
    page = Template(files("api").joinpath("sign_in.html").read_text(encoding="utf-8"))
    content = page.substitute(
        there=escape(there),
        form=sessions.form_token(cookie),
        problem=escape(problem),
        fragment=FRAGMENT,
        # Whoever is signed in already is not made somebody else by a link that they follow.
        waits="true" if _cookie(request, SESSION) or problem else "false",
    )
    headers = {"Set-Cookie": _set(request, FORM, cookie, max_age=FORM_SECONDS), "Cache-Control": "no-store"}
    return HTMLResponse(content, status_code=status, headers=headers)
