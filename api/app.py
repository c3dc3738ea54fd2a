"""The REST service as a FastAPI application, around a ``SearchService`` that is given to it."""

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Lifespan

from api import errors, sign_in
from api.access import LOCAL, METHODS, READING, Access
from api.authorisation import PUBLIC, RULES, authorised
from api.dependencies import PATCH_TYPES, SPEC_TYPES
from api.field_words import describe
from api.guard import Guard
from api.headers import DOCS_PATH, Headed
from api.identity import SIGN_IN, Identified
from api.metrics import Metrics
from api.observe import Observed
from api.routes import accounts, control, events, health, history, results, searches, trials
from api.schemas.base import Problem
from api.schemas.control import Limits, Sizes
from api.schemas.searches import SearchEdit
from api.sessions import SESSION, Sessions
from api.tailer import Tailer
from nas.search import SearchSpec
from nas.service import SearchService
from nas.spec import SPEC_ADAPTER

DESCRIPTION = """
Searches for the best smaller language model under a budget. Submit a spec, follow its events, take the
winner home. Losses are nats per held-out token. Every error is a problem (RFC 9457) with a stable `code`.
"""
PREFIX = "/api/v1"
VERB = "}:"
"""What a path has that does something to a search, such as ``/searches/{search_id}:cancel``."""
COMPONENTS = "#/components/schemas/{model}"

SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that begins with `nas_`. While none was ever made, none is needed.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION,
        "description": "Of a browser that signed in at `/sign-in`.",
    },
}


class _Application(FastAPI):
    """Guards stand around everything, the handler of unexpected errors included."""

    access: Access
    sessions: Sessions
    templates: Mapping[str, str]
    """Paths of routes by their operation."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers requests."""
        authentication = self.state.service.authentication
        identified = Identified(super().build_middleware_stack(), authentication, self.sessions)
        guarded = Headed(Guard(identified, self.access))
        return Observed(guarded, self.state.metrics, self.templates)


def create_app(
    service: SearchService,
    lifespan: Lifespan[FastAPI] | None = None,
    *,
    access: Access = LOCAL,
    sessions: Sessions | None = None,
) -> FastAPI:
    """Return the application: ``/api/v1``, ``/healthz``, ``/readyz``, ``/metrics``, ``/docs`` and ``/sign-in``.

    Without ``sessions``, browsers that sign in are forgotten with this application.
    """
    app = _Application(
        title="Minitron search",
        version="1",
        description=DESCRIPTION.strip(),
        lifespan=lifespan,
        redoc_url=None,
        docs_url=DOCS_PATH,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.access = access
    app.sessions = sessions or Sessions()
    app.state.metrics = Metrics(service)
    app.state.service = service
    app.state.stopping = threading.Event()  # set by the server's owner, so that open streams end
    app.state.tailer = Tailer(service, app.state.stopping)
    errors.install(app)
    templates: dict[str, str] = {}
    # What verbs answer to other methods comes before paths that would take them for ids.
    for module in (health, control, searches, trials, results, history, events, accounts):
        prefix = "" if module is health else PREFIX
        routes = [route for route in module.router.routes if isinstance(route, APIRoute)]
        for route in routes:
            if VERB in route.path_format:  # by another method, it would be taken for an id
                known = sorted(route.methods or ())
                others, answer = sorted(METHODS.difference(known)), _only(known)
                path = f"{prefix}{route.path_format}"
                app.add_api_route(path, answer, methods=others, include_in_schema=False)
        app.include_router(module.router, prefix=prefix, dependencies=[Depends(authorised)])
        templates |= {str(route.operation_id): f"{prefix}{route.path_format}" for route in routes}
    sign_in.install(app, service.authentication, app.sessions)
    app.templates = templates
    # FastAPI makes the routes of an included router when it is asked first, which two servers of one process may be at once.
    for made in app.routes:
        made.matches({"type": "http", "method": "GET", "path": "/none", "root_path": "", "headers": []})
    unmatched = _unmatched(tuple(app.routes))
    for path in ("/api/{path:path}", "/healthz", "/readyz", "/metrics", SIGN_IN, sign_in.SIGN_OUT):
        app.add_api_route(path, unmatched, methods=sorted(METHODS), include_in_schema=False)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _only(allowed: Sequence[str]) -> Callable[[], Awaitable[None]]:
    """Return what answers where a path is there for other methods alone."""

    async def refused() -> None:
        raise HTTPException(405, headers={"Allow": ", ".join(allowed)})

    return refused


def _unmatched(routes: Sequence[BaseRoute]) -> Callable[[Request], Awaitable[None]]:
    """Return what answers where none of ``routes`` does: the dashboard at the root would do so in HTML."""

    async def unmatched(request: Request) -> None:
        allowed = [
            method
            for method in sorted(METHODS)
            if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
        ]
        if allowed:
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        raise HTTPException(404)

    return unmatched


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the description of the interface, with the schemas that FastAPI cannot see by itself."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        for model in (
            Problem.model_json_schema(ref_template=COMPONENTS),
            *(each.model_json_schema(ref_template=COMPONENTS) for each in (SearchEdit, Limits, Sizes)),
            SPEC_ADAPTER.json_schema(ref_template=COMPONENTS),
        ):
            schemas |= model.pop("$defs", {})
            schemas[model["title"]] = model
        describe(schemas, SearchSpec)
        spec = {"$ref": COMPONENTS.format(model="SearchSpec")}
        schemas["SearchResource"]["properties"]["spec"] = spec
        promotion = {"$ref": COMPONENTS.format(model="Promotion")}
        schemas["PromotedResource"]["properties"]["promotion"] = promotion
        for name in ("TrialResource", "TrialRecordResource"):
            schemas[name]["properties"]["promotion"]["anyOf"][0] = promotion
        document["paths"]["/api/v1/searches"]["post"]["requestBody"] = {
            "required": True,
            "content": {media_type: {"schema": spec} for media_type in SPEC_TYPES},
        }
        patch = {"type": "object", "description": "Fields of a SearchSpec; null takes a field's default."}
        document["paths"]["/api/v1/searches/{search_id}:clone"]["post"]["requestBody"] = {
            "content": {media_type: {"schema": patch} for media_type in PATCH_TYPES},
        }
        edit = {"$ref": COMPONENTS.format(model="SearchEdit")}
        document["paths"]["/api/v1/searches/{search_id}"]["patch"]["requestBody"] = {
            "content": {media_type: {"schema": edit} for media_type in PATCH_TYPES},
        }
        for verb, name in (("extend", "Limits"), ("enqueue", "Sizes")):
            asked = {"$ref": COMPONENTS.format(model=name)}
            document["paths"][f"/api/v1/searches/{{search_id}}:{verb}"]["post"]["requestBody"] = {
                "required": True,
                "content": {media_type: {"schema": asked} for media_type in SPEC_TYPES},
            }
        promotion = {"type": "object", "description": "Fields of a Promotion; null takes a field's default."}
        document["paths"]["/api/v1/searches/{search_id}/trials/{trial_number}:promote"]["post"][
            "requestBody"
        ] = {
            "content": {media_type: {"schema": promotion} for media_type in SPEC_TYPES},
        }
        for path in document["paths"].values():
            for method, operation in path.items():
                guarded = (421,) if method.upper() in READING else (403, 413, 421)
                if RULES.get(operation["operationId"]) is PUBLIC:
                    operation["security"] = []
                else:
                    guarded = (401, *guarded, 503)
                described = operation["responses"]
                described |= {str(status): answer for status, answer in errors.problems(*guarded).items()}
        document["components"]["securitySchemes"] = SECURITY
        document["security"] = [{name: []} for name in SECURITY]
        app.openapi_schema = document
    return app.openapi_schema
