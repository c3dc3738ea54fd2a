"""The composition root of the server: store, service, supervisor, dashboard, and a listening socket."""

import argparse
import gc
import ipaddress
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from api import dashboard, observe
from api.access import LOCAL, Access
from api.app import create_app
from api.sessions import Sessions, kept_key
from api.share import LIFETIME, Share
from api.sign_in import link
from minitron import hub
from minitron.errors import MissingExtra
from nas import log_lines
from nas.authentication import Authentication
from nas.confinement import EVERYWHERE, NOWHERE, Confinement
from nas.errors import InvalidSettings, SearchError
from nas.mlflow_beside import MlflowBeside
from nas.mlflow_links import links_of
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import open_store
from nas.supervisor import Supervisor, require_worker_extra
from nas.waiting import Capacity

logger = logging.getLogger(__name__)

PAGE_ONLY = "this server runs no searches (--page-only); the process that does takes them up"
GRACE_SECONDS = 3
"""How long downloads under way may keep the server from ending."""


def create(settings: Settings, *, runs_searches: bool = True, access: Access = LOCAL) -> FastAPI:
    """Return the whole application; its lifespan starts and ends the supervisor of searches."""
    store = open_store(settings.database_url)
    notice = _missing_extra() if runs_searches else None
    accounts = Authentication(store.accounts)

    def confinement() -> Confinement:
        """Return where other people's specs may lead: without accounts there are no other people."""
        if settings.data_directories is not None:
            return Confinement(roots=settings.data_directories)
        return NOWHERE if accounts.is_in_force() else EVERYWHERE

    hub.confine(settings.hub_host_names)
    beside = MlflowBeside(settings, serves=True) if runs_searches else None
    # At an address of this machine, a visitor from elsewhere would find something of their own.
    is_ours_alone = access.names is not None and not settings.host_names
    here = beside.address if beside and is_ours_alone else None
    service = SearchService(
        store,
        confinement=confinement,
        artifact_root=settings.artifact_root,
        logs=settings.log_directory,
        device_flops=settings.device_flops,
        capacity=Capacity(max_searches=settings.max_searches, notice=notice if runs_searches else PAGE_ONLY),
        mlflow=links_of(settings, store.outboxes, here),
    )
    supervisor = Supervisor(
        store,
        logs=settings.log_directory,
        environment=settings.environment(),
        max_searches=settings.max_searches,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        endings: list[Callable[[], object]] = []
        if beside:
            beside.start()
            endings.append(beside.stop)
        if runs_searches and not notice:
            supervisor.start()
            endings.insert(0, supervisor.stop)
        yield
        for end in (*app.state.endings, *endings):
            await run_in_threadpool(end)

    service.authentication.is_in_force()  # known from the beginning, should the database be away later
    key = settings.session_key.get_secret_value() if settings.session_key else kept_key(settings.home)
    app = create_app(service, lifespan, access=access, sessions=Sessions(key))
    app.state.endings = []  # what is to be done when the server ends; a signal ends the process right after
    dashboard.mount(app, service, notice=notice)
    return app


def serve(settings: Settings, *, runs_searches: bool = True, share: str | None = None) -> None:
    """Listen until interrupted. The first line on stdout ends with the address; the next is a link, if one is shared.

    Args:
        settings: Where to listen, and what for.
        runs_searches: Whether searches are run here, not by another process.
        share: The workspace that a link lets its holder look at until the server ends; None: none.

    Raises:
        InvalidSettings: Host and port cannot be listened on, or not unless there are accounts or ``settings.open``
            is set.
        Conflict: A link is to be shared and there are no accounts.
        StoreUnavailable: The database does not answer.
    """
    place = _place(settings.host, settings.port)
    access = Access.at(settings.host, is_loopback=place.is_loopback, also=settings.host_names)
    app = create(settings, runs_searches=runs_searches, access=access)
    service: SearchService = app.state.service
    if not (place.is_loopback or settings.open or service.people.has_admin()):
        raise InvalidSettings(
            f"NAS_HOST: found {settings.host}, which other machines reach while there are no accounts, allowed: "
            "an address of this machine alone, such as 127.0.0.1; any once there is an admin (nas admin token "
            "create NAME --role admin), or with NAS_OPEN=1 or --open"
        )
    listener = _listener(settings, place)
    if not place.is_loopback and not service.authentication.is_in_force():
        logger.warning(
            "%s is open to other machines, and there are no accounts: whoever reaches it can read every "
            "search, start new ones and name any file that this process can read",
            settings.host,
        )
    config = uvicorn.Config(
        app,
        log_config=None,  # one format for all
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    # What was imported stays: a collection that walks through all of it holds up every request for a tenth of a second.
    gc.collect()
    gc.freeze()
    print(f"serving at {_address(settings.host, listener)}", flush=True)  # noqa: T201 - read by nas run --serve
    if share is not None:
        shared = Share.begin(service.people, share)
        app.state.endings.append(shared.end)
        told = link(_reached_at(settings, listener), shared.secret.text)
        print(f"read only, for {LIFETIME.days} days or until this ends: {told}", flush=True)  # noqa: T201
    _Server(config, app.state.stopping).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells the application when it is to end; otherwise it would wait for open streams."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve as the environment and the command line say; errors are one line, exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve searches over HTTP.")
    parser.add_argument("--host", help="address to listen on; default NAS_HOST")
    parser.add_argument("--port", type=int, help="port to listen on; default NAS_PORT")
    parser.add_argument("--open", action="store_true", default=None, help="let other machines in")
    parser.add_argument("--share", metavar="WORKSPACE", help="print a link that lets its holder look")
    parser.add_argument(
        "--no-mlflow", action="store_false", dest="mlflow", default=None, help="keep no record in MLflow"
    )
    parser.add_argument("--page-only", action="store_true", help="run no searches: another process does")
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in ("host", "port", "open", "mlflow")}
    try:
        settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
        log_lines.configure(settings.log_format, text="%(levelname)s: %(message)s")
        if settings.log_format == "text":  # people are told what is remarkable, not of each request
            logging.getLogger(observe.__name__).setLevel(logging.WARNING)
        with suppress(KeyboardInterrupt):  # the usual end of a server: by then its searches are resumable
            serve(settings, runs_searches=not arguments.page_only, share=arguments.share)
    except SearchError as error:
        log_lines.leave(error)


def _missing_extra() -> str | None:
    try:
        require_worker_extra()
    except MissingExtra as error:
        logger.warning("searches will wait, none is run here: %s", error)
        return str(error)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where to listen: what a host's name stands for, found once, so that what is judged is what is opened."""

    family: socket.AddressFamily
    ip: str
    is_loopback: bool


def _place(host: str, port: int) -> _Place:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _not_here(host, port, error) from None
    ip = str(address[0])
    return _Place(family=family, ip=ip, is_loopback=ipaddress.ip_address(ip).is_loopback)


def _listener(settings: Settings, place: _Place) -> socket.socket:
    try:
        return socket.create_server((place.ip, settings.port), family=place.family)
    except OSError as error:
        raise _not_here(settings.host, settings.port, error) from None


def _not_here(host: str, port: int, error: OSError) -> InvalidSettings:
    return InvalidSettings(
        f"NAS_HOST, NAS_PORT: found {host}:{port}, which cannot be listened on ({error.strerror or error}), "
        "allowed: an address of this machine and a free port"
    )


def _address(host: str, listener: socket.socket) -> str:
    ip, port = listener.getsockname()[:2]
    name = "127.0.0.1" if ipaddress.ip_address(ip).is_unspecified else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _reached_at(settings: Settings, listener: socket.socket) -> str:
    """Return where others find the server: as the settings say, else by the name of this machine."""
    if "server_url" in settings.model_fields_set:
        return settings.server_url.rstrip("/")
    ip, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(ip).is_unspecified:
        return _address(settings.host, listener)
    return f"http://{next(iter(settings.host_names), socket.gethostname())}:{port}"
