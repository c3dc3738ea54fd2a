"""What the fields of a spec mean, as its schema tells it: the docstrings that stand below them in the source.

So REST's description says the same as the code, in units and defaults, and nothing is written twice.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any, get_args, get_type_hints


def describe(schemas: Mapping[str, dict[str, Any]], root: type[Any]) -> None:
    """Add to the schemas of a dataclass, and of all that its fields hold, what each field means."""
    for cls in _dataclasses(root, set()):
        schema = schemas.get(cls.__name__)
        if schema is None:
            continue
        if "description" in schema:  # what is raised is a matter of the code
            schema["description"] = _plain(schema["description"].partition("\n\nRaises:")[0])
        for name, words in field_words(cls).items():
            if name in schema["properties"]:
                schema["properties"][name]["description"] = words


def field_words(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings of a class's fields, by their names; fields without one are left out."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in pairwise(definition.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = _plain(inspect.cleandoc(words))
    return found


def _dataclasses(kind: Any, seen: set[Any]) -> Iterator[type[Any]]:
    """Yield the dataclasses that a type is, or is made of, each once."""
    for each in get_args(kind):
        yield from _dataclasses(each, seen)
    if isinstance(kind, type) and is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        yield kind
        for each in get_type_hints(kind).values():
            yield from _dataclasses(each, seen)


def _plain(words: str) -> str:
    return words.replace("``", "`")
