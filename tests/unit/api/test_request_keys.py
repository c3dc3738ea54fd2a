"""Submissions that are sent again: one key, one search, whatever happens in between."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml

from api.app import create_app
from nas.errors import StoreFull, StoreUnavailable
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from tests.unit.api.answers import problem_in
from tests.unit.api.live import serving
from tests.unit.api.seeded import DEMO

ADDRESS = "/api/v1/searches"
YAML = {"Content-Type": "application/yaml"}
SPEC = DEMO.read_bytes()


def submit(http: httpx.Client, key: str | None, body: bytes = SPEC) -> httpx.Response:
    headers = YAML | ({"Idempotency-Key": key} if key is not None else {})
    return http.post(ADDRESS, content=body, headers=headers)


def test_the_same_request_is_answered_with_the_same_search(fresh):
    first, again = submit(fresh.http, "one"), submit(fresh.http, "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert [search.id for search in fresh.store.list_searches()] == [first.json()["id"]]


def test_the_search_is_told_as_it_stands_by_now(fresh):
    first = submit(fresh.http, "one").json()
    fresh.service.control.cancel(first["id"])
    again = submit(fresh.http, "one").json()
    assert (again["id"], again["state"]) == (first["id"], "CANCELLED")


def test_a_key_may_be_quoted_as_in_the_draft_or_bare(fresh):
    assert submit(fresh.http, '"one"').json()["id"] == submit(fresh.http, "one").json()["id"]


@pytest.mark.parametrize("other", [SPEC + b"\n", SPEC.replace(b"tiny demo", b"other"), b"{}", b"{["])
def test_another_body_under_the_same_key_is_refused(fresh, other):
    first = submit(fresh.http, "one")
    answer = submit(fresh.http, "one", other)
    code = answer.json()["code"]
    problem_in(answer, 422, code)
    # What is no spec is told as such: it could not have been the request that the key came with.
    assert code == ("invalid_spec" if other in (b"{}", b"{[") else "idempotency_key_reused")
    assert [search.id for search in fresh.store.list_searches()] == [first.json()["id"]]


def test_without_a_key_or_with_others_each_request_makes_a_search(fresh):
    made = {submit(fresh.http, key).json()["id"] for key in (None, None, "one", "two")}
    assert len(made) == len(fresh.store.list_searches()) == 4


def test_a_refused_spec_does_not_use_its_key_up(fresh):
    spec = yaml.safe_load(SPEC)
    bad = fresh.http.post(ADDRESS, json=spec | {"parent": "/none"}, headers={"Idempotency-Key": "one"})
    problem_in(bad, 422, "invalid_spec")
    assert submit(fresh.http, "one").status_code == 201


def test_the_same_request_is_known_though_its_parent_is_gone(fresh, tmp_path):
    """What was accepted stays accepted; only a new search is checked."""
    text = tmp_path / "text.txt"
    text.write_text("text")
    spec = yaml.safe_load(SPEC) | {"data": {"source": str(text)}}
    sent = {"json": spec, "headers": {"Idempotency-Key": "one"}}
    first = fresh.http.post(ADDRESS, **sent)
    text.unlink()
    assert fresh.http.post(ADDRESS, **sent).json() == first.json()
    problem_in(fresh.http.post(ADDRESS, json=spec), 422, "invalid_spec")


@pytest.mark.parametrize("key", ["", "a b", '""', 'a"b', "x" * 256, "caf\u00e9".encode()])
def test_what_is_no_key(fresh, key):
    problem = problem_in(submit(fresh.http, key), 422, "invalid_request")
    assert problem["errors"][0]["field"] == "Idempotency-Key"
    assert fresh.store.list_searches() == []


def test_requests_that_race_get_one_search_also_over_a_restart(tmp_path):
    """Two servers on one database, as while one replaces the other."""
    database = f"sqlite:///{tmp_path}/nas.db"
    stores = [open_store(database) for _ in range(2)]
    apps = [create_app(SearchService(store, artifact_root=tmp_path)) for store in stores]
    with (
        serving(apps[0]) as one,
        serving(apps[1]) as two,
        httpx.Client(base_url=one) as first,
        httpx.Client(base_url=two) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda http: submit(http, "one"), [first, second] * 8))
    assert {answer.status_code for answer in answers} == {201}
    (made,) = {answer.json()["id"] for answer in answers}
    later = open_store(database)
    with (
        serving(create_app(SearchService(later, artifact_root=tmp_path))) as address,
        httpx.Client(base_url=address) as http,
    ):
        assert submit(http, "one").json()["id"] == made
        problem_in(submit(http, "one", SPEC + b"#"), 422, "idempotency_key_reused")
    assert [search.id for search in later.list_searches()] == [made]
    for store in (*stores, later):
        store.close()


@pytest.mark.parametrize(
    ("error", "status", "code", "helps_to_wait"),
    [(StoreFull, 507, "store_full", False), (StoreUnavailable, 503, "store_unavailable", True)],
)
def test_a_store_that_takes_nothing_is_told_apart_from_one_that_is_away(
    tmp_path, error, status, code, helps_to_wait
):
    class Refusing(InMemoryStore):
        def add_search(self, *_):
            raise error("database: in words")

    app = create_app(SearchService(Refusing(), artifact_root=tmp_path))
    with serving(app) as address, httpx.Client(base_url=address) as http:
        answer = submit(http, "one")
    assert problem_in(answer, status, code)["detail"] == "database: in words"
    assert ("retry-after" in answer.headers) is helps_to_wait
