"""What holds for the whole interface: its description, health, and answers where nothing is."""

import json
import os
from dataclasses import fields
from pathlib import Path

import fastapi
import httpx
import pytest

from api.app import create_app
from api.errors import DOMAIN_ERRORS
from nas import errors
from nas.promotion import Promotion
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.storage.sql import SqlStore
from tests.unit.api.live import serving

GOLDEN = Path(__file__).parent / "golden" / "openapi.json"


def test_interface_is_the_golden_one(tmp_path):
    """The interface changes only on purpose: run this test with GOLDEN=write and review the difference."""
    document = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path)).openapi()
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_requests_find_their_routes_made(tmp_path, monkeypatch):
    """Made by requests, they would be made by two servers of one process at once, which pydantic does not bear."""
    app = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path))
    made = []
    monkeypatch.setattr(fastapi.routing, "create_model_field", lambda **field: made.append(field))
    with serving(app) as address:
        for path in ("/healthz", "/api/v1/searches", "/api/v1/none"):
            httpx.get(f"{address}{path}")
    assert made == []


def test_every_operation_is_named_and_every_reference_leads_somewhere(tmp_path):
    document = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path)).openapi()
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert set(names) == {
        "get_health", "get_readiness", "create_search", "list_searches", "get_search", "list_trials",
        "clone_search", "cancel_search", "stream_events", "stream_all_events", "download_winner",
        "get_log", "edit_search", "get_metrics", "pause_search", "resume_search", "kill_search", "extend_search",
        "enqueue_architecture", "stop_trial", "promote_trial", "read_attempt_log", "read_search_log",
        "list_history", "list_parents", "export_history", "compare_searches", "get_front", "get_series", "get_priors", "get_report",
        "export_search", "whoami", "list_members", "put_member", "remove_member", "list_tokens", "create_token",
        "revoke_token",
    }  # fmt: skip
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])


def test_fields_of_specs_are_described_as_their_source_says(tmp_path):
    document = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path)).openapi()
    schemas = document["components"]["schemas"]
    assert (
        "at which no further one is proposed"
        in schemas["SearchSpec"]["properties"]["max_tokens"]["description"]
    )
    latency = schemas["LatencyBudget"]
    assert latency["properties"]["batch"]["description"] == "Sequences at once."
    assert "Raises" not in latency["description"]
    assert schemas["Promotion"]["properties"]["start"]["description"].startswith("`student`: from what")
    described = {name for name, each in schemas["Promotion"]["properties"].items() if "description" in each}
    assert described == {field.name for field in fields(Promotion)}


def test_every_error_of_the_domain_has_a_status():
    named = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert named
    for error in named:
        assert any(base in DOMAIN_ERRORS for base in error.__mro__)


def test_health_and_readiness(fresh):
    for path in ("/healthz", "/readyz"):
        assert fresh.http.get(path).json() == {"status": "ok"}


def test_without_a_database_the_process_is_healthy_but_not_ready(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path}/gone/nas.db")
    app = create_app(SearchService(store, artifact_root=tmp_path))
    with serving(app) as address, httpx.Client(base_url=address) as http:
        assert http.get("/healthz").status_code == 200
        for path in ("/readyz", "/api/v1/searches"):
            answer = http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/searches", "/api/v1/searches/x/y/z"])
def test_paths_that_lead_nowhere(fresh, path):
    answer = fresh.http.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["DELETE", "TRACE", "OPTIONS"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/v1/searches", {"GET", "POST"}), ("/healthz", {"GET"}), ("/api/v1/searches/x:cancel", {"POST"})],
)
def test_methods_that_a_path_does_not_know(fresh, method, path, allowed):
    answer = fresh.http.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("verb", ["cancel", "clone"])
def test_what_is_done_to_a_search_is_no_id(fresh, method, verb):
    answer = fresh.http.request(method, f"/api/v1/searches/x:{verb}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_an_unexpected_error_tells_nothing_of_the_inside(tmp_path):
    """A bug is a problem too; its traceback goes to the server's log alone."""

    class Broken(InMemoryStore):
        def list_searches(self, **_):
            raise ZeroDivisionError("secret detail")

    app = create_app(SearchService(Broken(), artifact_root=tmp_path))
    with serving(app) as address, httpx.Client(base_url=address) as http:
        answer = http.get("/api/v1/searches")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
