"""Requests drawn from the interface's own description: whatever is sent, the answer is one it promises.

Half of the values are what the description allows, half are not. Never a 500; every refusal is a problem
with a status that the operation names; every answer has the shape that is described.
"""

import json
import string
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from api.app import create_app
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from tests.postgres import private_server
from tests.unit.api.live import serving
from tests.unit.api.seeded import DEMO, fill

DOCUMENT = create_app(SearchService(InMemoryStore(), artifact_root=DEMO.parent)).openapi()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
ENDLESS = {"stream_all_events"}
"""Its stream does not end; its refusals are the same as those of one search's stream."""
SPEC = yaml.safe_load(DEMO.read_text(encoding="utf-8"))

anything = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.dates().map(str),
    st.sampled_from(["", "null", "true", "now", "-1", "1e400", "9" * 40, "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "\0", "\ud7ff", "%", "a" * 2000]),
)  # fmt: skip
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(SPEC)) | st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def allowed(schema: dict) -> st.SearchStrategy[object]:  # noqa: PLR0911 - a case for each kind
    """What a parameter's schema allows, as far as it says."""
    match schema:
        case {"$ref": reference}:
            return allowed(DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]])
        case {"anyOf": choices}:
            return st.one_of([allowed(each) for each in choices if each.get("type") != "null"])
        case {"enum": values}:
            return st.sampled_from(values)
        case {"const": value}:
            return st.just(value)
        case {"type": "array", "items": item}:
            return st.lists(allowed(item), max_size=3)
        case {"type": "integer" | "number"}:
            least = schema.get("minimum", schema.get("exclusiveMinimum", -(2**70)))
            return st.integers(int(least), schema.get("maximum", 2**70))
        case {"type": "boolean"}:
            return st.booleans()
        case {"format": "date-time"}:
            return st.datetimes(timezones=st.just(UTC) | st.none()).map(datetime.isoformat)
    return st.text(max_size=schema.get("maxLength", 30))


def mostly(usual: st.SearchStrategy, other: st.SearchStrategy) -> st.SearchStrategy:
    """What is usual, and now and then something else."""
    return st.integers(0, 4).flatmap(lambda which: usual if which else other)


@st.composite
def requests(draw, operation_id: str, ids: list[str]) -> dict:
    """A request of one operation."""
    method, path, operation = OPERATIONS[operation_id]
    query, headers = [], {}
    for parameter in operation.get("parameters", []):
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            value = draw(mostly(st.sampled_from(ids), anything))
            path = path.replace(f"{{{name}}}", quote(value, safe="") or "none")
        elif draw(st.booleans()):
            value = draw(mostly(allowed(parameter["schema"]), anything))
            values = value if isinstance(value, list) else [value]
            if place == "query":
                query += [(name, each if isinstance(each, str) else json.dumps(each)) for each in values]
            else:
                headers[name] = "".join(c for c in str(value) if c in string.printable[:95]).strip()
    request = {"method": method, "url": path, "params": query, "headers": headers}
    if "requestBody" in operation:
        described = st.sampled_from(sorted(operation["requestBody"]["content"]))
        media_type = draw(mostly(described, st.just("text/plain")))
        headers["Content-Type"] = media_type
        request["content"] = draw(bodies())
    return request


@st.composite
def bodies(draw) -> bytes:
    """A body: the demo's spec with something else somewhere, any document, or any bytes."""
    kind = draw(st.sampled_from(["named", "changed", "document", "bytes"]))
    if kind == "named":
        return json.dumps(SPEC | {"name": draw(st.text(max_size=8)), "seed": draw(st.integers())}).encode()
    if kind == "bytes":
        return draw(st.binary(max_size=60))
    content = draw(documents)
    if kind == "changed":
        field = draw(st.sampled_from(sorted(SPEC)))
        inner = SPEC[field]
        if isinstance(inner, dict) and draw(st.booleans()):
            inner_field = draw(st.sampled_from(sorted(inner)))
            content = SPEC | {field: inner | {inner_field: content}}
        else:
            content = SPEC | {field: content}
    return draw(st.sampled_from([json.dumps, yaml.safe_dump]))(content).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def postgresql():
    with private_server() as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    """A server on a real database, where what no database can hold shows."""
    home = tmp_path_factory.mktemp("home")
    is_sqlite = request.param == "sqlite"
    store = open_store(
        f"sqlite:///{home}/nas.db" if is_sqlite else request.getfixturevalue("postgresql").new_database()
    )
    played = fill(store, home, datetime.now(UTC))
    ended = [played[name].id for name in ("succeeded", "failed", "cancelled")]
    app = create_app(SearchService(store, artifact_root=home, logs=home / "logs"))
    with serving(app) as address, httpx.Client(base_url=address) as http:
        yield http, ended
    store.close()


def check(response: httpx.Response, operation: dict) -> None:
    """Hold an answer against what the operation says of it."""
    assert response.status_code < 500, response.text
    described = operation["responses"].get(str(response.status_code))
    assert described, f"{response.status_code} is not described: {response.text}"
    media_type = response.headers["content-type"].partition(";")[0]
    assert media_type in described["content"], f"{media_type} is not described"
    if media_type.endswith("json"):
        schema = described["content"][media_type]["schema"]
        Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(response.json())


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS.keys() - ENDLESS))
@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_answer_is_one_that_is_described(server, operation_id, data):
    http, ids = server
    request = data.draw(requests(operation_id, ids))
    check(http.request(**request), OPERATIONS[operation_id][2])
