"""The commands of ``nas`` for searches under way; ``cli.py`` joins them to the others."""

import json
from typing import Annotated, Any

import typer

from nas.axes import AXIS_NAMES
from nas.client import Client
from nas.control import parse_limits, parse_sizes
from nas.errors import InvalidOrder
from nas.patch import patch_of
from nas.search import Search, SearchState
from nas.settings import Settings
from nas.spec import dump
from nas.standing import SearchView

control = typer.Typer()
SearchId = Annotated[str, typer.Argument(metavar="ID", help="The id of a search.")]
Server = Annotated[str | None, typer.Option(help="Address of the server; default NAS_SERVER_URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print the search as JSON.")]


@control.command()
def pause(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Give back what a search uses and leave it alone; it goes on later as if nothing had been."""
    with _client(server) as client:
        view = client.pause_search(search_id, by=_by())
    is_done = view.search.state is SearchState.PAUSED
    _print(view, "paused" if is_done else "pausing: its workers are stopping", as_json=as_json)


@control.command()
def resume(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Queue a paused search again."""
    with _client(server) as client:
        view = client.resume_search(search_id, by=_by())
    _print(view, view.waiting.text if view.waiting else "goes on", as_json=as_json)


@control.command()
def kill(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """End a search now, whatever its workers do; nas cancel ends it in order. What it measured is kept."""
    with _client(server) as client:
        view = client.kill_search(search_id, by=_by())
    _print(view, "killed", as_json=as_json)


@control.command()
def extend(
    search_id: SearchId,
    *,
    num_trials: Annotated[int | None, typer.Option(help="Architectures to try in all.")] = None,
    max_parallel: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Let a search try more or fewer architectures, or more or fewer at a time; its spec stays as it was asked."""
    given = {"num_trials": num_trials, "max_parallel": max_parallel}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        raise InvalidOrder((("limits", "found nothing to change, allowed: --num-trials, --max-parallel"),))
    parse_limits(limits)
    with _client(server) as client:
        view = client.extend_search(search_id, **limits, by=_by())
    spec = view.search.spec_by_now
    _print(view, f"{spec.num_trials} trials, {spec.max_parallel} at a time", as_json=as_json)


@control.command()
def enqueue(
    search_id: SearchId,
    sizes: Annotated[
        list[str],
        typer.Argument(metavar="AXIS=SIZE...", help=f"Sizes of the searched axes: {', '.join(AXIS_NAMES)}."),
    ],
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Have an architecture of your own tried before the next proposal."""
    wanted = parse_sizes(patch_of(sizes))
    with _client(server) as client:
        view = client.enqueue_architecture(search_id, wanted, by=_by())
    _print(view, f"enqueued: {view.search.orders.enqueued[-1].architecture.name}", as_json=as_json)


@control.command("stop-trial")
def stop_trial(
    search_id: SearchId,
    number: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The number of a trial.")],
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """End one trial; the search goes on without it."""
    with _client(server) as client:
        view = client.stop_trial(search_id, number, by=_by())
    _print(view, f"trial {number} is stopped, or will be at its next report", as_json=as_json)


def _by() -> str:
    return Settings().owner


def _client(server: str | None) -> Client:
    return Client(server or Settings().server_url)


def _print(view: SearchView, words: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(_told(view.search, view), indent=1) if as_json else words)


def _told(search: Search, view: SearchView) -> dict[str, Any]:
    """Return what programs want to know after an order."""
    told = dump(search)
    return {
        "id": search.id,
        "state": told["state"],
        "cancel_requested": told["cancel_requested"],
        "orders": told["orders"],
        "waiting": dump(view.waiting) if view.waiting else None,
    }
