"""The options of the script ``minitron`` that say where text comes from, and the recipe they make."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from minitron.errors import InvalidRecipe
from minitron.foreign_json import parsed
from minitron.recipe import DataRecipe, DataSource
from minitron.sources import pinned

DATA = DataRecipe()
"""Whose defaults are those of the options."""
DEFAULT_SOURCES = [str(DATA.source)]

_SOURCE = "builtin:python-docs, hub:ORG/NAME, or a file, directory or pattern"
_FIELDS = {field.name: field.type for field in fields(DataSource)}

Sources = Annotated[
    list[str],
    typer.Option(
        "--data",
        help=f"{_SOURCE}; or one as JSON: '{{{', '.join(_FIELDS)}}}'. Given several times: a blend by weight.",
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(help="A source of its own for held-out tokens, as --data.", show_default=False),
]
TextField = Annotated[str, typer.Option(help="Column that holds the text of a row, or its chat.")]
SequenceLength = Annotated[int, typer.Option(help="Tokens of one block.")]
ValidationTokens = Annotated[int, typer.Option(help="Held-out tokens that losses are measured on.")]
Seed = Annotated[int, typer.Option(help="Shuffles documents and training blocks.")]


def data_recipe(sources: Sequence[str], validation: str | None, **others: Any) -> DataRecipe:
    """Return the checked recipe of the options, each dataset of the hub at its commit.

    Args:
        sources: Of ``--data``; several make a blend.
        validation: Of ``--validation``.
        others: The other fields of the recipe.

    Raises:
        InvalidRecipe: A source in JSON that says something else, or a field out of range.
        UnreadableData, HubError: As ``minitron.sources.pinned``.
    """
    given = tuple(_source("--data", text) for text in sources)
    recipe = DataRecipe(
        source=given[0] if len(given) == 1 else given,
        validation=None if validation is None else _source("--validation", validation),
        **others,
    )
    return pinned(recipe)


def _source(option: str, text: str) -> DataSource:
    if not text.startswith("{"):
        return DataSource(source=text)
    try:
        content = parsed(text)
    except ValueError as error:
        raise InvalidRecipe(option, f"cannot be read as JSON: {error}") from error
    for name, value in content.items():
        if name not in _FIELDS:
            raise InvalidRecipe(option, f"{name}: unknown, allowed: {', '.join(_FIELDS)}")
        kind: Any = int | float if name == "weight" else str
        if not isinstance(value, kind) or isinstance(value, bool):
            allowed = "a number" if name == "weight" else "text"
            raise InvalidRecipe(option, f"{name}: found {json.dumps(value)}, allowed: {allowed}")
    if "source" not in content:
        raise InvalidRecipe(option, "source: missing, and has no default")
    return DataSource(**content)
