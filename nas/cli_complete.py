"""What a shell offers for the word that is typed: ids of searches, files of specs.

Shells run what this prints through ``eval``, so it prints nothing that people wrote: ids and states alone. A
server that is away or slow offers nothing, and no error.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from nas.client import Client
from nas.errors import SearchError
from nas.listing import SearchOrder

SECONDS = 1.0
"""Longer than this nobody waits for a word."""
MOST = 50
SUFFIXES = (".yaml", ".yml", ".json")


def search_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest searches of the server whose ids begin so, each with its state."""
    try:
        server = context.params.get("server")
        with Client(server, timeout_seconds=SECONDS, retry_seconds=0) as client:
            found = client.list_searches(archived="any", order_by=SearchOrder.NEWEST, page_size=200).searches
    except SearchError:
        return []
    begun = [each for each in found if re.fullmatch("[A-Za-z0-9_-]{1,64}", each.id)]
    begun = [each for each in begun if each.id.startswith(incomplete)]
    return [(each.id, each.state.value.lower()) for each in begun[:MOST]]


def spec_files(incomplete: str) -> list[str]:
    """Return the files that may hold a spec, and the directories, whose paths begin so."""
    return sorted(_files(incomplete))


def _files(incomplete: str) -> Iterator[str]:
    before, slash, begun = incomplete.rpartition("/")
    try:
        entries = list(Path(before + slash or ".").expanduser().iterdir())
    except (OSError, RuntimeError):  # no such directory, or a home that nobody has
        return
    for each in entries:
        if not each.name.startswith(begun) or (each.name.startswith(".") and not begun):
            continue
        if each.is_dir():
            yield f"{before}{slash}{each.name}/"
        elif each.suffix in SUFFIXES:
            yield f"{before}{slash}{each.name}"
