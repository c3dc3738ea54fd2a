"""``nas run``: one search from its spec to its leaderboard, without a server unless one is wished for.

The search lives in the same store as those of ``nas serve``. Whatever ends this process early, the
search stays resumable there.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from rich.console import Console
from rich.text import Text

from nas import display
from nas.edits import Edit
from nas.errors import NotFound, SearchError, StoreUnavailable
from nas.estimate import Estimate
from nas.interruption import Interruption
from nas.leaderboard import comparison_of
from nas.mlflow_beside import LEAVE_SECONDS, SEND_SECONDS, MlflowBeside
from nas.report import SearchReport
from nas.search import Event, Search, SearchSpec, SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from nas.storage.store import SearchStore
from nas.supervisor import Supervisor, require_worker_extra

POLL_SECONDS = 0.5


class Interrupted(Exception):
    """Raised when the user ends the process before its search has ended; it is left resumable."""

    def __init__(self, search_id: str) -> None:
        super().__init__(search_id)
        self.search_id = search_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    server: subprocess.Popen[str]
    address: str


def run(
    task: SearchSpec | str,
    settings: Settings,
    console: Console,
    *,
    serves: bool,
    said: Edit | None = None,
    tell: Callable[[Event], object] | None = None,
) -> Search:
    """Run a new search of a spec, or go on with the one that has an id, and print all there is to tell.

    ``said`` is said of a new search, and ``tell`` is told each event. With ``serves`` the dashboard is open meanwhile, and stays so until interrupted. Returns the
    search as it ended.

    Raises:
        MissingExtra: This Python can run no worker.
        SearchError: The spec, the database or the port is not usable.
        Interrupted: By Ctrl-C or SIGTERM.
    """
    require_worker_extra(task if isinstance(task, SearchSpec) else None)
    store = open_store(settings.database_url)
    service = SearchService(store, artifact_root=settings.artifact_root)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    beside = MlflowBeside(settings, serves=serves)
    with _page(settings, beside.address) if serves else nullcontext() as page, ExitStack() as stack:
        search = service.create(task, said=said) if isinstance(task, SearchSpec) else _taken_up(service, task)
        if page:
            _say(console, f"the page: {page.address}/searches/{search.id}")
        if page or not search.state.is_final:
            stack.enter_context(_told(beside, console))
        supervisor = Supervisor(
            store, logs=settings.log_directory, environment=settings.environment(), only=search.id
        )
        try:
            _follow(service, supervisor, search, console, tell)
        except KeyboardInterrupt:
            raise Interrupted(search.id) from None
        except StoreUnavailable as error:
            remedy = f"once that is mended, go on with: nas run --resume {search.id}"
            raise StoreUnavailable(f"{error}; {remedy}") from error
        if service.search(search.id).state is SearchState.PAUSED:
            _say(console, "paused")
            raise Interrupted(search.id)
        search = _conclude(service, search.id, console)
        if not page:
            _say(console, f"the dashboard: nas serve, then {settings.server_url}/searches/{search.id}")
        else:
            _say(console, "the page stays open until Ctrl-C")
            with suppress(KeyboardInterrupt):
                page.server.wait()
    return search


def local_winner(search_id: str, settings: Settings) -> Path | None:
    """Return where the winner of a search lies, or None where this home knows no such search.

    Raises:
        Conflict: There is no winner, or not yet.
        NotFound: The winner's directory is gone.
    """
    with _local(search_id, settings) as service:
        return service.winner_directory(search_id) if service else None


def local_report(search_id: str, settings: Settings) -> SearchReport | None:
    """Return the report of a search, or None where this home knows no such search."""
    with _local(search_id, settings) as service:
        return service.report(search_id) if service else None


@contextmanager
def _local(search_id: str, settings: Settings) -> Iterator[SearchService | None]:
    """Give the use cases of this home if it knows a search."""
    if not settings.artifact_root.is_dir():
        yield None  # nothing was ever run here: no database is made to find that out
        return
    store = open_store(settings.database_url)
    try:
        service = SearchService(store, artifact_root=settings.artifact_root)
        try:
            service.search(search_id)
        except NotFound:
            yield None
        else:
            yield service
    finally:
        store.close()


def plan(spec: SearchSpec, settings: Settings) -> Estimate:
    """Return what a search would cost; rates that earlier searches here measured are used.

    Raises:
        InvalidSpec: It cannot run.
        HubUnavailable: The hub does not answer, and the spec does not say what a plan needs.
    """
    store = _present_store(settings)
    service = SearchService(store, artifact_root=settings.artifact_root, device_flops=settings.device_flops)
    return service.plan(spec)


def write_study(search_id: str, settings: Settings) -> tuple[str, int]:
    """Write or complete the Optuna study of a search of this home.

    Returns the address of its storage without a password, and how many trials the study has.

    Raises:
        NotFound: This home knows no such search.
        StudiesUnavailable: The storage cannot be reached.
    """
    from nas.study_storage import StudyStorage, shown  # Optuna and its database take a second to load

    store = _present_store(settings)
    store.get_search(search_id)
    with StudyStorage(settings.optuna_storage) as storage:
        return shown(settings.optuna_storage), storage.write(store, search_id)


def _present_store(settings: Settings) -> SearchStore:
    """Return the store of these settings; asking costs nothing, so it makes no database either."""
    file = settings.database_url.removeprefix("sqlite:///")
    is_new = file != settings.database_url and not Path(unquote(file)).exists()
    return InMemoryStore() if is_new else open_store(settings.database_url)


def _taken_up(service: SearchService, search_id: str) -> Search:
    """Return a search to go on with: one that people paused is resumed."""
    search = service.search(search_id)
    return (
        service.control.resume(search_id) if search.orders.is_paused and not search.state.is_final else search
    )


def _follow(
    service: SearchService,
    supervisor: Supervisor,
    search: Search,
    console: Console,
    tell: Callable[[Event], object] | None,
) -> None:
    console.print(display.heading(search), soft_wrap=True)
    if search.state.is_final:
        return
    _say(console, f"worker log: {supervisor.log_path(search.id)}")
    supervisor.start()
    try:
        with (
            Interruption() as interruption,
            display.Narrator(console, lambda: service.get(search.id)) as narrator,
        ):
            for event in _events(service, search.id, supervisor, interruption):
                narrator.tell(event)
                if tell:
                    tell(event)
    except BaseException:
        _say(console, "stopping; the search stays resumable")
        raise
    finally:
        supervisor.stop()


def _events(
    service: SearchService, search_id: str, supervisor: Supervisor, interruption: Interruption
) -> Iterator[Event]:
    """Yield the events of a search from its beginning until it is final, or paused.

    Raises:
        KeyboardInterrupt: It was interrupted.
        StoreUnavailable: Now, or again and again for the workers.
    """
    after, is_final = 0, False
    while True:
        interruption.check()
        events = service.events(after=after, search_id=search_id)
        yield from events
        if events:
            after = events[-1].sequence
        elif is_final:
            return
        else:
            # Once it is final, one more read gives what was committed together with its end.
            state = service.search(search_id).state
            is_final = state.is_final or state is SearchState.PAUSED
            if not is_final and supervisor.obstacle:
                raise StoreUnavailable(supervisor.obstacle)
            if not is_final:
                time.sleep(POLL_SECONDS)


def _conclude(service: SearchService, search_id: str, console: Console) -> Search:
    view, records = service.get(search_id), service.trials(search_id)
    display.report(console, view, records, comparison_of(view.search, [record.trial for record in records]))
    if view.search.winner:
        display.take_home(console, service.winner_directory(search_id))
    return view.search


@contextmanager
def _told(beside: MlflowBeside, console: Console) -> Iterator[None]:
    """Tell MLflow of the search while it runs, and of its end for a while after it."""
    beside.start()
    seconds = LEAVE_SECONDS
    try:
        yield
        seconds = SEND_SECONDS
    finally:
        if not beside.stop(seconds) and beside.is_telling:
            _say(
                console,
                "MLflow was not told all; it will be by the next nas run, nas serve or nas mlflow sync",
            )


@contextmanager
def _page(settings: Settings, mlflow: str | None) -> Iterator[_Page]:
    """Serve the pages from a process of their own while the search runs here."""
    listen = ("--host", settings.host, "--port", str(settings.port))
    opens = ("--open",) if settings.open else ()
    command = (sys.executable, "-P", "-m", "api", "--page-only", *listen, *opens)
    told = {"NAS_MLFLOW_URL": mlflow} if mlflow and not settings.mlflow_url else {}
    with subprocess.Popen(  # noqa: S603 - the command is ours
        command, env={**os.environ, **told}, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().strip().rpartition(" ")[2]
            if not address:
                raise SearchError("server: the page cannot be served; the reason stands above")
            yield _Page(server=server, address=address)
        finally:
            server.terminate()


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
