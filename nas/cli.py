"""The script ``nas``: run a search here, serve searches, or talk to a server.

Exit codes: 0 done; 1 it failed; 2 wrong usage or a spec that cannot be run; 130 interrupted. Errors are
lines on stderr that begin with ``error:``.
"""

import json
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from minitron.errors import MinitronError
from nas import cli_mlflow, display
from nas.cli_remote import FAILED, Owner, SearchId, SpecFile, Tags, leave, remote, said_at_first
from nas.connection import ClientError
from nas.errors import InvalidEdit, InvalidSettings, InvalidSpec, SearchError
from nas.estimate_rows import estimate_rows
from nas.settings import Settings
from nas.spec import dump, load_spec

BAD_INPUT, INTERRUPTED = 2, 130


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
Host = Annotated[str | None, typer.Option(help="Address to listen on; default NAS_HOST.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; default NAS_PORT.")]
Open = Annotated[
    bool,
    typer.Option("--open", help="Let other machines in, without a password; default NAS_OPEN."),
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
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.")] = None,
    *,
    owner: Owner = None,
    tags: Tags = None,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with an unfinished search.")] = None,
    serve: Annotated[bool, typer.Option(help="Open the dashboard too, until Ctrl-C.")] = False,
    host: Host = None,
    port: Port = None,
    opens: Open = False,
) -> None:
    """Run one search here, to its leaderboard."""
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
        search = local_run.run(task, settings, display.terminal(), serves=serve, said=said)
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
) -> None:
    """Say what a search would cost, and whether it can run; nothing is started or stored."""
    from nas import local_run

    found = local_run.plan(load_spec(spec), _settings(device_flops=device_flops))
    if as_json:
        typer.echo(json.dumps(dump(found), indent=1))
    else:
        display.terminal().print(display.estimate_table(estimate_rows(found)))


@app.command()
def study(
    search_id: SearchId,
    *,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="An Optuna storage; default NAS_OPTUNA_STORAGE.")
    ] = None,
) -> None:
    """Write or complete the Optuna study of a search that runs or ran here, and say how to open it."""
    from nas import local_run

    url, num_trials = local_run.write_study(search_id, _settings(optuna_storage=storage))
    display.study(display.terminal(), search_id, url, num_trials)


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

    settings = _settings()
    limit = settings.cache_bytes if cache_bytes is None else cache_bytes
    found = collect.collect(settings, cache_bytes=limit, keeps_students=not students)
    display.disk(display.terminal(), settings.artifact_root, found.usage, found.items)
    if delete:
        remaining = collect.delete(found.items)
        typer.echo(f"deleted {len(found.items) - len(remaining)} of {len(found.items)}")
        for item in remaining:
            typer.echo(f"stays: {item.path}: came into use meanwhile, or cannot be deleted", err=True)
    elif found.items:
        typer.echo("nothing is deleted yet; do so with: nas gc --delete")


@app.command()
def serve(
    *,
    host: Host = None,
    port: Port = None,
    opens: Open = False,
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
    command += [] if settings.mlflow else ["--no-mlflow"]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the server takes our place, and our signals


def main() -> None:
    """Run the command line."""
    app.add_typer(remote)
    app.add_typer(cli_mlflow.mlflow, name="mlflow")
    app()


def _settings(**options: Any) -> Settings:
    """Return the settings, with those options in place of them that were given."""
    return Settings(**{name: value for name, value in options.items() if value is not None})


def _lines(error: Exception) -> list[str]:
    problems = error.problems if isinstance(error, InvalidSpec | InvalidEdit | ClientError) else ()
    return [f"{field}: {reason}" for field, reason in problems] or [str(error)]


def _is_input(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.status is not None and error.status in {400, 413, 415, 422}
    return isinstance(error, InvalidSpec | InvalidEdit | InvalidSettings)
