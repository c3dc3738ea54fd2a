"""The commands of ``nas`` that ask a server about searches; ``cli.py`` joins them to the others."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from nas import display, wording
from nas.admission import resolved
from nas.answers import FoundSearch
from nas.cli_options import Key, Owner, SearchId, Server, SpecFile, Tags, connected, said_to_server
from nas.cli_output import EXIT_CODES, Json, leave, print_json, print_line
from nas.client import Client, pages
from nas.clock import utc_now
from nas.connection import ClientError
from nas.edits import Edit
from nas.errors import InvalidEdit, InvalidOrder, InvalidRequest, NotFound, SearchError
from nas.listing import SearchOrder
from nas.parameters import Archived
from nas.patch import patch_of, patched_spec, refilled
from nas.search import SearchState
from nas.spec import dump, spec_to_json
from nas.tables import searches_table
from nas.text import yaml_of

remote = typer.Typer()
MAX_TRIES = 5
"""Of an edit that others are faster than."""
MOST_AT_ONCE = 200
"""Searches that a server gives at once."""


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
    key: Key = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Submit a search to a server and print its id."""
    said = said_to_server(owner, tags)
    with connected(server) as client:
        search = client.submit(spec, owner=said.owner, tag=said.tags, idempotency_key=key)
    _print_made(search, as_json=as_json)


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
    as_json: Json = False,
    server: Server = None,
) -> None:
    """List the searches of a server that are not archived, newest first."""
    which: dict[str, Any] = {
        "state": state,
        "name": name,
        "parent": parent,
        "created_after": created_after.replace(tzinfo=UTC) if created_after else None,
        "created_before": created_before.replace(tzinfo=UTC) if created_before else None,
        "owner": owner,
        "tag": tags,
        "text": text,
    }
    shelf: Archived = "any" if every else "true" if archived else "false"
    with connected(server) as client:
        asked = pages(
            client.list_searches,
            **which,
            archived=shelf,
            order_by=order_by,
            page_size=min(limit, MOST_AT_ONCE),
        )
        found = list(islice((search for page in asked for search in page.searches), limit))
    if as_json:
        print_json({"searches": [dump(search) for search in found]})
    elif found:
        display.terminal().print(searches_table([search.view for search in found], utc_now()))
    elif archived or every or any(value is not None for value in which.values()):
        typer.echo("no such searches")
    else:
        typer.echo("no searches yet, or all are archived (--all); submit one with: nas submit SPEC")


@remote.command()
def show(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Show a search with its leaderboard."""
    with connected(server) as client:
        if as_json:
            trials = [dump(trial) for trial in client.trials(search_id)]
            print_json(dump(client.get_search(search_id)) | {"trials": trials})
        else:
            _show(client, search_id)


@remote.command()
def watch(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Follow a search until it ends, then show it; the exit code says how it ended.

    With --json each event is one line.
    """
    with connected(server) as client:
        if as_json:
            for event in client.stream_events(search_id):
                print_line(event)
            leave(client.get_search(search_id))
            return
        with display.Narrator(display.terminal(), lambda: client.get_search(search_id).view) as narrator:
            for event in client.stream_events(search_id):
                narrator.tell(event)
        leave(_show(client, search_id))


@remote.command(epilog=EXIT_CODES)
def wait(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Wait in silence until a search ends; the exit code says how: 0 it succeeded, 1 it failed, 3 it was cancelled."""
    with connected(server) as client:
        for _ in client.stream_events(search_id):
            continue
        search = client.get_search(search_id)
    if as_json:
        print_json(search)
    leave(search)


@remote.command()
def logs(
    search_id: SearchId,
    *,
    tail: Annotated[int, typer.Option(min=1, help="At most this many lines.")] = 100,
    trial: Annotated[int | None, typer.Option(min=0, help="All that one attempt of this trial said.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which; by default the last.")] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Print the end of the log of a search's worker, or the log of one attempt of a trial."""
    if trial is None and attempt is not None:
        raise InvalidOrder((("attempt", "found without --trial, allowed: both"),))
    with connected(server) as client:
        if trial is not None:
            _print_attempt(client, search_id, trial, attempt, as_json=as_json)
            return
        found = client.get_log(search_id, tail=tail)
    if as_json:
        print_json(found)
        return
    if found.source == "failure":
        typer.echo("as stored with the failure; the log itself is on another machine", err=True)
    for line in found.lines:
        typer.echo(line)


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
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Say what a search is about, at any time, and print what is said of it."""
    if not tags and not untags and (notes, owner, archive) == (None, None, None):
        allowed = "--tag, --untag, --notes, --owner, --archive, --unarchive"
        raise InvalidEdit((("edit", f"found nothing to say, allowed: {allowed}"),))
    said = Edit(owner=owner, notes=_from_stdin() if notes == "-" else notes, archived=archive)
    with connected(server) as client:
        if tags or untags:
            search = _retagged(client, search_id, said, tags or (), untags or ())
        else:
            search = client.edit_search(search_id, said)
    if as_json:
        print_json(search)
    else:
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
    key: Key = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Submit a search like another, with some fields changed, and print its id.

    Relative paths count from here, as in a spec that is submitted.
    """
    patch, said = patch_of(assignments or []), said_to_server(owner, tags)
    with connected(server) as client:
        spec = spec_to_json(resolved(patched_spec(client.get_search(search_id).spec, patch)))
        if output is None:
            search = client.clone_search(
                search_id, refilled(patch, spec), owner=said.owner, tag=said.tags, idempotency_key=key
            )
            _print_made(search, as_json=as_json)
            return
    _write_new(output, yaml_of(spec))
    if as_json:
        print_json({"output": str(output), "spec": spec})


def _print_made(search: FoundSearch, *, as_json: bool) -> None:
    if as_json:
        print_json(search)
    else:
        typer.echo(search.id)


def _retagged(
    client: Client, search_id: str, said: Edit, added: Sequence[str], removed: Sequence[str]
) -> FoundSearch:
    """Edit a search and its tags; those that others change meanwhile stay as they say."""
    for left in reversed(range(MAX_TRIES)):
        search = client.get_search(search_id)
        tags = (*(tag for tag in search.tags if tag not in removed), *added)
        try:
            return client.edit_search(search_id, replace(said, tags=tags), if_match=search.etag)
        except ClientError as error:
            if error.code != "stale_version" or not left:
                raise
    raise AssertionError


def _print_attempt(
    client: Client, search_id: str, number: int, attempt: int | None, *, as_json: bool
) -> None:
    """Print what one attempt of a trial said: whole, or as JSON a part of it a line."""
    trials = {each.number: len(each.attempts) for each in client.trials(search_id)}
    if number not in trials:
        last = f"0 to {max(trials)}" if trials else "none yet"
        raise InvalidRequest("trial", f"found {number}, allowed: {last}")
    if not trials[number]:
        raise NotFound(f"search {search_id}: trial {number}: no worker has begun it yet")
    for part in client.attempt_log(search_id, number, attempt or trials[number]):
        if as_json:
            print_line(part)
        else:
            typer.echo(part.text, nl=False)


def _from_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidEdit((("notes", "found bytes that are not UTF-8, allowed: Markdown"),)) from None


def _show(client: Client, search_id: str) -> FoundSearch:
    search, console = client.get_search(search_id), display.terminal()
    records = [trial.record for trial in client.trials(search_id)]
    display.report(console, search.view, records, search.comparison)
    display.evidence(console, search)
    if search.disk_bytes:
        console.print(
            Text(f"its files take {wording.in_bytes(search.disk_bytes)}; see nas gc"), soft_wrap=True
        )
    if search.winner:
        console.print(Text(f"the winner: nas download {search_id}"), soft_wrap=True)
    for line in wording.in_mlflow(search.mlflow_standing):
        console.print(Text(line), soft_wrap=True)
    return search


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SearchError(f"output: {path}: exists, allowed: a file that does not") from None
    except OSError as error:
        raise SearchError(f"output: {path}: {error.strerror}") from error
