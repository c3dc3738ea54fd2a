"""The one codec of everything that is stored, sent or written by a user: dataclasses to JSON and back.

``parse_spec`` and ``load_spec`` read what people write, and are strict: a field that is unknown at any
depth, missing or of another type is refused, and all problems are told at once. A whole number may be
written 4.5e9. ``load`` reads what ``dump`` wrote. Knows no database and no HTTP.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from nas.counts import out_of_range
from nas.errors import InvalidSpec, Problem
from nas.promotion import uncounted
from nas.search import MOST, SearchSpec
from nas.text import read_text, text_in

T = TypeVar("T")

SPEC_ADAPTER = TypeAdapter(SearchSpec)
"""For the JSON schema of a spec. To read one use ``parse_spec``, which tells in words what is wrong."""

_SOURCE_FIELDS = "{source, weight, config, split, text_field}"
_CHOICES = {
    "axes": "a list of whole numbers, {start, stop, step} or, for the MLP, {of_hidden: [...]}; or "
    "auto, or {auto_from: SHARE}",
    "data.source": f"a name or a path, {_SOURCE_FIELDS} or a list of such",
    "data.validation": f"a name or a path, or {_SOURCE_FIELDS}",
}
"""What may stand where there is a choice of types, by the field or the section."""
_ALLOWED = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping of fields",
    "float_type": "a number",
    "int_type": "a whole number",
    "dict_type": "a mapping of fields",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What a field allows, by pydantic's name for the error."""


def parse_spec(data: Mapping[str, Any] | str) -> SearchSpec:
    """Return the spec that a mapping, or a text in JSON or YAML, describes.

    Raises:
        InvalidSpec: With every problem that was found.
    """
    content = read_text(data) if isinstance(data, str) else data
    if not isinstance(content, Mapping):
        raise InvalidSpec((("spec", f"found {shown(content)}, allowed: a mapping of fields"),))
    plain = _with_the_trials_recipe(_plain(content))
    try:
        # As JSON, because only there does a strict tuple take a list.
        return SPEC_ADAPTER.validate_json(json.dumps(plain), strict=True, extra="forbid")
    except ValidationError as error:
        details = error.errors(include_url=False)
    told = [problem for detail in details for problem in _problems(detail, plain)]
    # A section, and the spec as a whole, is judged by itself only where all below it is right; counts need not wait.
    raise InvalidSpec([*told, *_uncounted(plain)])


def load_spec(path: Path) -> SearchSpec:
    """Return the spec in a YAML or JSON file.

    Raises:
        InvalidSpec: The file cannot be read, or what it describes is wrong.
    """
    return parse_spec(text_in(path))


def spec_to_json(spec: SearchSpec) -> dict[str, Any]:
    """Return a spec, complete with its defaults, as ``parse_spec`` takes it."""
    return dump(spec)


def dump(value: Any) -> dict[str, Any]:
    """Return a dataclass of the domain as JSON: enums by value, times in ISO 8601."""
    cls: Any = type(value)
    content: dict[str, Any] = _adapter(cls).dump_python(value, mode="json")
    return content


def load(cls: type[T], data: Mapping[Any, Any]) -> T:
    """Return the ``cls`` that ``dump`` wrote; fields that only a later version knows are ignored."""
    known: Any = cls
    value: T = _adapter(known).validate_python(dict(data))
    return value


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON has it: whole floats as integers, and as text what no field can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    is_known = value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) <= 2**63)
    return value if is_known else str(value)


def _with_the_trials_recipe(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a spec in which promotions are trained as the trials are, but for how long and where it says otherwise."""
    promotion = plain.get("promotion")
    own, longer = plain.get("training"), promotion.get("training") if isinstance(promotion, dict) else None
    if not isinstance(promotion, dict) or not isinstance(own, dict) or not isinstance(longer, dict):
        return plain
    shared = {name: value for name, value in own.items() if name != "num_tokens"}
    return {**plain, "promotion": {**promotion, "training": shared | longer}}


def _uncounted(plain: Mapping[str, Any]) -> list[Problem]:
    """Return the counts of a spec that are out of range."""
    promotion = plain.get("promotion")
    return [
        *out_of_range(plain, MOST),
        *(uncounted(promotion) if isinstance(promotion, Mapping) else []),
    ]


def _problems(detail: ErrorDetails, plain: Mapping[str, Any]) -> list[Problem]:
    """Return one of pydantic's errors in words; nothing where it speaks of what was not meant."""
    found = _located(detail["loc"], plain)
    if found is None:
        return []
    path = _path(found.path)
    if found.is_unclear:
        allowed = _CHOICES.get(path) or _CHOICES[str(found.path[0])]
        return [(path, f"found {shown(found.value)}, allowed: {allowed}")]
    match detail["type"]:
        case "value_error":
            return [(_joined(path, field), reason) for field, reason in _told(detail["ctx"]["error"])]
        case "json_invalid":  # half of a surrogate pair, which JSON can say and UTF-8 cannot
            return [("spec", detail["msg"])]
        case "missing":
            reason = "missing, and has no default"
        case "unexpected_keyword_argument":
            names = ", ".join(field.name for field in fields(found.owner))
            reason = f"unknown, allowed: {names}"
        case kind:
            allowed = detail.get("ctx", {}).get("expected") or _ALLOWED.get(kind, detail["msg"])
            reason = f"found {shown(detail['input'])}, allowed: {allowed}"
    return [(path, reason)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an error lies in what was written."""

    path: Sequence[int | str]
    value: Any
    owner: type[Any]
    """The dataclass that the last name of the path is, or is not, a field of."""
    is_unclear: bool = False
    """Whether the value is none of the choices there are."""


def _located(location: Sequence[int | str], plain: Mapping[str, Any]) -> _Place | None:
    """Return the place of an error of pydantic's; None where it speaks of a choice that was not meant.

    Where a type is a union, pydantic tries the value as each choice and reports for all, naming the
    choice in the location.
    """
    path: list[int | str] = []
    value: Any = plain
    owner: Any = SearchSpec
    kind: Any = SearchSpec
    for name in location:
        choices = [each for each in get_args(kind) if each is not NoneType]
        if _is_union(kind) and len(choices) > 1:
            meant = _meant(choices, value)
            if meant is None:
                return _Place(path=path, value=value, owner=owner, is_unclear=True)
            if name != _tag(meant):
                return None
            kind = meant
            continue
        if _is_union(kind):
            (kind,) = choices
        path.append(name)
        if is_dataclass(kind):
            owner = kind
            kind = get_type_hints(kind).get(str(name))
            value = value.get(name)
        elif get_origin(kind) is tuple:
            kind, value = choices[0], value[name]
    return _Place(path=path, value=value, owner=owner)


def _is_union(kind: Any) -> bool:
    """Return whether a type is a choice of types; with literals in it Python makes another kind of union."""
    return get_origin(kind) in {Union, UnionType}


def _meant(choices: Sequence[Any], value: Any) -> Any:
    """Return which of a union's types ``value`` was meant to be, None if it is like none."""
    for choice in choices:
        if get_origin(choice) is tuple:
            is_like = isinstance(value, list)
        elif get_origin(choice) is Literal:
            is_like = value in get_args(choice)
        elif is_dataclass(choice):
            is_like = isinstance(value, Mapping) and not value.keys().isdisjoint(get_type_hints(choice))
        else:
            is_like = isinstance(value, choice)
        if is_like:
            return choice
    return None


def _tag(choice: Any) -> str:
    """Return pydantic's name for a choice."""
    name: str = choice.__name__
    return f"tuple[{get_args(choice)[0].__name__}, ...]" if get_origin(choice) is tuple else name


def _told(error: Exception) -> Sequence[Problem]:
    """Return what a refusal by the domain itself says."""
    if isinstance(error, InvalidSpec):
        return error.problems
    field, _, reason = str(error).partition(": ")
    return [(field, reason)]


def _joined(path: str, field: str) -> str:
    """Return the whole name of a field that the domain refused: it may not know in which section its own lies.

    Mostly the domain knows the field where pydantic knows the section; an axis is the other way round.
    """
    sections, own = path.split("."), field.split(".", maxsplit=1)[0]
    if own in sections:
        field = ".".join((*sections[: sections.index(own)], field))
    return max(field, path, key=len)


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def shown(value: Any) -> str:
    """Return a value that was found, in one line that is not too long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
