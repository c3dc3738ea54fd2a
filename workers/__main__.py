"""``python -m workers``: run one search in this process, send searches to MLflow, or serve MLflow."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading

from nas import log_lines
from nas.errors import SearchError, StoreFull, StoreUnavailable
from nas.private import make_private
from nas.settings import Settings
from nas.supervisor import STORE_AWAY, STORE_FULL

logger = logging.getLogger("workers")

SENDING_SECONDS, SERVING_SECONDS = 120.0, 15.0
"""How long these processes may take to end."""


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Run one search to its end, or keep MLflow's record."
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--search", metavar="ID", help="the search to run")
    task.add_argument("--project", action="store_true", help="send all searches to MLflow until stdin ends")
    task.add_argument("--mlflow", type=int, metavar="FD", help="serve MLflow on a socket until stdin ends")
    parser.add_argument("--server", metavar="URL", help="with --project: the MLflow server beside")
    parser.add_argument("--owner", metavar="NAME", default="", help="with --project: in whose turn")
    arguments = parser.parse_args()
    try:
        settings = Settings()
        people = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        log_lines.configure(settings.log_format, text=people, search_id=arguments.search)
        # Ray puts this process's directory on the import path of its workers: none that holds packages, then.
        make_private(settings.home)
        os.chdir(settings.home)
        if arguments.search:
            from workers.runner import run_search

            return run_search(arguments.search, settings)
        if arguments.project:
            return _project(settings, arguments.server, arguments.owner)
        return _serve(settings, arguments.mlflow)
    except StoreUnavailable as error:
        # Logged, not printed: where the disk is full, the log may be too, and logging bears it.
        logger.error("%s", error)  # noqa: TRY400 - the reason is enough
        return STORE_FULL if isinstance(error, StoreFull) else STORE_AWAY
    except SearchError as error:
        log_lines.leave(error)


def _project(settings: Settings, server: str | None, owner: str) -> int:
    from nas.outbox import target_of
    from nas.storage.sql import open_store
    from workers.tracking.projector import Projector

    is_here = settings.tracking_uri.startswith("sqlite:")
    projector = Projector(
        open_store(settings.database_url),
        root=settings.artifact_root,
        uri=server or settings.tracking_uri,
        target=target_of(settings.tracking_uri),
        artifacts=settings.mlflow_artifacts if is_here else None,
        owner=owner,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: projector.stop())
    _end_with_parent(SENDING_SECONDS)
    return 0 if projector.run() else 1


def _serve(settings: Settings, descriptor: int) -> int:
    from workers.tracking import server

    _end_with_parent(SERVING_SECONDS)
    listener = socket.socket(fileno=descriptor)
    server.serve(listener, database=settings.tracking_uri, artifacts=settings.mlflow_artifacts)
    return 0


def _end_with_parent(seconds: float) -> None:
    """End this process, in good order for so many seconds, once nobody holds the other end of its stdin any more."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        threading.Timer(seconds, os._exit, (1,)).start()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
