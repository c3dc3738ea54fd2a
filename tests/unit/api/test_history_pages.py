"""The pages History and Compare, as a visitor's browser shows them."""

import json
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlencode

import httpx
import pytest

from nas import wording
from nas.edits import Edit
from nas.history import HistoryOrder
from nas.service import SearchService
from tests.fakes import ManualClock
from tests.unit.api.chromium import chromium
from tests.unit.api.seeded import Played, demo_spec
from tests.unit.api.server import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        store = server.store
        store.edit_search(server.id("succeeded"), Edit(owner="Ann"))
        store.edit_search(server.id("cancelled"), Edit(archived=True))
        clock = ManualClock(datetime.now(UTC))
        service = SearchService(store, artifact_root=server.artifact_root, clock=clock)
        spec = demo_spec(name="other sampler", sampler="random")
        server.played["other"] = Played(store, clock, service.create(spec).id).train()
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert CHROMIUM, "no Chromium on the path: install it, or leave these tests out with -m 'not browser'"
    with chromium(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def service(server):
    return SearchService(server.store, artifact_root=server.artifact_root)


def addressed(server, *names):
    return (
        f"{server.address}/compare?{urlencode({'search': [server.id(name) for name in names]}, doseq=True)}"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/compare?search=none&search=%00&search=../x",
        "/history?parent_key=none&tag=%00&owner=%00&min_parameters=x&max_loss=nan&max_parameters=1e99",
        "/compare?" + "&".join(f"search=s{number}" for number in range(20)),
    ],
)
def test_addresses_that_say_nothing_are_pages_all_the_same(server, path):
    assert httpx.get(server.address + path).status_code == 200


@pytest.mark.browser
class TestHistory:
    def test_it_opens_on_the_parents_and_the_latest_students(self, server, service, browser, tmp_path):
        browser.open(f"{server.address}/history")
        (parent,) = service.list_parents(limit=9)
        text = browser.wait_for("Parents", "builtin:tiny", wording.loss(parent.best_loss), "1 to 25")
        assert "ended early" in text
        for entry in service.list_measurements(limit=3):
            assert entry.measured.architecture.name in text
        assert browser.screenshot(tmp_path / "history.png").stat().st_size > 50_000
        time.sleep(1)
        assert browser.complaints == []

    def test_a_parent_leads_to_its_students_and_these_to_search_and_launch(self, server, service, browser):
        browser.open(f"{server.address}/history")
        browser.wait_for("1 to 25")
        browser.evaluate("document.querySelector('a[href*=parent_key]').click()")
        browser.wait_for("All parents", "1 to 25")
        (parent,) = service.list_parents(limit=9)
        assert browser.evaluate("location.search") == f"?parent_key={parent.parent_key}"
        found = service.list_measurements(limit=1)[0].measured
        targets = browser.evaluate("[...document.querySelectorAll('tbody tr:first-child a')].map(a => a.getAttribute('href'))")  # fmt: skip
        assert targets == [
            f"/searches/{found.search_id}?trial={found.trial_number}",
            f"/launch?clone={found.search_id}",
        ]

    def test_the_server_sorts_and_pages(self, server, service, browser):
        browser.open(f"{server.address}/history?archived=any")
        browser.wait_for("1 to 25")
        press_heading(browser, "Loss")
        by_loss = [entry.measured for entry in service.list_measurements(order=HistoryOrder.LOSS, limit=60)]
        wait_for_first(browser, by_loss[0])
        press(browser, "Next")
        browser.wait_for("26 to ")
        wait_for_first(browser, by_loss[25])
        press(browser, "Before")
        browser.wait_for("1 to 25")
        wait_for_first(browser, by_loss[0])
        assert browser.evaluate(f"{heading('Loss')}.ariaSort") == "ascending"
        press_heading(browser, "Loss")
        by_loss = service.list_measurements(order=HistoryOrder.LOSS_REVERSED, limit=1)
        wait_for_first(browser, by_loss[0].measured)
        assert browser.evaluate(f"{heading('Loss')}.ariaSort") == "descending"

    def test_it_shows_what_is_asked_for_and_gives_the_same_as_a_table(self, server, service, browser):
        browser.open(f"{server.address}/history")
        browser.wait_for("1 to 25")
        fill(browser, "Owner", "Ann")
        found = [each for each in service.list_measurements(limit=99) if each.owner == "Ann"]
        browser.wait_for(f"1 to {len(found)}")
        assert browser.evaluate("location.search") == "?owner=Ann"
        address = browser.evaluate(
            "[...document.querySelectorAll('a')].find(a => a.innerText === 'JSONL').href"
        )
        lines = httpx.get(address).text.splitlines()
        assert {json.loads(line)["owner"] for line in lines} == {"Ann"}
        assert len(lines) == len(found)
        fill(browser, "At most loss", "0.5")
        browser.wait_for("Nothing of the kind was measured")

    def test_archived_searches_are_left_out_unless_asked_for(self, server, browser):
        measured = [entry.measured for entry in server.store.history.measurements(limit=99)]
        archived = [each for each in measured if each.search_id == server.id("cancelled")]
        least = min(each.architecture.parameter_count for each in archived)
        browser.open(f"{server.address}/history?max_parameters={least}&partial=any")
        browser.wait_for("Every student")
        browser.wait_for("Live; as of")
        assert "cancelled" not in browser.text
        browser.evaluate("[...document.querySelectorAll('[role=switch]')].at(-1).click()")
        browser.wait_for("cancelled")
        assert "archived=any" in browser.evaluate("location.search")
        assert len(measured) == len(server.store.history.measurements(limit=99))

    def test_what_is_measured_meanwhile_comes_by_itself(self, server, service, browser):
        browser.open(f"{server.address}/history")
        browser.wait_for("1 to 25", "Live; as of")
        played = server.played["running"]
        played.clock.now = server.played["other"].clock.now
        played.train(num_points=len(server.store.points(played.id)) + 14)
        latest = service.list_measurements(limit=1)[0].measured
        assert latest.search_id == played.id
        wait_for_first(browser, latest)

    def test_nothing_measured_yet(self, browser, tmp_path):
        with running(tmp_path, filled=False) as server:
            browser.open(f"{server.address}/history")
            browser.wait_for("Nothing is measured yet", "New search")
            browser.open(f"{server.address}/compare")
            browser.wait_for("Choose searches above")


@pytest.mark.browser
class TestCompare:
    def test_searches_are_drawn_together_with_what_differs(self, server, service, browser, tmp_path):
        names = ("succeeded", "other", "running")
        browser.open(addressed(server, *names))
        text = browser.wait_for("Where each stands", "What was asked otherwise", "sampler", "random")
        found = service.compare([server.id(name) for name in names])
        for each in found.searches:
            assert wording.loss(each.view.best_loss) in text
        assert "Ann" in text
        assert "not which search did better" not in text
        assert browser.evaluate("document.querySelectorAll('.nicegui-echart canvas').length") == 2
        assert browser.screenshot(tmp_path / "compare.png").stat().st_size > 50_000
        time.sleep(1)
        assert browser.complaints == []

    def test_it_says_when_losses_say_nothing_about_each_other(self, server, service, browser):
        longer = demo_spec(name="longer", training=replace(demo_spec().training, num_tokens=200_000))
        server.played["longer"] = Played(
            server.store, ManualClock(datetime.now(UTC)), service.create(longer).id
        )
        browser.open(addressed(server, "succeeded", "longer"))
        browser.wait_for("more training alone lowers a loss", "98,304 | ", "training.num_tokens")

    def test_searches_are_chosen_from_a_list_and_the_address_follows(self, server, browser):
        browser.open(addressed(server, "succeeded"))
        browser.wait_for("Choose another search to compare with")
        browser.evaluate("document.querySelector('.q-select input').focus()")
        browser.evaluate(
            "document.querySelector('.q-select .q-field__append i:last-child, .q-select').click()"
        )
        browser.wait_for("other sampler (")
        browser.evaluate("[...document.querySelectorAll('.q-menu .q-item')].find(e => e.innerText.startsWith('other sampler')).click()")  # fmt: skip
        browser.wait_for("sampler", "tpe", "random")
        expected = urlencode({"search": [server.id("succeeded"), server.id("other")]}, doseq=True)
        assert browser.evaluate("location.search") == f"?{expected}"

    def test_a_search_that_is_not_here_is_told(self, server, browser):
        browser.open(f"{addressed(server, 'succeeded')}&search=nowhere")
        browser.wait_for("Some of these searches are not here", "nowhere", "Where each stands")

    def test_a_search_that_runs_is_followed(self, server, service, browser):
        played = server.played["running"]
        browser.open(addressed(server, "running"))
        before = tokens_of(service, played)
        browser.wait_for("Where each stands", wording.count(before))
        played.train(num_points=len(server.store.points(played.id)) + 9)
        assert tokens_of(service, played) > before
        browser.wait_for(wording.count(tokens_of(service, played)))


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/history", "/compare"])
def test_a_lost_connection_dims_what_may_be_old(server, browser, path):
    browser.open(addressed(server, "succeeded") if path == "/compare" else server.address + path)
    browser.wait_for("builtin:tiny", "Live; as of")
    opacity = "Math.min(...[...document.querySelectorAll('.panel:has(table)')].map(e => getComputedStyle(e.closest('.numbers')).opacity))"
    assert float(browser.evaluate(opacity)) == 1
    lost = "document.getElementById('popup').ariaHidden = false"  # as NiceGUI does then, and not before it connects
    deadline = time.monotonic() + 20
    while float(browser.evaluate(f"{lost}, {opacity}")) == 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def tokens_of(service, played):
    return service.get(played.id).tokens_done


def press(browser, label):
    browser.evaluate(
        f"[...document.querySelectorAll('button')].find(b => b.innerText.trim().endsWith({label!r})).click()"
    )


def press_heading(browser, label):
    browser.evaluate(f"{heading(label)}.querySelector('button').focus()")
    browser.press("Enter")


def heading(label):
    return f"[...document.querySelectorAll('th')].find(th => th.querySelector('button')?.firstChild.data.trim() === {label!r})"


def fill(browser, label, text):
    """Type into a field, by its label."""
    browser.evaluate(
        f"(() => {{ const field = document.querySelector('[aria-label=' + {json.dumps(json.dumps(label))} + ']');"
        f" field.value = {json.dumps(text)}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def wait_for_first(browser, found):
    """Wait until a measurement is in the first row of the students."""
    row = "document.querySelectorAll('table')[document.querySelectorAll('table').length - 1].querySelector('tbody tr').innerText"
    expected = (found.architecture.name, wording.loss(found.loss), f"trial {found.trial_number}")
    deadline = time.monotonic() + 30
    while not all(part in browser.evaluate(row) for part in expected):
        assert time.monotonic() < deadline, (expected, browser.evaluate(row))
        time.sleep(0.1)
