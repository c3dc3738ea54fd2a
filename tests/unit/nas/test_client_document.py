"""The client is held to the OpenAPI document: a method for each operation, its parameters, its answer."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import TypeAdapter

from api.app import create_app
from nas.client import Client
from nas.service import SearchService
from nas.storage.memory import InMemoryStore

WORDS = ("title", "description", "default", "examples", "$defs")
"""What a schema says for people, or beside the type."""
BODIES = {"application/json", "application/merge-patch+json"}
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", datetime: "string"}


def _document() -> dict[str, Any]:
    return create_app(SearchService(InMemoryStore(), artifact_root=Path("unused"))).openapi()


DOCUMENT = _document()
OPERATIONS = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}


@pytest.fixture(params=OPERATIONS)
def operation(request) -> dict[str, Any]:
    return OPERATIONS[request.param]


def _method(operation) -> Any:
    name = operation["operationId"]
    method = getattr(Client, name, None)
    assert callable(method), f"Client has no method {name}"
    return method


def _parameters(operation) -> dict[str, dict[str, Any]]:
    """Return the operation's parameters by the names that Python has for them."""
    return {each["name"].lower().replace("-", "_"): each for each in operation.get("parameters", [])}


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema without references and without words for people."""
    if isinstance(schema, list):
        return [_resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    plain = {
        name: {field: _resolved(of, definitions) for field, of in each.items()}
        if name == "properties"
        else _resolved(each, definitions)
        for name, each in schema.items()
        if name not in WORDS
    }
    if "anyOf" in plain:
        plain["anyOf"] = sorted((each for each in plain["anyOf"] if each != {"type": "null"}), key=str)
        if len(plain["anyOf"]) == 1:
            return plain["anyOf"][0]
    return plain


def _schema_of(hint: Any) -> Any:
    schema = TypeAdapter(hint).json_schema()
    return _resolved(schema, schema.get("$defs", {}))


def _told(schema: Any) -> Any:
    return _resolved(schema, DOCUMENT["components"]["schemas"])


def _bodies(content: Mapping[str, Any]) -> list[Any]:
    return [each["schema"] for media_type, each in content.items() if media_type in BODIES]


def test_every_operation_is_a_method_with_a_docstring(operation):
    assert inspect.getdoc(_method(operation))


def test_parameters_have_the_names_types_bounds_and_defaults_of_the_operation(operation):
    method, told = _method(operation), _parameters(operation)
    taken = dict(inspect.signature(method).parameters)
    taken.pop("self")
    hints = get_type_hints(method, include_extras=True)
    assert set(told) <= set(taken)
    for name, each in told.items():
        assert _schema_of(hints[name]) == _told(each["schema"]), name
        if each.get("required"):
            assert taken[name].default is inspect.Parameter.empty, name
        else:
            assert taken[name].default == each["schema"].get("default"), name


def test_what_a_method_takes_besides_is_the_body_its_fields_or_where_files_go(operation):
    method, content = _method(operation), operation.get("requestBody", {}).get("content", {})
    others = [
        name for name in list(inspect.signature(method).parameters)[1:] if name not in _parameters(operation)
    ]
    hints = get_type_hints(method)
    for schema in _bodies(content):
        properties = _told(schema).get("properties", {})
        if set(others) == set(properties):
            for name, each in properties.items():
                _compare(hints[name], each, name)
        else:
            (name,) = others
            _compare(hints[name], schema, name)
    if content:
        assert others
    else:
        (answer,) = [each for status, each in operation["responses"].items() if status.startswith("2")]
        is_file = "application/x-tar" in answer.get("content", {})
        assert others == (["directory"] if is_file else [])


def test_answers_have_exactly_the_fields_of_the_schema(operation):
    returned = get_type_hints(_method(operation), include_extras=True)["return"]
    kinds = list(get_args(returned)) if get_origin(returned) in (types.UnionType, Union) else [returned]
    answers = [each for status, each in operation["responses"].items() if status.startswith("2")]
    for answer in answers:
        content = answer.get("content", {})
        if "text/event-stream" in content:
            (kind,) = kinds
            assert get_origin(kind) is Iterator
            item = content["text/event-stream"]["itemSchema"]["properties"]["data"]["contentSchema"]
            _compare(get_args(kind)[0], item, "event")
        elif "application/json" in content:
            schema = content["application/json"]["schema"]
            (kind,) = [
                each for each in kinds if _names(each) == set(_told(schema).get("properties", {}))
            ] or [kinds[0]]
            _compare(kind, schema, "answer")
        elif content:
            is_table = "text/csv" in content
            assert kinds == (
                [Path] if "application/x-tar" in content else [Iterator[str] if is_table else str]
            )
        else:
            assert kinds == [types.NoneType]


def _names(kind: Any) -> set[str]:
    kind = getattr(kind, "__origin__", kind) if get_origin(kind) is Annotated else kind
    return {each.name for each in fields(kind)} if is_dataclass(kind) else set()


def _compare(kind: Any, schema: Any, where: str) -> None:
    """Compare a type of Python's with a schema, down to the last field."""
    schema = _told(schema)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (types.UnionType, Union):
        left = [each for each in get_args(kind) if each is not types.NoneType]
        kind = left[0] if len(left) == 1 else kind
    if get_origin(kind) in (types.UnionType, Union):
        assert _schema_of(kind) == schema, where
    elif is_dataclass(kind):
        _compare_fields(kind, schema, where)
    elif get_origin(kind) in (tuple, list, Sequence):
        assert schema["type"] == "array", where
        _compare(get_args(kind)[0], schema["items"], f"{where}[]")
    elif get_origin(kind) in (dict, Mapping):
        assert schema["type"] == "object", where
        values = schema.get("additionalProperties", True)
        if isinstance(values, dict):
            _compare(get_args(kind)[1], values, f"{where}{{}}")
    elif words := _words(kind):
        assert schema.get("enum", [schema.get("const")]) == words, where
    elif kind is not Any:
        assert schema["type"] == SCALARS[kind], where
        assert (schema.get("format") == "date-time") == (kind is datetime), where


def _words(kind: Any) -> list[Any]:
    """Return the values of a type that lists them."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [each.value for each in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _compare_fields(kind: Any, schema: Any, where: str) -> None:
    assert schema["type"] == "object", where
    if "properties" not in schema:
        return  # a mapping whose fields the document leaves to another schema
    hints = get_type_hints(kind, include_extras=True)
    assert set(schema["properties"]) >= set(hints), f"{where}: {kind.__name__} has more than is answered"
    for name, each in schema["properties"].items():
        if name in hints:
            _compare(hints[name], each, f"{where}.{name}")
        else:
            derived = getattr(kind, name, None)
            assert isinstance(derived, property), f"{where}: {kind.__name__} lacks {name}"
