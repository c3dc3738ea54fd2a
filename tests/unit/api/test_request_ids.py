"""Each answer carries an id, and what the server logs in JSON finds it again."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from nas.settings import Settings
from nas.spec import spec_to_json
from tests.unit.api.seeded import demo_spec

ID = "X-Request-ID"


@contextmanager
def logging_server(home, log_format):
    """A server of its own and what it says on stderr, which is whole once the server has ended."""
    settings = Settings(home=home, log_format=log_format)
    command = (sys.executable, "-m", "api", "--port", "0", "--page-only")
    said = []
    with subprocess.Popen(
        command,
        env=os.environ | settings.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with httpx.Client(base_url=process.stdout.readline().split()[-1]) as http:
                yield http, said
        finally:
            process.terminate()
            said += process.stderr.read().splitlines()


@pytest.mark.parametrize("given", ["abc-1.2_3", "0" * 128])
def test_a_sane_id_is_taken_over(fresh, given):
    for path in ("/healthz", "/api/v1/none", "/api/v1/searches"):
        assert fresh.http.get(path, headers={ID: given}).headers[ID] == given
    refused = fresh.http.get("/", headers={ID: given, "Host": "evil.example"})
    assert refused.headers[ID] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "a;b", 'a"', None])
def test_another_is_replaced(fresh, given):
    answers = [fresh.http.get("/healthz", headers={ID: given} if given is not None else {}) for _ in range(2)]
    ids = {answer.headers[ID] for answer in answers}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_two_are_none(fresh):
    assert len(fresh.http.get("/healthz", headers=[(ID, "a"), (ID, "b")]).headers[ID]) == 32


def test_json_lines_carry_request_and_search(tmp_path):
    with logging_server(tmp_path, "json") as (http, said):
        made = http.post("/api/v1/searches", json=spec_to_json(demo_spec()), headers={ID: "make"})
        search_id = made.json()["id"]
        http.get(f"/api/v1/searches/{search_id}", headers={ID: "read"})
        http.get(f"/searches/{search_id}", headers={ID: "page"})
        http.post(f"/api/v1/searches/{search_id}:cancel", headers={ID: "cancel"})
        http.get("/api/v1/searches/a%0Ab", headers={ID: "odd"})
    lines = [json.loads(line) for line in said]
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
    by_request = {line["request_id"]: line for line in lines if line["logger"] == "api.observe"}
    assert by_request.keys() == {"make", "read", "page", "cancel", "odd"}
    assert (by_request["make"]["method"], by_request["make"]["path"], by_request["make"]["status"]) == ("POST", "/api/v1/searches", 201)  # fmt: skip
    for request in ("read", "page", "cancel"):
        assert by_request[request]["search_id"] == search_id
        assert by_request[request]["status"] == 200
        assert 0 < by_request[request]["seconds"] < 60
    assert by_request["odd"]["status"] == 422


def test_a_failure_is_logged_under_the_id_of_its_request(tmp_path):
    program = """
import sys
from api.main import main
from nas.service import SearchService
def broken(*_, **__):
    raise ZeroDivisionError("a bug")
SearchService.list_views = broken
sys.argv[1:] = ["--port", "0", "--page-only"]
main()
"""
    environment = os.environ | Settings(home=tmp_path, log_format="json").environment()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = process.stdout.readline().split()[-1]
            answer = httpx.get(f"{address}/api/v1/searches", headers={ID: "broken"})
            assert (answer.status_code, answer.headers[ID]) == (500, "broken")
        finally:
            process.terminate()
            lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    (failure,) = [line for line in lines if line["level"] == "ERROR"]
    assert failure["request_id"] == "broken"
    assert "ZeroDivisionError: a bug" in failure["exception"]


def test_lines_for_people_are_as_ever(tmp_path):
    with logging_server(tmp_path, "text") as (http, said):
        assert http.get("/healthz").headers[ID]
    assert said == []


def test_a_server_that_cannot_start_says_so_in_json_too(tmp_path):
    environment = os.environ | Settings(home=tmp_path, log_format="json", host="192.0.2.1").environment()
    ended = subprocess.run(
        [sys.executable, "-m", "api"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "NAS_HOST: found 192.0.2.1" in json.loads(ended.stderr)["message"]
