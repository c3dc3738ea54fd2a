"""The command of ``nas`` that tells what a search found, what it cost and what it teaches."""

import io
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from minitron.files import new_file
from nas import display
from nas.cli_options import SearchId, Server, connected
from nas.cli_output import Json, print_json
from nas.display_report import print_report
from nas.errors import InvalidRequest
from nas.report import SearchReport
from nas.report_page import report_page
from nas.settings import Settings
from nas.spec import dump
from nas.tables import PLAIN_WIDTH

report_commands = typer.Typer()


class ReportFormat(StrEnum):
    """How a report is told."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


@report_commands.command()
def report(
    search_id: SearchId,
    *,
    form: Annotated[
        ReportFormat,
        typer.Option(
            "--format", help="Text, JSON in REST's words, or one HTML file that needs nothing else."
        ),
    ] = ReportFormat.TEXT,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to this file, which must not exist yet; HTML default report-ID.html.",
        ),
    ] = None,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Tell what a search found, what it cost and what it teaches, with figures as HTML."""
    if as_json and form is ReportFormat.HTML:
        raise InvalidRequest("format", "found html with --json, allowed: one of the two")
    if form is ReportFormat.HTML:
        output = output or Path(f"report-{search_id}.html")
    if output is not None and output.exists():
        raise InvalidRequest("output", f"found {output}, which exists, allowed: a file that does not")
    found = _report(search_id, server)
    form = ReportFormat.JSON if as_json else form
    if output is not None:
        with new_file(output) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            file.writelines(_written(found, form))
        typer.echo(f"the report: {output}", err=as_json)
    elif form is ReportFormat.JSON:
        print_json(found)
    else:
        print_report(display.terminal(), found)


def _written(found: SearchReport, form: ReportFormat) -> Iterator[str]:
    """Yield a report as it is written to a file."""
    if form is ReportFormat.HTML:
        yield from report_page(found)
    elif form is ReportFormat.JSON:
        yield json.dumps(dump(found), indent=1) + "\n"
    else:
        plain = Console(file=io.StringIO(), width=PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
        with plain.capture() as captured:
            print_report(plain, found)
        yield captured.get()


def _report(search_id: str, server: str | None) -> SearchReport:
    """Return the report of a search that is here, else the server's."""
    if server is None:
        from nas.local_run import local_report

        here = local_report(search_id, Settings())
        if here is not None:
            return here
    with connected(server) as client:
        return client.get_report(search_id)
