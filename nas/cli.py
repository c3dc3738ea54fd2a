"""The script ``nas``: run a search here, serve searches, or talk to a server.

Exit codes: 0 done; 1 it failed; 2 wrong usage or a spec that cannot be run; 130 interrupted. Errors are
lines on stderr that begin with ``error:``.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from minitron.errors import MinitronError
from nas import display
from nas.client import Client, ClientError
from nas.clock import utc_now
from nas.errors import InvalidSettings, InvalidSpec, SearchError
from nas.estimate_rows import estimate_rows
from nas.search import Search, SearchState
from nas.service import resolved
from nas.settings import Settings
from nas.spec import dump, load_spec

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PLAIN_WIDTH = 160
"""Columns where there is no terminal: wide enough that no row of a table is wrapped."""


class _Commands(TyperGroup):
    """Turns the errors of every command into lines and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except (SearchError, MinitronError) as error:
            for line in _lines(error):
                typer.echo(f"error: {line}", err=True)
            code = BAD_INPUT if _is_input(error) else FAILED
        raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Search for the best smaller language model under a budget.",
)
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.")]
SearchId = Annotated[str, typer.Argument(metavar="ID", help="The id of a search.")]
Server = Annotated[str | None, typer.Option(help="Address of the server; default NAS_SERVER_URL.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on; default NAS_HOST.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; default NAS_PORT.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("minitron-nas"))
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def run(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.")] = None,
    *,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with an unfinished search.")] = None,
    serve: Annotated[bool, typer.Option(help="Open the dashboard too, until Ctrl-C.")] = False,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run one search here, to its leaderboard."""
    if (spec is None) == (resume is None):
        raise InvalidSpec((("SPEC", "found neither or both, allowed: a file, or else --resume ID"),))
    task = load_spec(spec) if spec else resume
    assert task is not None
    logging.basicConfig(format="warning: %(message)s")
    from nas import local_run  # the other commands need no database

    try:
        search = local_run.run(task, _settings(host, port), _console(), serves=serve)
    except local_run.Interrupted as interrupted:
        typer.echo(f"go on with: nas run --resume {interrupted.search_id}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _end(search)


@app.command()
def plan(
    spec: SpecFile,
    *,
    device_flops: Annotated[
        float | None,
        typer.Option(
            help="Operations a second that a trial's resources reach; default: as measured earlier."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
) -> None:
    """Say what a search would cost, and whether it can run; nothing is started or stored."""
    from nas import local_run

    found = local_run.plan(load_spec(spec), _settings(None, None), flops_per_second=device_flops)
    if as_json:
        typer.echo(json.dumps(dump(found), indent=1))
    else:
        _console().print(display.estimate_table(estimate_rows(found)))


@app.command()
def gc(
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; otherwise it is only shown.")] = False,
    students: Annotated[
        bool, typer.Option("--students", help="Also students of ended searches that did not win.")
    ] = False,
    cache_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Keep at most so much that searches share; default NAS_CACHE_BYTES."),
    ] = None,
) -> None:
    """Show what takes space below the artifact root and what may go, then delete that if told to."""
    from nas import collect

    settings = _settings(None, None)
    limit = settings.cache_bytes if cache_bytes is None else cache_bytes
    found = collect.collect(settings, cache_bytes=limit, keeps_students=not students)
    display.disk(_console(), settings.artifact_root, found.usage, found.items)
    if delete:
        collect.delete(found.items)
        typer.echo("deleted")
    elif found.items:
        typer.echo("nothing is deleted yet; do so with: nas gc --delete")


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the REST interface and the dashboard, and run the searches that are submitted."""
    settings = _settings(host, port)
    command = [sys.executable, "-P", "-m", "api", "--host", settings.host, "--port", str(settings.port)]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the server takes our place, and our signals


@app.command()
def submit(spec: SpecFile, server: Server = None) -> None:
    """Submit a search to a server and print its id."""
    with _client(server) as client:
        search = client.create(resolved(load_spec(spec))).search
    typer.echo(search.id)


@app.command("list")
def list_searches(
    server: Server = None, limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50
) -> None:
    """List the searches of a server, newest first."""
    with _client(server) as client:
        views = client.list_searches(limit=limit)
    if views:
        _console().print(display.searches_table(views, utc_now()))
    else:
        typer.echo("no searches yet; submit one with: nas submit SPEC")


@app.command()
def show(search_id: SearchId, server: Server = None) -> None:
    """Show a search with its leaderboard."""
    with _client(server) as client:
        _show(client, search_id)


@app.command()
def watch(search_id: SearchId, server: Server = None) -> None:
    """Follow a search until it ends, then show it."""
    with _client(server) as client:
        with display.Narrator(_console(), lambda: client.get(search_id)) as narrator:
            for event in client.events(search_id):
                narrator.tell(event)
        _end(_show(client, search_id))


@app.command()
def cancel(search_id: SearchId, server: Server = None) -> None:
    """Ask for the end of a search; what it measured is kept."""
    with _client(server) as client:
        search = client.cancel(search_id).search
    typer.echo(
        "cancelled" if search.state is SearchState.CANCELLED else "cancelling: its workers are stopping"
    )


@app.command()
def download(
    search_id: SearchId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to make; default winner-ID.")
    ] = None,
    server: Server = None,
) -> None:
    """Download the winner of a search: an ordinary Hugging Face checkpoint directory."""
    directory = output or Path(f"winner-{search_id}")
    with _client(server) as client:
        client.download(search_id, directory)
    display.take_home(_console(), directory)


@app.command()
def push(
    search_id: SearchId,
    *,
    repo: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Where to; default minitron-nas-ID of the token's owner."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only for whom you let in.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and stop.")] = False,
    server: Server = None,
) -> None:
    """Upload the winner of a search, with its card, to the Hugging Face hub."""
    from nas import push as hub

    if not dry_run:
        hub.require_token()
    target = repo or f"{'OWNER' if dry_run else hub.owner()}/minitron-nas-{search_id}"
    with _winner(search_id, server) as directory:
        upload = hub.planned_upload(directory, target, is_private=private)
        _console().print(display.upload(upload), soft_wrap=True)
        address = "" if dry_run else hub.push(upload, f"Winner of search {search_id}")
    typer.echo(address or "dry run: nothing was uploaded")


def main() -> None:
    """Run the command line."""
    app()


def _end(search: Search) -> None:
    """Leave with the exit code of how a search ended; a failure is told last, where it is seen."""
    if search.failure:
        typer.echo(f"error: search {search.id} failed: {search.failure.message}", err=True)
    if search.state is not SearchState.SUCCEEDED:
        raise typer.Exit(FAILED)


def _show(client: Client, search_id: str) -> Search:
    view = client.get(search_id)
    display.report(_console(), view, client.trials(search_id), client.comparison(search_id))
    if view.search.failure and view.search.failure.traceback:
        _console().print(Text(view.search.failure.traceback), soft_wrap=True)
    if view.search.winner:
        _console().print(Text(f"the winner: nas download {search_id}"))
    return view.search


@contextmanager
def _winner(search_id: str, server: str | None) -> Iterator[Path]:
    """Give the winner's directory: the one here, or a copy of the server's for as long as it is needed."""
    settings = Settings()
    if server is None:
        from nas.local_run import local_winner

        here = local_winner(search_id, settings)
        if here is not None:
            yield here
            return
    settings.home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="push-", dir=settings.home) as scratch, _client(server) as client:
        directory = Path(scratch) / "winner"
        client.download(search_id, directory)
        yield directory


def _settings(host: str | None, port: int | None) -> Settings:
    chosen = {"host": host, "port": port}
    return Settings(**{name: value for name, value in chosen.items() if value is not None})


def _client(server: str | None) -> Client:
    return Client(server or Settings().server_url)


def _console() -> Console:
    return Console(
        width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False, emoji=False
    )


def _lines(error: Exception) -> list[str]:
    problems = error.problems if isinstance(error, InvalidSpec | ClientError) else ()
    return [f"{field}: {reason}" for field, reason in problems] or [str(error)]


def _is_input(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.status is not None and error.status in {400, 413, 415, 422}
    return isinstance(error, InvalidSpec | InvalidSettings)
