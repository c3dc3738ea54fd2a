"""Arguments and options that several commands of ``nas`` take, each described once."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.cli_complete import search_ids, spec_files
from nas.client import Client
from nas.edits import Edit
from nas.errors import InvalidRequest
from nas.settings import Settings

SpecFile = Annotated[
    Path, typer.Argument(metavar="SPEC", help="A spec in YAML or JSON.", autocompletion=spec_files)
]


def known_form(search_id: str) -> str:
    """Return an id that a search may have; raises InvalidRequest for another, before a server is asked."""
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", search_id):
        raise InvalidRequest("ID", f"found {search_id!r}, allowed: letters, digits, - and _, 64 at most")
    return search_id


SearchId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id of a search.", autocompletion=search_ids, callback=known_form),
]
Server = Annotated[str | None, typer.Option(help="Address of the server; default NAS_SERVER_URL.")]
Key = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Submit once under this key, however often it is called.")
]
Owner = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose it is; default NAS_OWNER, else the login name.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="WORD", help="A word to find it by; may be given again.")
]


def connected(server: str | None) -> Client:
    """Return a client of the server that an option names, or else the environment."""
    token = Settings().token
    return Client(server, token.get_secret_value() if token else None)


def said_at_first(owner: str | None, tags: Sequence[str] | None) -> Edit:
    """Return what is said of a search that is submitted here."""
    return Edit(owner=Settings().owner if owner is None else owner, tags=tuple(tags or ()))


def said_to_server(owner: str | None, tags: Sequence[str] | None) -> Edit:
    """Return what is said of a search that is submitted to a server: one that knows who asks knows whose it is."""
    settings = Settings()
    is_known_there = settings.token is not None and "owner" not in settings.model_fields_set
    return Edit(owner=owner, tags=tuple(tags or ())) if is_known_there else said_at_first(owner, tags)
