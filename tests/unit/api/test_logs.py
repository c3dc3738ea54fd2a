"""The worker's log over HTTP: live from its file, or the end that a failure kept."""

import httpx
import pytest

from api.app import create_app
from nas.service import SearchService
from tests.unit.api.answers import problem_in
from tests.unit.api.live import serving
from tests.unit.api.seeded import LOG_TAIL


@pytest.fixture
def beside(seeded, tmp_path):
    """A server beside the workers: it sees where they print."""
    service = SearchService(seeded.store, artifact_root=seeded.artifact_root, logs=tmp_path)
    with (
        serving(create_app(service)) as address,
        httpx.Client(base_url=f"{address}/api/v1/searches/") as http,
    ):
        yield http


def test_a_live_log_is_read_from_its_file(seeded, beside, tmp_path):
    search_id = seeded.id("running")
    log = tmp_path / f"{search_id}.log"
    log.write_text("".join(f"{number}\n" for number in range(150)))
    whole = beside.get(f"{search_id}/logs", params={"tail": 1000}).json()
    assert (whole["source"], whole["is_whole"], len(whole["lines"])) == ("file", True, 150)
    assert len(beside.get(f"{search_id}/logs").json()["lines"]) == 100
    with log.open("a") as file:
        file.write("news")
    tail = beside.get(f"{search_id}/logs", params={"tail": 1}).json()
    assert (tail["lines"], tail["is_whole"]) == (["news"], False)
    assert tail["updated_at"].endswith("Z")


def test_a_server_elsewhere_tells_what_the_failure_kept(seeded, beside):
    search_id = seeded.id("failed")
    for answer in (beside.get(f"{search_id}/logs"), seeded.http.get(f"/api/v1/searches/{search_id}/logs")):
        found = answer.json()
        assert (found["source"], found["is_whole"]) == ("failure", False)
        assert found["lines"] == LOG_TAIL.splitlines()
    failure = beside.get(search_id).json()["failure"]
    assert failure["log_tail"] == LOG_TAIL
    assert failure["kind"] == "ERROR"
    assert failure["traceback"].startswith("Traceback")


def test_a_log_that_is_not_here_is_a_problem_that_says_where_it_is(seeded, beside):
    search_id = seeded.id("running")
    detail = problem_in(beside.get(f"{search_id}/logs"), 404, "log_unavailable")["detail"]
    assert f"NAS_HOME/logs where its worker runs, as {search_id}.log" in detail
    problem_in(beside.get("nope/logs"), 404, "not_found")


@pytest.mark.parametrize("tail", ["0", "-1", "10001", "all", "9" * 30])
def test_lines_out_of_range(seeded, tail):
    answer = seeded.http.get(f"/api/v1/searches/{seeded.id('failed')}/logs", params={"tail": tail})
    assert problem_in(answer, 422, "invalid_request")["errors"][0]["field"] == "tail"
