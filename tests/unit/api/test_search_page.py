"""The page of a search as a visitor uses it: chooses trials, reads what is drawn, sees what happens."""

import time
from datetime import UTC, datetime

import httpx
import pytest

from nas.edits import Edit
from nas.layout import attempt_log
from nas.leaderboard import leaderboard
from nas.service import SearchService
from nas.spec import load_spec
from nas.trial import TrialState
from tests.postgres import private_server
from tests.unit.api.seeded import DEMO, TRACEBACK
from tests.unit.api.server import running
from tests.unit.api.visitor import click, press, wait_for_no

pytestmark = pytest.mark.browser
OPACITY = "getComputedStyle(document.querySelector('.numbers')).opacity"


def _lines(server, name):
    service = SearchService(server.store, artifact_root=server.artifact_root)
    return leaderboard(service.trials(server.id(name)))


def _once(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _rows(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.q-table tbody tr')].map(row => [...row.cells].map(each => each.innerText.trim()))"
    )


def test_a_trial_is_chosen_in_the_table_and_drawn_against_its_parent(server, browser):
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    browser.wait_for("Winner", "What was kept of the parent", "completed, rank 1")
    second = _lines(server, "succeeded")[1].record.trial
    click(browser, ".number-button", str(second.number))
    browser.wait_for(f"Trial {second.number}\n", "completed, rank 2")
    dropped = browser.evaluate(
        "[...document.querySelectorAll('.shape-cells i')].flatMap((each, i) => each.className === 'dropped' ? [i] : [])"
    )
    assert dropped == [layer for layer in range(6) if layer not in second.kept_layers]
    assert browser.evaluate("location.search") == f"?trial={second.number}"
    assert browser.evaluate("document.querySelector('tr.chosen .number-button').innerText") == str(
        second.number
    )


def test_an_address_that_names_a_trial_turns_the_table_to_it(server, browser):
    last = _lines(server, "succeeded")[-1].record.trial.number
    browser.open(f"{server.address}/searches/{server.id('succeeded')}?trial={last}")
    browser.wait_for("Winner", f"Trial {last}")
    _once(
        lambda: (
            browser.evaluate("document.querySelector('.number-button[aria-pressed=true]')?.innerText")
            == str(last)
        )
    )


def test_a_failed_trial_shows_its_attempt_and_traceback(server, browser):
    browser.open(f"{server.address}/searches/{server.id('succeeded')}?trial=3")
    browser.wait_for("Trial 3\n", "failed", "1. on host:4003")
    assert TRACEBACK.splitlines()[2].strip() not in browser.text
    click(browser, ".failure .q-item div", TRACEBACK.splitlines()[-1])
    browser.wait_for(TRACEBACK.splitlines()[2].strip())


def test_an_attempt_shows_its_log_which_may_be_elsewhere(server, browser):
    search_id = server.id("succeeded")
    path = attempt_log(server.artifact_root, search_id, 3, 1)
    browser.open(f"{server.address}/searches/{search_id}?trial=3")
    browser.wait_for("Trial 3\n", "1. on host:4003")
    press(browser, "Log")
    browser.wait_for("Trial 3, attempt 1: log", "No such file")
    path.parent.mkdir(parents=True)
    path.write_text("begun <b>here</b>\n" * 5000 + "the last line\n", encoding="utf-8")
    press(browser, "Read again", last=True)
    browser.wait_for("of 90,014 bytes", "begun <b>here</b>", "the last line")


def test_the_table_is_sorted_and_paged_on_the_server(server, browser):
    lines = _lines(server, "succeeded")
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    browser.wait_for("Winner", f"1-12 of {len(lines)}")
    assert len(_rows(browser)) == 12
    click(browser, ".q-pagination button", "2")
    browser.wait_for(f"13-{len(lines)} of {len(lines)}")
    assert len(_rows(browser)) == len(lines) - 12
    losses = sorted(line.loss for line in lines if line.num_tokens)
    for ordered in (losses, losses[::-1]):
        browser.evaluate(
            "[...document.querySelectorAll('button.sort')].find(each => each.firstChild.data.trim() === 'Loss').click()"
        )
        _once(lambda: [row[1] for row in _rows(browser)] == [f"{loss:.4f}" for loss in ordered[:12]])  # noqa: B023
    assert (
        browser.evaluate("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    )


def test_it_tells_rankings_axes_and_what_happened(server, browser):
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    text = browser.wait_for("Which axis decides?", "over 11 trials", "Do trials rank early", "n = 1")
    assert "Succeeded: trial" in text
    assert "100 %" not in text
    assert browser.complaints == []
    browser.open(f"{server.address}/searches/{server.id('preparing')}")
    browser.wait_for(
        "8 trials trained to the last rung are needed, 0 are so far",
        "told once 3 trials are measured",
        "Drawn once 3 trials",
    )


def test_its_spec_can_be_read_and_is_complete(server, browser, tmp_path):
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    browser.wait_for("Winner")
    click(browser, ".q-item div", "Show")
    text = browser.wait_for("checkpoint_seconds: 60.0")
    assert f"max_parameters: {load_spec(DEMO).budget.max_parameters}" in text


def test_a_log_that_is_not_there_says_where_it_is(server, browser):
    browser.open(f"{server.address}/searches/{server.id('failed')}")
    browser.wait_for("This search failed")
    press(browser, "Show its end")
    browser.wait_for("The last 3 lines", "search: RUNNING")
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    browser.wait_for("Winner")
    press(browser, "Show its end")
    browser.wait_for("below NAS_HOME/logs where its worker runs")


def test_new_points_are_drawn_without_a_reload(server, browser):
    played = server.played["running"]
    browser.open(f"{server.address}/searches/{played.id}")
    browser.wait_for("as of", "Best so far")
    before = len(server.store.points(played.id))
    drawn = "getElement(document.querySelector('.nicegui-echart').id.slice(1)).chart.getOption().series"
    count = f"{drawn}.flatMap(each => each.data || []).length"
    assert browser.evaluate(count) >= 3
    played.clock.now = datetime.now(UTC)
    played.train(num_points=before + 12)
    newest = max(trial.number for trial in server.store.trials(played.id))
    browser.wait_for(f"Trial {newest} trains on host:{4000 + newest}")
    running_trials = [t for t in server.store.trials(played.id) if t.state is TrialState.RUNNING]
    assert running_trials


def test_nothing_is_sent_while_nothing_happens(server, browser):
    """What others write of other searches is no reason to draw this one again."""
    browser.open(f"{server.address}/searches/{server.id('cancelled')}")
    browser.wait_for("Cancelled")
    time.sleep(1)  # charts come after the text
    browser.evaluate(
        "window.drawn = 0; new MutationObserver(found => window.drawn += found.length)"
        ".observe(document.querySelector('.page'), {subtree: true, childList: true, characterData: true})"
    )
    server.store.edit_search(server.id("failed"), Edit(notes="of another"))
    time.sleep(6)
    assert browser.evaluate("window.drawn") == 0
    server.store.edit_search(server.id("cancelled"), Edit(notes="of this one"))
    browser.wait_for("of this one")


def test_numbers_are_dimmed_and_dated_while_the_database_is_away(browser, tmp_path):
    with private_server() as database, running(tmp_path, database_url=database.new_database()) as server:
        browser.open(f"{server.address}/searches/{server.id('running')}")
        browser.wait_for("Best so far", "as of")
        database.stop()
        text = browser.wait_for("The database does not answer; shown as of", "UTC. postgresql")
        assert "Best so far" in text
        assert float(browser.evaluate(OPACITY)) < 1
        database.start()
        wait_for_no(browser, "The database does not answer")
        assert float(browser.evaluate(OPACITY)) == 1


def test_a_connection_that_is_lost_dims_the_page(server, browser):
    browser.open(f"{server.address}/searches/{server.id('succeeded')}")
    browser.wait_for("Winner")
    assert float(browser.evaluate(OPACITY)) == 1
    lost = "document.getElementById('popup').ariaHidden = false"  # as NiceGUI does then, and not before it connects
    _once(lambda: float(browser.evaluate(f"{lost}, {OPACITY}")) < 1)


@pytest.mark.parametrize("query", ["trial=99999", "trial=x", "trial=-1", "trial=%00", "trial=" + "9" * 30])
def test_a_trial_that_there_is_not_is_the_best(server, query):
    assert httpx.get(f"{server.address}/searches/{server.id('succeeded')}?{query}").status_code == 200
