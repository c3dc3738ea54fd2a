"""The commands of ``nas`` for what was measured over all searches: history, compare, export."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from minitron.files import new_file
from nas import display
from nas.axes import AXIS_NAMES, AxisName
from nas.cli_remote import SearchId, Server
from nas.client import Client
from nas.clock import utc_now
from nas.display_history import comparison, history_table, parents_table
from nas.errors import InvalidRequest
from nas.exports import Format
from nas.history import Between, HistoryFilter, HistoryOrder
from nas.listing import SearchFilter
from nas.settings import Settings
from nas.spec import dump

history_commands = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file, which must not exist yet.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="CSV with a heading, or JSON lines.")]


class Rows(StrEnum):
    """What has a row of its own in a table."""

    TRIALS = "trials"
    POINTS = "points"


def _only(which: str) -> Any:
    return typer.Option(help=f"Only those {which}.")


def _time(which: str) -> Any:
    formats = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
    return typer.Option(help=f"Only those measured {which} (UTC).", formats=formats)


@history_commands.command()
def history(
    *,
    parents: Annotated[bool, typer.Option("--parents", help="List parents, not measurements.")] = False,
    parent: Annotated[str | None, _only("with this in the name of their parent")] = None,
    parent_key: Annotated[str | None, _only("of the parent with this key")] = None,
    data_key: Annotated[str | None, _only("on the data with this key")] = None,
    recipe_key: Annotated[str | None, _only("by the recipe with this key")] = None,
    architecture: Annotated[str | None, _only("of this shape, by its whole name")] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=LEAST..MOST", help="Only such sizes, as num_layers=4..6 or hidden_size=..512."
        ),
    ] = None,
    search: Annotated[str | None, _only("of this search")] = None,
    owner: Annotated[str | None, _only("of this owner's searches, by the whole name")] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="Only of searches with all of these.")
    ] = None,
    text: Annotated[str | None, _only("of searches with this in their name or notes")] = None,
    min_parameters: Annotated[int | None, _only("of at least so many parameters")] = None,
    max_parameters: Annotated[int | None, _only("of at most so many parameters")] = None,
    max_loss: Annotated[float | None, _only("of at most this loss")] = None,
    after: Annotated[datetime | None, _time("at this time or later")] = None,
    before: Annotated[datetime | None, _time("before this time")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Only those that came to their last rung.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Of archived searches too.")] = False,
    order_by: Annotated[
        HistoryOrder, typer.Option(help="A minus puts the greatest first.")
    ] = HistoryOrder.NEWEST,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """List what was ever measured, over all searches, newest first."""
    searches = SearchFilter(
        parent=parent,
        owner=owner,
        tags=tuple(tags) if tags else None,
        text=text,
        archived=None if every else False,
    )
    which = HistoryFilter(
        searches=searches,
        search_id=search,
        parent_key=parent_key,
        data_key=data_key,
        recipe_key=recipe_key,
        architecture=architecture,
        axes=tuple(_between(each) for each in axis or ()),
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        max_loss=max_loss,
        after=after.replace(tzinfo=UTC) if after else None,
        before=before.replace(tzinfo=UTC) if before else None,
        partial=False if whole else None,
    )
    with _client(server) as client:
        if parents:
            found: list[Any] = client.list_parents(searches)
            shown = parents_table(found, utc_now())
        else:
            found = list(client.list_history(which, order=order_by, limit=limit))
            shown = history_table(found, utc_now())
    if as_json:
        typer.echo(json.dumps([dump(each) for each in found], indent=1))
    elif found:
        display.terminal().print(shown)
    else:
        typer.echo("nothing of the kind was measured")


@history_commands.command()
def compare(
    searches: Annotated[list[str], typer.Argument(metavar="ID...", help="Two to eight searches.")],
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Show searches side by side: what was asked otherwise, what each found, whether their losses compare."""
    with _client(server) as client:
        found = client.compare_searches(searches)
    if as_json:
        typer.echo(json.dumps(dump(found), indent=1))
    else:
        comparison(display.terminal(), found)


@history_commands.command()
def export(
    search_id: SearchId,
    *,
    rows: Annotated[Rows, typer.Option(help="What has a row of its own.")] = Rows.TRIALS,
    form: FormatOption = Format.CSV,
    output: Output = None,
    server: Server = None,
) -> None:
    """Print the trials of a search, or their points, as CSV or JSON lines."""
    with _client(server) as client:
        pieces = client.export_search(search_id, rows=rows.value, form=form)
        # What cannot be had is told before there is a file.
        pieces = chain([next(pieces, b"")], pieces)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        if output.exists():
            raise InvalidRequest("output", f"found {output}, which exists, allowed: a file that does not")
        with new_file(output) as scratch, scratch.open("wb") as file:
            file.writelines(pieces)


def _between(text: str) -> tuple[AxisName, Between]:
    name, _, sizes = text.partition("=")
    least, dots, most = sizes.partition("..")
    is_whole = all(part == "" or (part.isascii() and part.isdecimal()) for part in (least, most))
    found = next((each for each in AXIS_NAMES if each == name), None)
    if found is None or not dots or not is_whole:
        allowed = f"AXIS=LEAST..MOST with AXIS of {', '.join(AXIS_NAMES)}"
        raise InvalidRequest("axis", f"found {text!r}, allowed: {allowed}")
    return found, Between(least=int(least) if least else None, most=int(most) if most else None)


def _client(server: str | None) -> Client:
    return Client(server or Settings().server_url)
