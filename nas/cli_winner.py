"""The commands of ``nas`` that take the winner of a search somewhere: home, or to the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from nas import display
from nas.cli_options import SearchId, Server, connected
from nas.cli_output import Json, print_json
from nas.private import make_private
from nas.settings import Settings

winner = typer.Typer()


@winner.command()
def download(
    search_id: SearchId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to make; default winner-ID.")
    ] = None,
    *,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Download the winner of a search: an ordinary Hugging Face checkpoint directory."""
    with connected(server) as client:
        directory = client.download_winner(search_id, output or Path(f"winner-{search_id}"))
    if as_json:
        print_json({"search_id": search_id, "directory": str(directory)})
    else:
        display.take_home(display.terminal(), directory)


@winner.command()
def push(
    search_id: SearchId,
    *,
    repo: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Where to; default minitron-nas-ID of the token's owner."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only for whom you let in.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and stop.")] = False,
    as_json: Json = False,
    server: Server = None,
) -> None:
    """Upload the winner of a search, with its card, to the Hugging Face hub."""
    from nas import push as hub

    if not dry_run:
        hub.require_token()
    target = repo or f"{'OWNER' if dry_run else hub.owner()}/minitron-nas-{search_id}"
    with _winner(search_id, server) as directory:
        upload = hub.planned_upload(directory, target, is_private=private)
        if not as_json:
            display.terminal().print(display.upload(upload), soft_wrap=True)
        address = None if dry_run else hub.push(upload, f"Winner of search {search_id}")
        files = [{"path": path, "num_bytes": size} for path, size in upload.files]
    if as_json:
        print_json(
            {
                "repository": upload.repository.repository,
                "is_private": private,
                "files": files,
                "address": address,
            }
        )
    else:
        typer.echo(address or "dry run: nothing was uploaded")


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
    make_private(settings.home)
    with TemporaryDirectory(prefix="push-", dir=settings.home) as scratch, connected(server) as client:
        yield client.download_winner(search_id, Path(scratch) / "winner")
