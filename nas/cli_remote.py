"""The commands of ``nas`` that talk to a server; ``cli.py`` joins them to those that need none."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.text import Text

from nas import display, wording
from nas.admission import resolved
from nas.client import Client
from nas.clock import utc_now
from nas.connection import ClientError
from nas.edits import Edit
from nas.errors import InvalidEdit, SearchError
from nas.listing import SearchFilter, SearchOrder
from nas.patch import patch_of, patched_spec, refilled
from nas.search import Search, SearchState
from nas.settings import Settings
from nas.spec import load_spec, spec_to_json
from nas.text import yaml_of

FAILED = 1
"""Exit code of a command that did not do what was asked."""

remote = typer.Typer()
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.")]
SearchId = Annotated[str, typer.Argument(metavar="ID", help="The id of a search.")]
Server = Annotated[str | None, typer.Option(help="Address of the server; default NAS_SERVER_URL.")]
Key = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Submit once under this key, however often it is called.")
]
Owner = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose it is; default NAS_OWNER, else the login name.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="WORD", help="A word to find it by; may be given again.")
]
MAX_TRIES = 5
"""Of an edit that others are faster than."""
UNARCHIVED = SearchFilter(archived=False)


def _filter(which: str) -> Any:
    return typer.Option(help=f"Only searches {which}.", case_sensitive=False)


def _time(which: str) -> Any:
    formats = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
    return typer.Option(help=f"Only searches created {which} (UTC).", formats=formats)


@remote.command()
def submit(
    spec: SpecFile,
    *,
    owner: Owner = None,
    tags: Tags = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Submit a search to a server and print its id."""
    said = said_at_first(owner, tags)
    with _client(server) as client:
        search = client.create(resolved(load_spec(spec)), said=said, key=key).search
    typer.echo(search.id)


@remote.command("list")
def list_searches(
    *,
    state: Annotated[list[SearchState] | None, _filter("in this state; may be given again")] = None,
    name: Annotated[str | None, _filter("with this in their name")] = None,
    parent: Annotated[str | None, _filter("with this in their parent")] = None,
    created_after: Annotated[datetime | None, _time("at this time or later")] = None,
    created_before: Annotated[datetime | None, _time("before this time")] = None,
    owner: Annotated[str | None, _filter("of this owner, by the whole name")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Only searches with all of these.")] = None,
    text: Annotated[str | None, _filter("with this in their name or notes")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Only archived searches.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Archived searches too.")] = False,
    order_by: Annotated[SearchOrder, typer.Option(help="A minus puts the last first.")] = SearchOrder.NEWEST,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    server: Server = None,
) -> None:
    """List the searches of a server that are not archived, newest first."""
    which = SearchFilter(
        owner=owner,
        tags=tuple(tags) if tags else None,
        text=text,
        archived=None if every else archived,
        states=tuple(state) if state else None,
        name=name,
        parent=parent,
        created_after=created_after.replace(tzinfo=UTC) if created_after else None,
        created_before=created_before.replace(tzinfo=UTC) if created_before else None,
    )
    with _client(server) as client:
        views = client.list_searches(which, order=order_by, limit=limit)
    if views:
        display.terminal().print(display.searches_table(views, utc_now()))
    elif which != UNARCHIVED:
        typer.echo("no such searches")
    else:
        typer.echo("no searches yet, or all are archived (--all); submit one with: nas submit SPEC")


@remote.command()
def show(search_id: SearchId, server: Server = None) -> None:
    """Show a search with its leaderboard."""
    with _client(server) as client:
        _show(client, search_id)


@remote.command()
def watch(search_id: SearchId, server: Server = None) -> None:
    """Follow a search until it ends, then show it."""
    with _client(server) as client:
        with display.Narrator(display.terminal(), lambda: client.get(search_id)) as narrator:
            for event in client.events(search_id):
                narrator.tell(event)
        leave(_show(client, search_id))


@remote.command()
def logs(
    search_id: SearchId,
    *,
    tail: Annotated[int, typer.Option(min=1, help="At most this many lines.")] = 100,
    server: Server = None,
) -> None:
    """Print the end of the log of a search's worker."""
    with _client(server) as client:
        found = client.log(search_id, num_lines=tail)
    if found.source == "failure":
        typer.echo("as stored with the failure; the log itself is on another machine", err=True)
    for line in found.lines:
        typer.echo(line)


@remote.command()
def cancel(search_id: SearchId, server: Server = None) -> None:
    """Ask for the end of a search; what it measured is kept."""
    with _client(server) as client:
        search = client.cancel(search_id).search
    typer.echo(
        "cancelled" if search.state is SearchState.CANCELLED else "cancelling: its workers are stopping"
    )


@remote.command()
def edit(
    search_id: SearchId,
    *,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="WORD", help="Tag it; may be given again.")
    ] = None,
    untags: Annotated[
        list[str] | None, typer.Option("--untag", metavar="WORD", help="Take a tag away; may be given again.")
    ] = None,
    notes: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Markdown in place of its notes; - reads it from stdin."),
    ] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Whose it is.")] = None,
    archive: Annotated[
        bool | None, typer.Option("--archive/--unarchive", help="Leave it out of lists, or not.")
    ] = None,
    server: Server = None,
) -> None:
    """Say what a search is about, at any time, and print what is said of it."""
    if not tags and not untags and (notes, owner, archive) == (None, None, None):
        allowed = "--tag, --untag, --notes, --owner, --archive, --unarchive"
        raise InvalidEdit((("edit", f"found nothing to say, allowed: {allowed}"),))
    said = Edit(owner=owner, notes=_from_stdin() if notes == "-" else notes, archived=archive)
    with _client(server) as client:
        if tags or untags:
            search = _retagged(client, search_id, said, tags or (), untags or ())
        else:
            search = client.edit(search_id, said).search
    typer.echo("; ".join(wording.said(search)) or "nobody says anything of it")


@remote.command()
def clone(
    search_id: SearchId,
    *,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value, as seed=1; may be given again."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the spec to this file; submit nothing.")
    ] = None,
    owner: Owner = None,
    tags: Tags = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Submit a search like another, with some fields changed, and print its id.

    Relative paths count from here, as in a spec that is submitted.
    """
    patch, said = patch_of(assignments or []), said_at_first(owner, tags)
    with _client(server) as client:
        spec = spec_to_json(resolved(patched_spec(client.get(search_id).search.spec, patch)))
        if output is None:
            typer.echo(client.clone(search_id, refilled(patch, spec), said=said, key=key).search.id)
            return
    _write_new(output, yaml_of(spec))


@remote.command()
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
    display.take_home(display.terminal(), directory)


@remote.command()
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
        display.terminal().print(display.upload(upload), soft_wrap=True)
        address = "" if dry_run else hub.push(upload, f"Winner of search {search_id}")
    typer.echo(address or "dry run: nothing was uploaded")


def said_at_first(owner: str | None, tags: Sequence[str] | None) -> Edit:
    """Return what is said of a search that is submitted here."""
    return Edit(owner=Settings().owner if owner is None else owner, tags=tuple(tags or ()))


def leave(search: Search) -> None:
    """Leave with the exit code of how a search ended; a failure is told last, where it is seen."""
    if search.failure:
        typer.echo(f"error: search {search.id} failed: {search.failure.message}", err=True)
    if search.state is not SearchState.SUCCEEDED:
        raise typer.Exit(FAILED)


def _client(server: str | None) -> Client:
    return Client(server or Settings().server_url)


def _retagged(
    client: Client, search_id: str, said: Edit, added: Sequence[str], removed: Sequence[str]
) -> Search:
    """Edit a search and its tags; those that others change meanwhile stay as they say."""
    for left in reversed(range(MAX_TRIES)):
        search = client.get(search_id).search
        tags = (*(tag for tag in search.tags if tag not in removed), *added)
        try:
            return client.edit(search_id, replace(said, tags=tags), version=search.version).search
        except ClientError as error:
            if error.code != "stale_version" or not left:
                raise
    raise AssertionError


def _from_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidEdit((("notes", "found bytes that are not UTF-8, allowed: Markdown"),)) from None


def _show(client: Client, search_id: str) -> Search:
    view = client.get(search_id)
    display.report(display.terminal(), view, client.trials(search_id), client.comparison(search_id))
    display.evidence(display.terminal(), view.search)
    if taken := client.disk_bytes(search_id):
        display.terminal().print(Text(f"its files take {wording.in_bytes(taken)}; see nas gc"))
    if view.search.winner:
        display.terminal().print(Text(f"the winner: nas download {search_id}"))
    for line in wording.in_mlflow(client.mlflow_standing(search_id)):
        display.terminal().print(Text(line), soft_wrap=True)
    return view.search


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SearchError(f"output: {path}: exists, allowed: a file that does not") from None
    except OSError as error:
        raise SearchError(f"output: {path}: {error.strerror}") from error


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
