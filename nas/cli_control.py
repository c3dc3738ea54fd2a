"""The commands of ``nas`` for searches under way; ``cli.py`` joins them to the others."""

from pathlib import Path
from typing import Annotated

import typer

from nas.answers import FoundSearch
from nas.axes import AXIS_NAMES
from nas.cli_options import SearchId, Server, connected
from nas.cli_output import Json, print_json
from nas.control import parse_limits, parse_sizes
from nas.errors import InvalidOrder
from nas.patch import merge, patch_of
from nas.promotion_asked import read_promotion
from nas.search import SearchState
from nas.settings import Settings
from nas.text import text_in

control = typer.Typer()


@control.command()
def pause(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Give back what a search uses and leave it alone; it goes on later as if nothing had been."""
    with connected(server) as client:
        found = client.pause_search(search_id, by=_by())
    is_done = found.state is SearchState.PAUSED
    _print(found, "paused" if is_done else "pausing: its workers are stopping", as_json=as_json)


@control.command()
def resume(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Queue a paused search again."""
    with connected(server) as client:
        found = client.resume_search(search_id, by=_by())
    _print(found, found.waiting.text if found.waiting else "goes on", as_json=as_json)


@control.command()
def cancel(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """Ask for the end of a search; what it measured is kept."""
    with connected(server) as client:
        found = client.cancel_search(search_id, by=_by())
    is_done = found.state is SearchState.CANCELLED
    _print(found, "cancelled" if is_done else "cancelling: its workers are stopping", as_json=as_json)


@control.command()
def kill(search_id: SearchId, *, as_json: Json = False, server: Server = None) -> None:
    """End a search now, whatever its workers do; nas cancel ends it in order. What it measured is kept."""
    with connected(server) as client:
        found = client.kill_search(search_id, by=_by())
    _print(found, "killed", as_json=as_json)


@control.command()
def extend(
    search_id: SearchId,
    *,
    num_trials: Annotated[int | None, typer.Option(help="Architectures to try in all.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Training tokens of all these architectures together.")
    ] = None,
    max_parallel: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Let a search try more or fewer architectures, on more or fewer tokens, or at a time; its spec stays as it was asked."""
    given = {"num_trials": num_trials, "max_tokens": max_tokens, "max_parallel": max_parallel}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        allowed = "--num-trials, --max-tokens, --max-parallel"
        raise InvalidOrder((("limits", f"found nothing to change, allowed: {allowed}"),))
    parse_limits(limits)
    with connected(server) as client:
        found = client.extend_search(search_id, **limits, by=_by())
    spec = found.spec_by_now
    tokens = "" if spec.max_tokens is None else f", {spec.max_tokens:,} tokens"
    _print(found, f"{spec.num_trials} trials{tokens}, {spec.max_parallel} at a time", as_json=as_json)


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
    with connected(server) as client:
        found = client.enqueue_architecture(search_id, wanted, by=_by())
    asked = (each.architecture for each in reversed(found.orders.enqueued))
    name = next(each.name for each in asked if all(getattr(each, axis) == wanted[axis] for axis in wanted))
    _print(found, f"enqueued: {name}", as_json=as_json)


@control.command("stop-trial")
def stop_trial(
    search_id: SearchId,
    number: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The number of a trial.")],
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """End one trial; the search goes on without it."""
    with connected(server) as client:
        found = client.stop_trial(search_id, number, by=_by())
    _print(found, f"trial {number} is stopped, or will be at its next report", as_json=as_json)


@control.command()
def promote(
    search_id: SearchId,
    number: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The number of a completed trial.")],
    *,
    tokens: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="How long it is trained, such as 2_000_000 or 2e6.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Changes to how the spec promotes, in YAML or JSON: training, distillation, ...",
        ),
    ] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Retrain a trial's student for longer, also after its search: as the spec says, or as is said here."""
    patch = read_promotion(text_in(recipe)) if recipe is not None else {}
    if tokens is not None:
        patch = merge(patch, patch_of([f"training.num_tokens={tokens}"]))
    with connected(server) as client:
        found = client.promote_trial(search_id, number, patch or None, by=_by())
    _print(found, f"trial {number} is promoted: {_when(found)}", as_json=as_json)


def _when(found: FoundSearch) -> str:
    if found.state.is_final:
        return "that was done already"
    if found.waiting:
        return found.waiting.text
    return "once the search's own trials are done" if not found.ended_as else "next"


def _by() -> str:
    return Settings().owner


def _print(found: FoundSearch, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(words)
