"""The script ``nas``: run a search here, serve searches, or talk to a server.

Errors are lines on stderr that begin with ``error:``, or with ``--json`` one JSON object; its exit codes are those of
``cli_output``.
"""

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from nas import cli_admin, cli_mlflow, display
from nas.accounts import DEFAULT_WORKSPACE
from nas.cli_complete import spec_files
from nas.cli_control import control
from nas.cli_history import history_commands
from nas.cli_options import Owner, SearchId, SpecFile, Tags, said_at_first
from nas.cli_output import (
    EXIT_CODES,
    INTERRUPTED,
    Json,
    Told,
    exit_code,
    leave,
    print_error,
    print_json,
    print_line,
)
from nas.cli_remote import remote
from nas.cli_report import report_commands
from nas.cli_winner import winner
from nas.errors import InvalidSpec
from nas.estimate_rows import estimate_rows
from nas.settings import Settings
from nas.spec import dump, load_spec
from nas.tables import estimate_table


class _Commands(TyperGroup):
    """Turns the errors of every command into lines and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except Told as error:
            print_error(ctx, error)
            code = exit_code(error)
        raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Search for the best smaller language model under a budget.",
    epilog=f"NAS_SERVER_URL names the server that commands ask, NAS_TOKEN is the token that it wants. {EXIT_CODES}",
)
Host = Annotated[str | None, typer.Option(help="Address to listen on; default NAS_HOST.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; default NAS_PORT.")]
Open = Annotated[
    bool,
    typer.Option("--open", help="Let other machines in, without accounts; default NAS_OPEN."),
]


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
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.", autocompletion=spec_files),
    ] = None,
    *,
    owner: Owner = None,
    tags: Tags = None,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with an unfinished search.")] = None,
    serve: Annotated[bool, typer.Option(help="Open the dashboard too, until Ctrl-C.")] = False,
    host: Host = None,
    port: Port = None,
    opens: Open = False,
    as_json: Json = False,
) -> None:
    """Run one search here, to its leaderboard; with --json each event is one line."""
    if (spec is None) == (resume is None):
        raise InvalidSpec((("SPEC", "found neither or both, allowed: a file, or else --resume ID"),))
    task = load_spec(spec) if spec else resume
    assert task is not None
    if resume and (tags or owner is not None):
        raise InvalidSpec((("resume", "found --owner or --tag too, allowed: nas edit, for what is there"),))
    said = said_at_first(owner, tags) if spec else None
    logging.basicConfig(format="warning: %(message)s")
    from nas import local_run  # the other commands need no database

    try:
        settings = _settings(host=host, port=port, open=opens or None)
        console, tell = (Console(quiet=True), print_line) if as_json else (display.terminal(), None)
        search = local_run.run(task, settings, console, serves=serve, said=said, tell=tell)
    except local_run.Interrupted as interrupted:
        typer.echo(f"go on with: nas run --resume {interrupted.search_id}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    leave(search)


@app.command()
def plan(
    spec: SpecFile,
    *,
    device_flops: Annotated[
        float | None,
        typer.Option(
            help="Operations a second that each process of a trial reaches; default NAS_DEVICE_FLOPS, else as "
            "measured earlier."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a search would cost, and whether it can run; nothing is started or stored."""
    from nas import local_run

    found = local_run.plan(load_spec(spec), _settings(device_flops=device_flops))
    if as_json:
        print_json(found)
    else:
        display.terminal().print(estimate_table(estimate_rows(found)))


@app.command()
def study(
    search_id: SearchId,
    *,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="An Optuna storage; default NAS_OPTUNA_STORAGE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write or complete the Optuna study of a search that runs or ran here, and say how to open it."""
    from nas import local_run

    url, num_trials = local_run.write_study(search_id, _settings(optuna_storage=storage))
    if as_json:
        print_json({"study_name": search_id, "storage": url, "num_trials": num_trials})
    else:
        display.study(display.terminal(), search_id, url, num_trials)


@app.command()
def gc(
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; otherwise it is only shown.")] = False,
    students: Annotated[
        bool,
        typer.Option(
            "--students",
            help="Also students of ended searches that did not win and were not promoted, and earlier winners.",
        ),
    ] = False,
    cache_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Keep at most so much that searches share; default NAS_CACHE_BYTES."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what takes space below the artifact root and what may go, then delete that if told to."""
    from nas import collect

    settings = _settings()
    limit = settings.cache_bytes if cache_bytes is None else cache_bytes
    found = collect.collect(settings, cache_bytes=limit, keeps_students=not students)
    if not as_json:
        display.disk(display.terminal(), settings.artifact_root, found.usage, found.items)
    remaining = collect.delete(found.items) if delete else found.items
    num_deleted = len(found.items) - len(remaining)
    if as_json:
        told = {"artifact_root": str(settings.artifact_root), "usage": dump(found.usage)}
        print_json(told | {"items": [dump(item) for item in found.items], "num_deleted": num_deleted})
    elif delete:
        typer.echo(f"deleted {num_deleted} of {len(found.items)}")
    elif found.items:
        typer.echo("nothing is deleted yet; do so with: nas gc --delete")
    for item in remaining if delete else ():
        typer.echo(f"stays: {item.path}: came into use meanwhile, or cannot be deleted", err=True)


@app.command()
def serve(
    *,
    host: Host = None,
    port: Port = None,
    opens: Open = False,
    share: Annotated[
        bool, typer.Option("--share", help="Print a link by which its holder may look until the server ends.")
    ] = False,
    share_workspace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which workspace the link shows; default: default.")
    ] = None,
    mlflow: Annotated[
        bool | None,
        typer.Option(
            "--mlflow/--no-mlflow", help="Keep a record in MLflow, and serve it beside; default NAS_MLFLOW."
        ),
    ] = None,
) -> None:
    """Serve the REST interface and the dashboard, and run the searches that are submitted."""
    settings = _settings(host=host, port=port, open=opens or None, mlflow=mlflow)
    command = [sys.executable, "-P", "-m", "api", "--host", settings.host, "--port", str(settings.port)]
    command += ["--open"] if settings.open else []
    if share or share_workspace:
        command += ["--share", share_workspace or DEFAULT_WORKSPACE]
    command += [] if settings.mlflow else ["--no-mlflow"]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the server takes our place, and our signals


def main() -> None:
    """Run the command line."""
    app.add_typer(remote)
    app.add_typer(control)
    app.add_typer(winner)
    app.add_typer(history_commands)
    app.add_typer(report_commands)
    app.add_typer(cli_admin.commands(), name="admin")
    app.add_typer(cli_mlflow.mlflow, name="mlflow")
    app(prog_name="nas")


def _settings(**options: Any) -> Settings:
    """Return the settings, with those options in place of them that were given."""
    return Settings(**{name: value for name, value in options.items() if value is not None})
