"""``nas mlflow``: have MLflow told of searches now, or of all of them again."""

from typing import Annotated

import typer

from nas.cli_output import Json, print_json
from nas.errors import SearchError
from nas.settings import Settings

mlflow = typer.Typer(no_args_is_help=True, help="MLflow's record of searches.")


@mlflow.callback()
def _root() -> None:
    """Keep ``sync`` a command of its own."""


@mlflow.command()
def sync(
    *,
    again: Annotated[
        bool,
        typer.Option("--again", help="All that is stored, as for an MLflow that was restored or edited."),
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Give up after so long.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Tell MLflow what it was not told yet of the searches of this database, and wait until that is done."""
    from nas.mlflow_beside import tell_all
    from nas.storage.sql import open_store  # the other commands need no database

    settings = Settings()
    store = open_store(settings.database_url)
    left = tell_all(settings, store, again=again, seconds=seconds)
    if left:
        log = settings.log_directory / "mlflow-projector.log"
        raise SearchError(f"MLflow was not told of {left} events yet; the reason: {log}")
    if as_json:
        print_json({"tracking_uri": settings.tracking_uri, "num_left": left})
    else:
        typer.echo("MLflow was told all")
