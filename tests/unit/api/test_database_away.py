"""While the database is away each answer says so and when to ask again; once it is back, so is the service."""

import sqlite3
import time

import httpx
import pytest

from api.app import create_app
from nas.service import SearchService
from nas.storage import engine
from nas.storage.sql import open_store
from tests.postgres import private_server
from tests.unit.api.answers import events_in, problem_in
from tests.unit.api.live import serving
from tests.unit.api.seeded import DEMO, demo_spec
from tests.unit.api.server import running

YAML = {"Content-Type": "application/yaml"}
BACK_SECONDS = 20


def asked(http: httpx.Client, search_id: str) -> list[httpx.Response]:
    """Ask everything that needs the database."""
    search = f"/api/v1/searches/{search_id}"
    reads = ("/readyz", "/api/v1/searches", search, f"{search}/trials", f"{search}/logs", f"{search}/winner", f"{search}/events", "/api/v1/events")  # fmt: skip
    answers = [http.get(path) for path in reads]
    spec = DEMO.read_bytes()
    answers.append(http.post("/api/v1/searches", content=spec, headers=YAML | {"Idempotency-Key": "away"}))
    return [*answers, http.post(f"{search}:clone"), http.post(f"{search}:cancel")]


def until(does, seconds=BACK_SECONDS):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not does():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_postgresql_server_that_restarts(tmp_path):
    """Over the server as users start it, whose connections are open when theirs is killed."""
    with (
        private_server() as database,
        running(tmp_path, database_url=database.new_database()) as server,
        httpx.Client(base_url=server.address, timeout=30) as http,
    ):
        succeeded, queued = server.id("succeeded"), server.store.list_searches()[0].id
        followed = f"/api/v1/searches/{server.id('running')}/events"
        assert http.get("/readyz").status_code == 200
        with httpx.stream("GET", server.address + followed, timeout=30) as stream:
            lines = stream.iter_lines()
            next(lines)
            database.stop()
            for _ in range(2):  # also once there is no connection left
                for answer in asked(http, succeeded):
                    problem_in(answer, 503, "store_unavailable")
                    assert 0 < int(answer.headers["retry-after"]) <= 60
            assert sum(1 for _ in lines) > 0  # the stream ends, and is gone on with from its last event
        assert http.get("/healthz").status_code == 200
        assert "nas_database_up 0.0" in http.get("/metrics").text
        assert http.get(f"/searches/{succeeded}").status_code == 503
        database.start()
        until(lambda: http.get("/readyz").status_code == 200)
        assert (
            http.get("/api/v1/searches").json()["searches"][0]["id"] == queued
        )  # nothing came of the refused
        made = [http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML | {"Idempotency-Key": "away"}) for _ in range(2)]  # fmt: skip
        assert [answer.status_code for answer in made] == [201, 201]
        assert made[0].json()["id"] == made[1].json()["id"]
        assert http.get(f"/searches/{succeeded}").status_code == 200
        until(lambda: "nas_database_up 1.0" in http.get("/metrics").text)


@pytest.fixture
def sqlite(tmp_path):
    """An application on a file, its store, and a client of it."""
    store = open_store(f"sqlite:///{tmp_path}/here/nas.db")
    app = create_app(SearchService(store, artifact_root=tmp_path))
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as http:
        yield store, http
    store.close()


def test_a_file_whose_disk_is_away_for_a_while(sqlite, tmp_path):
    store, http = sqlite
    search = SearchService(store, artifact_root=tmp_path).create(demo_spec())
    store.close()  # what is open stays readable
    (tmp_path / "here").rename(tmp_path / "away")
    for answer in asked(http, search.id):
        problem_in(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    (tmp_path / "away").rename(tmp_path / "here")
    assert http.get(f"/api/v1/searches/{search.id}").status_code == 200
    assert http.post(f"/api/v1/searches/{search.id}:cancel").json()["state"] == "CANCELLED"
    assert len(events_in(http.get(f"/api/v1/searches/{search.id}/events").text)) == 3


def test_a_file_that_another_program_holds(tmp_path, monkeypatch):
    """Reading goes on; writing is refused after a while, and may be tried again."""
    monkeypatch.setattr(engine, "WAIT_SECONDS", 0.2)
    store = open_store(f"sqlite:///{tmp_path}/nas.db")
    with (
        serving(create_app(SearchService(store, artifact_root=tmp_path))) as address,
        httpx.Client(base_url=address, timeout=30) as http,
    ):
        other = sqlite3.connect(tmp_path / "nas.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML)
        assert "locked" in problem_in(refused, 503, "store_unavailable")["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert http.get("/api/v1/searches").json()["searches"] == []
        other.close()
        assert http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML).status_code == 201
    store.close()
