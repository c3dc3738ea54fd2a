"""The commands of ``nas`` for what was measured over all searches: history, compare, export."""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from minitron.files import new_file
from nas import display
from nas.axes import AXIS_NAMES
from nas.cli_options import SearchId, Server, connected
from nas.cli_output import Json, print_json
from nas.client import pages
from nas.clock import utc_now
from nas.display_history import comparison, history_table, parents_table
from nas.errors import InvalidRequest
from nas.exports import Format
from nas.history import HistoryOrder
from nas.parameters import Archived
from nas.spec import dump
from nas.tables import FittedTable

history_commands = typer.Typer()
MOST_AT_ONCE, MOST_PARENTS = 500, 200
"""That a server gives at once."""
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
    form: Annotated[
        Format | None, typer.Option("--format", help="Print all of them, as a table for other programs.")
    ] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """List what was ever measured, over all searches, newest first."""
    shelf: Archived = "any" if every else "false"
    searches: dict[str, Any] = {
        "parent": parent,
        "owner": owner,
        "tag": tags,
        "text": text,
        "archived": shelf,
    }
    which: dict[str, Any] = {
        **searches,
        "search": search,
        "parent_key": parent_key,
        "data_key": data_key,
        "recipe_key": recipe_key,
        "architecture": architecture,
        "axis": [_between(each) for each in axis or ()] or None,
        "min_parameters": min_parameters,
        "max_parameters": max_parameters,
        "max_loss": max_loss,
        "measured_after": after.replace(tzinfo=UTC) if after else None,
        "measured_before": before.replace(tzinfo=UTC) if before else None,
        "partial": "false" if whole else "any",
        "order_by": order_by,
    }
    with connected(server) as client:
        if form:
            _print(client.export_history(**which, format=form))
        elif parents:
            listed = client.list_parents(**searches, page_size=MOST_PARENTS)
            if as_json:
                print_json(listed)
            else:
                _show(parents_table(listed.parents, utc_now()), is_empty=not listed.parents)
        else:
            asked = pages(client.list_history, **which, page_size=min(limit, MOST_AT_ONCE))
            found = list(islice((each for page in asked for each in page.measurements), limit))
            if as_json:
                print_json({"measurements": [dump(each) for each in found]})
            else:
                _show(history_table([each.entry for each in found], utc_now()), is_empty=not found)


@history_commands.command()
def compare(
    searches: Annotated[list[str], typer.Argument(metavar="ID...", help="Two to eight searches.")],
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Show searches side by side: what was asked otherwise, what each found, whether their losses compare."""
    with connected(server) as client:
        found = client.compare_searches(searches)
    if as_json:
        print_json(found)
    else:
        comparison(display.terminal(), found.side_by_side)


@history_commands.command()
def export(
    search_id: SearchId,
    *,
    rows: Annotated[Rows, typer.Option(help="What has a row of its own.")] = Rows.TRIALS,
    form: FormatOption = Format.CSV,
    output: Output = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Print the trials of a search, or their points, as CSV or JSON lines; --json is --format jsonl."""
    form = Format.JSONL if as_json else form
    with connected(server) as client:
        pieces = client.export_search(search_id, rows=rows.value, format=form)
        if output is None:
            _print(pieces)
            return
        if output.exists():
            raise InvalidRequest("output", f"found {output}, which exists, allowed: a file that does not")
        with new_file(output) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)


def _print(pieces: Iterator[str]) -> None:
    """Print a table as it arrives, its line ends as they are."""
    for piece in pieces:
        sys.stdout.buffer.write(piece.encode())
    sys.stdout.buffer.flush()


def _show(table: FittedTable, *, is_empty: bool) -> None:
    if is_empty:
        typer.echo("nothing of the kind was measured")
    else:
        display.terminal().print(table)


def _between(text: str) -> str:
    """Return sizes on an axis as REST asks for them."""
    name, _, sizes = text.partition("=")
    if name not in AXIS_NAMES or not re.fullmatch(r"[0-9]{0,18}\.\.[0-9]{0,18}", sizes):
        allowed = f"AXIS=LEAST..MOST with AXIS of {', '.join(AXIS_NAMES)}"
        raise InvalidRequest("axis", f"found {text!r}, allowed: {allowed}")
    return f"{name}:{sizes}"
