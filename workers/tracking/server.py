"""An MLflow server in this process, for this machine alone: its pages and its tracking interface.

What else MLflow serves, some of which runs commands for whoever reaches it, is not there. Whoever started
this holds the socket that is listened on, so that the address stays when this process is started again.
"""

import os
import socket
from pathlib import Path
from typing import Any

import uvicorn

from workers.tracking.target import client_of

CLOSED = ("assistant", "gateway", "gateway-proxy", "jobs", "mcp", "mcp-servers", "scorers", "webhooks")
"""Segments of paths: an agent with a shell, calls to model providers, jobs of the server's own, calls to others."""
DEPTH = 5
"""Of the segments that say what is asked for, as in ``/ajax-api/3.0/mlflow/assistant``; what follows may be a file."""
SECONDS = 5
"""How long requests under way may keep the server from ending."""


def serve(listener: socket.socket, *, database: str, artifacts: Path) -> None:
    """Serve until told to end by a signal.

    Args:
        listener: Bound and listening.
        database: ``sqlite:///`` address; made where it is not there.
        artifacts: Where runs of new experiments keep artifacts.
    """
    port = listener.getsockname()[1]
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_SERVER_ALLOWED_HOSTS=",".join(f"{name}:{port}" for name in ("127.0.0.1", "localhost")),
        MLFLOW_SERVER_X_FRAME_OPTIONS="DENY",
    )
    client_of(database, artifacts)
    from mlflow.server import constants

    os.environ.update(
        {
            constants.BACKEND_STORE_URI_ENV_VAR: database,
            constants.REGISTRY_STORE_URI_ENV_VAR: database,
            constants.ARTIFACT_ROOT_ENV_VAR: artifacts.as_uri(),
        }
    )
    from mlflow.server.fastapi_app import app

    config = uvicorn.Config(
        Narrowed(app),
        log_level="warning",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


class Narrowed:
    """An ASGI application without the paths that are closed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as the application, or that there is nothing."""
        segments = str(scope.get("path", "")).lower().split("/")[:DEPTH]
        if scope["type"] != "http" or not any(segment in CLOSED for segment in segments):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"not served here\n"})
