"""The real server held against its own description by Schemathesis: no 5xx, no status or shape that is not described.

``test_fuzz`` sends what we thought of; this is what the authors of another program did.
"""

import itertools
import re
from datetime import UTC, datetime

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import negative_data_rejection, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.app import create_app
from api.authorisation import ID_PATTERN
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from tests.unit.api.live import serving
from tests.unit.api.seeded import fill

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, unsupported_method, negative_data_rejection,
]  # fmt: skip
ENDLESS = "stream_all_events"
"""Its stream does not end; its refusals are the same as those of one search's stream."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with searches that have ended, and their ids."""
    home = tmp_path_factory.mktemp("home")
    store = open_store(f"sqlite:///{home}/nas.db")
    played = fill(store, home, datetime.now(UTC))
    ids = itertools.cycle(played[name].id for name in ("succeeded", "failed", "cancelled"))
    with serving(create_app(SearchService(store, artifact_root=home))) as address:
        yield address, ids
    store.close()


DESCRIBED = schemathesis.openapi.from_dict(
    create_app(SearchService(InMemoryStore(), artifact_root=".")).openapi()
).exclude(operation_id=ENDLESS)
LISTS = {
    parameter["name"]
    for path in DESCRIBED.raw_schema["paths"].values()
    for operation in path.values()
    for parameter in operation.get("parameters", ())
    if "array" in [each.get("type") for each in parameter["schema"].get("anyOf", [parameter["schema"]])]
}
TURNS = itertools.count()


@DESCRIBED.parametrize()
@settings(
    max_examples=40,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_described(case, server):
    address, ids = server
    # An id that none can have stays: the request is made to be refused for it.
    is_meant_well = case.meta is None or case.meta.generation.mode.is_positive
    given = str(case.path_parameters.get("search_id", ""))
    if re.fullmatch(ID_PATTERN, given) and is_meant_well and next(TURNS) % 2:
        case.path_parameters["search_id"] = next(ids)
    # In an address one text is a list of one, so that nothing of it must be refused.
    is_list_of_one = any(isinstance((case.query or {}).get(name), str) for name in LISTS)
    checks = [each for each in CHECKS if each is not negative_data_rejection] if is_list_of_one else CHECKS
    case.call_and_validate(base_url=address, checks=checks, timeout=30)
