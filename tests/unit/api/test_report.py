"""The report of a search by REST, on its page, and as a file that is opened without a network."""

import time

import httpx
import pytest

from api.schemas.report import ReportResource
from nas import wording
from nas.edits import Edit
from nas.report import SearchReport
from nas.spec import dump, load
from nas.trial import TrialState
from tests.reports import small_report
from tests.unit.api.answers import problem_in

HOSTILE = (
    "</script><script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\">"
)


def address(search_id):
    return f"/api/v1/searches/{search_id}/report"


def test_the_report_is_what_trials_and_search_tell(seeded):
    for name, played in seeded.played.items():
        told = seeded.http.get(address(played.id)).json()
        report = load(SearchReport, told)
        search = seeded.http.get(f"/api/v1/searches/{played.id}").json()
        trials = seeded.http.get(f"/api/v1/searches/{played.id}/trials", params={"page_size": 200}).json()[
            "trials"
        ]
        assert report.spending.num_tokens == search["tokens_done"], name
        assert report.spending.compute_seconds == pytest.approx(search["compute_seconds"])
        assert told["counts"] == search["counts"]
        assert told["comparison"] == search["comparison"]
        assert told["importance"] == search["importance"]
        assert len(report.trials) == len(trials)
        front = seeded.http.get(f"/api/v1/searches/{played.id}/front").json()["trials"]
        assert [each.number for each in report.front] == [each["number"] for each in front]
        stopped = [
            each for each in trials if each["state"] == TrialState.STOPPED and each["role"] == "SEARCH"
        ]
        on = {part.on.value: part.num_trials for part in report.spending.parts}
        assert on.get("stopped", 0) == len(stopped)


def test_the_golden_report_is_answered_to_the_letter():
    """REST, the client and the command line lay a report out alike."""
    report = small_report()
    assert ReportResource.model_validate(report).model_dump(mode="json") == dump(report)


def test_html_is_streamed_as_a_page_with_a_name(seeded):
    search_id = seeded.id("succeeded")
    with seeded.http.stream("GET", address(search_id), params={"format": "html"}) as answer:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-disposition"] == f'inline; filename="report-{search_id}.html"'
        text = "".join(answer.iter_text())
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert 4_000_000 < len(text) < 6_000_000


def test_what_cannot_be_reported_is_refused(seeded):
    problem_in(seeded.http.get(address("none")), 404, "not_found")
    wrong = seeded.http.get(address(seeded.id("succeeded")), params={"format": "pdf"})
    assert problem_in(wrong, 422, "invalid_request")["errors"][0]["field"] == "format"


@pytest.mark.browser
class TestInTheBrowser:
    def test_the_file_is_whole_without_a_network(self, server, browser, tmp_path):
        search_id = server.id("succeeded")
        server.store.edit_search(
            search_id, Edit(owner=HOSTILE[:80], tags=(HOSTILE[:40].replace(" ", ""),), notes=HOSTILE)
        )
        path = tmp_path / "report.html"
        path.write_bytes(httpx.get(server.address + address(search_id), params={"format": "html"}).content)
        browser._call("Network.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        browser._call("Network.emulateNetworkConditions", **offline)
        try:
            browser.open(path.as_uri())
            _wait_until(browser, "document.body && document.body.dataset.drawn === 'yes'")
            assert browser.complaints == []
            assert "caught" not in browser.evaluate("document.title")
            assert HOSTILE in browser.evaluate("document.querySelector('.notes').textContent")
            drawn = browser.evaluate("document.querySelectorAll('.plot svg.main-svg').length")
            assert drawn >= browser.evaluate("document.querySelectorAll('.plot').length") == 8
            invalid = (
                "Object.values(JSON.parse(document.getElementById('figures').textContent))"
                ".map(each => Plotly.validate(each.data, each.layout)).filter(each => each).length"
            )
            assert browser.evaluate(invalid) == 0
            loaded = "performance.getEntriesByType('resource').length"
            assert browser.evaluate(loaded) == 0
            assert browser.screenshot(tmp_path / "report.png").stat().st_size > 100_000
        finally:
            browser._call(
                "Network.emulateNetworkConditions",
                **{**offline, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
            )

    def test_the_page_of_a_search_tells_what_it_cost_and_leads_to_the_report(self, server, browser):
        search_id = server.id("succeeded")
        report = load(SearchReport, httpx.get(server.address + address(search_id)).json())
        browser.open(f"{server.address}/searches/{search_id}")
        text = browser.wait_for("What tokens and hours went into", "Zones that never work")
        assert report.verdict[-1] in text
        for part in report.spending.parts:
            assert f"{wording.count(part.num_tokens)} tokens" in text
        link = browser.evaluate(
            "[...document.querySelectorAll('a')].find(a => a.innerText.includes('whole report')).href"
        )
        browser.open(link)
        browser.wait_for("Report of a search for a smaller language model", "Loss against parameters")
        _wait_until(browser, "document.body.dataset.drawn === 'yes'")
        assert browser.complaints == []


def _wait_until(browser, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)
