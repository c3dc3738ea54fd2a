"""The pages as a visitor's browser gets them, and (marked ``browser``) as it shows them."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import httpx
import pytest

from api.dashboard import list_page, trials_table
from api.dashboard.said_panel import notes_html, words_in
from nas import wording
from nas.edits import Edit
from nas.leaderboard import leaderboard
from nas.search import SearchState
from nas.service import SearchService
from tests.hub import FakeHub, serving
from tests.postgres import private_server
from tests.searches import after, make_search, make_spec
from tests.unit.api.seeded import TRACEBACK, demo_spec
from tests.unit.api.server import running
from tests.unit.api.visitor import click as _click
from tests.unit.api.visitor import fill as _fill
from tests.unit.api.visitor import is_disabled as _is_disabled
from tests.unit.api.visitor import press as _press
from tests.unit.api.visitor import type_spec as _type
from tests.unit.api.visitor import wait_for_no as _wait_for_no


def test_pages_load_nothing_from_elsewhere(server):
    for path in ("/", f"/searches/{server.id('succeeded')}"):
        page = httpx.get(server.address + path)
        assert page.status_code == 200
        loaded = re.findall(r"""(?:src|href)=["'](https?:)?//""", page.text)
        assert loaded == []
        assert re.findall(r"""from ["']https?://|import\(["']https?://""", page.text) == []


@pytest.mark.parametrize("path", ["/nowhere", "/searches/nope"])
def test_addresses_that_lead_nowhere(server, path):
    page = httpx.get(server.address + path)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")


UNNAMED = """[...document.querySelectorAll('a, button, [role=img], [role=textbox]')].filter(e => e.offsetParent
  && !(e.ariaLabel || e.title || [...e.childNodes].some(child => !child.matches?.('i') && child.textContent.trim()
  && !(child.children?.length === 1 && child.querySelector('i:only-child')))))
  .map(e => e.outerHTML.slice(0, 120))"""
"""What can be pressed, or shows something, and has no name but that of its icon."""


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/", "/launch", "/history", "/compare", "search", "compared"])
def test_screen_readers_know_what_is_what(server, browser, path):
    found = server.id("succeeded")
    path = {"search": f"/searches/{found}", "compared": f"/compare?search={found}"}.get(path, path)
    browser.open(server.address + path)
    browser.wait_for("builtin:tiny" if path not in {"/launch", "/compare"} else "New search")
    time.sleep(2)  # charts and the editor come later
    assert browser.evaluate("document.documentElement.lang") == "en-US"
    assert browser.evaluate("document.querySelectorAll('[role=heading][aria-level=\\'1\\']').length") == 1
    charts = browser.evaluate(
        "[...document.querySelectorAll('.nicegui-echart')].map(e => e.role + e.ariaLabel)"
    )
    assert all(each.startswith("img") and len(each) > 20 for each in charts)
    assert browser.evaluate("[...document.querySelectorAll('th')].every(e => e.scope)")
    assert browser.evaluate(UNNAMED) == []


CONTRASTS = """(() => {
  const numbers = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = part => part / 255 <= .04045 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const over = (front, back) => [0, 1, 2].map(i => front[i] * front[3] + back[i] * (1 - front[3]));
  const behind = element => element
    ? over(numbers(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [255, 255, 255];
  const told = [...document.querySelectorAll('.page *, header *')].filter(e => e.offsetParent && !e.matches('.q-icon') && !e.closest('.cm-editor')
    && !e.closest(':disabled') && [...e.childNodes].some(each => each.nodeType === 3 && each.textContent.trim()));
  return told.map(e => {
    const back = behind(e), front = over(numbers(getComputedStyle(e).color), back);
    const [most, least] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    return [(most + .05) / (least + .05), e.innerText.slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
})()"""
"""What is written with too little contrast to read (WCAG 2.2, 1.4.3), and how much it has."""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["", "succeeded", "failed", "running"])
def test_what_is_written_can_be_read(server, browser, name, scheme):
    browser.prefer(scheme)
    browser.open(f"{server.address}/searches/{server.id(name)}?trial=3" if name else server.address)
    browser.wait_for("builtin:tiny")
    time.sleep(1)
    assert browser.evaluate(CONTRASTS) == []
    browser.prefer("light")


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "handler": "<img src=x onerror=alert(1)>",
    "link": "[a](javascript:alert(1)) [b](data:text/html,x) [c](JaVaScRiPt:alert(1)) <javascript:alert(1)>",
    "quotes": '[a](http://x/"onmouseover="alert(1)) [b](http://x "t\\" onclick=alert(1)")',
    "image": "![a](http://elsewhere/x.png)",
    "block": "<div onclick=alert(1)>\n\n<svg/onload=alert(1)>\n\n</div>",
    "table": "|a|\n|-|\n|<b onclick=x>|",
    "fence": '```"><script>\n</code><script>alert(1)</script>\n```',
    "entity": "&lt;script&gt; [a](&#106;avascript:alert(1))",
}


class Tags(HTMLParser):
    """What a browser would see in a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("notes", HOSTILE.values(), ids=HOSTILE)
def test_notes_run_nothing_and_load_nothing(notes):
    for tag, attributes in Tags(notes_html(notes)).seen:
        assert tag in {"p", "a", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
        assert attributes.keys() <= ({"href", "title"} if tag == "a" else {"class"})
        assert not re.match(r"\s*(javascript|data|vbscript):", attributes.get("href") or "", re.IGNORECASE)


def test_notes_are_markdown():
    shown = notes_html("# One\n\n- *two*\n- [three](https://x)\n\n|a|\n|-|\n|~~b~~|\n")
    for part in ("<h1>One</h1>", "<em>two</em>", '<a href="https://x">three</a>', "<td><s>b</s></td>"):
        assert part in shown


def test_tags_are_typed_with_spaces_or_commas():
    assert words_in(" a, b\tc,,d\n") == ("a", "b", "c", "d")
    assert words_in("") == ()


@pytest.mark.browser
class TestInTheBrowser:
    def test_first_page_lists_every_search_with_its_state(self, server, browser):
        browser.open(server.address)
        text = browser.wait_for(*(f"\n{name}" if name == "queued" else name for name in server.played))
        for state in SearchState:
            if state not in {SearchState.COMPLETING, SearchState.PAUSED}:
                assert state.value.capitalize() in text
        assert "2.3104" in text

    def test_a_search_shows_its_winner_beside_what_it_is_judged_by(self, server, browser, tmp_path):
        search = server.played["succeeded"].search
        service = SearchService(server.store, artifact_root=server.artifact_root)
        view = service.get(search.id)
        browser.open(f"{server.address}/searches/{search.id}")
        text = browser.wait_for("Winner", "Random indices")
        assert "Succeeded" in text
        assert wording.loss(view.best_loss) in text
        assert f"Trial {search.winner.trial_number}, {view.best.architecture.name}" in text
        assert str(service.winner_directory(search.id)) in text
        assert f"nas download {search.id}" in text
        assert re.search(rf"Corrected teacher\s+{wording.loss(search.corrected_loss)}", text)
        assert "Scores at tasks" in text
        assert "arc_easy acc" in text
        assert "0.6125" in text
        assert "0.4375" in text
        for line in leaderboard(service.trials(search.id))[: trials_table.ROWS_PER_PAGE]:
            assert line.record.trial.architecture.name in text
        assert browser.evaluate("document.querySelectorAll('.nicegui-echart canvas').length") == 3
        assert browser.screenshot(tmp_path / "page.png").stat().st_size > 50_000

    def test_pages_keep_to_their_policy(self, server, browser):
        """The browser has nothing to hold against any page, and what a page may not do it cannot."""
        for path, text in (("/", "succeeded"), (f"/searches/{server.id('succeeded')}", "Winner"), (f"/searches/{server.id('running')}", "Best so far"), ("/launch", "72 feasible")):  # fmt: skip
            browser.open(server.address + path)
            browser.wait_for(text)
            time.sleep(1)  # charts, the editor and icons come after the text
            assert browser.text
            assert browser.complaints == []
        browser.evaluate("new Image().src = 'http://127.0.0.2:1/secret'")
        time.sleep(0.5)
        assert browser.text
        assert "Content Security Policy" in browser.complaints[0]

    def test_a_failed_search_says_why(self, server, browser):
        browser.open(f"{server.address}/searches/{server.id('failed')}")
        browser.wait_for("This search failed", TRACEBACK.splitlines()[-1])
        assert TRACEBACK.splitlines()[2].strip() not in browser.text
        _click(browser, ".q-item__label, .q-item div", "Traceback and log")
        browser.wait_for(
            TRACEBACK.splitlines()[2].strip(), "Traceback of the worker", "End of the worker's log"
        )

    def test_a_search_that_prepares_says_how_far_it_is(self, server, browser):
        browser.open(f"{server.address}/searches/{server.id('preparing')}")
        browser.wait_for("Teacher answers: 61,440 of 98,304 tokens", "The first trial begins")

    def test_a_running_search_is_live_and_can_be_cancelled(self, server, browser):
        """What is stored while the page is open appears on it, without a reload."""
        played = server.played["running"]
        browser.open(f"{server.address}/searches/{played.id}")
        browser.wait_for("Running", "left", "Best so far")
        before = _ended(server, played.id)
        browser.wait_for(f"{before} of about 14")
        played.clock.now = datetime.now(UTC)
        played.train(num_points=len(server.store.points(played.id)) + 8)
        assert _ended(server, played.id) > before
        browser.wait_for(f"{_ended(server, played.id)} of about 14")
        _press(browser, "Cancel search")
        browser.wait_for("Cancel this search?")
        assert not server.store.get_search(played.id).cancel_requested
        _press(browser, "Cancel search", last=True)
        browser.wait_for("Cancelling")
        assert server.store.get_search(played.id).cancel_requested

    def test_a_new_search_appears_on_the_first_page(self, server, browser):
        browser.open(server.address)
        browser.wait_for("succeeded")
        SearchService(server.store, artifact_root=server.artifact_root).create(
            replace(demo_spec(), name="brand new")
        )
        browser.wait_for("brand new")

    def test_a_search_is_launched_from_the_page_once_its_spec_is_right(self, server, browser, tmp_path):
        browser.open(f"{server.address}/launch")
        browser.wait_for("72 feasible", "activations")
        _type(browser, "parent: builtin:tiny\nbudget: {max_parameters: 10}\naxes: {num_layers: [5]}")
        browser.wait_for("found no architecture with 0 to 10 total parameters")
        assert browser.screenshot(tmp_path / "launch.png").stat().st_size > 20_000
        assert _is_disabled(browser, "Launch")
        _type(
            browser,
            "name: typed here\nparent: builtin:tiny\nbudget: {max_parameters: 9e5}\naxes: {num_layers: [5]}",
        )
        browser.wait_for("1 feasible")
        assert not _is_disabled(browser, "Launch")
        _press(browser, "Launch")
        browser.wait_for("typed here", "Queued")
        assert "typed here" in {search.spec.name for search in server.store.list_searches()}

    def test_the_list_is_of_whom_and_what_is_asked_for(self, server, browser, tmp_path):
        server.store.edit_search(server.id("failed"), Edit(owner="Ann", tags=("llama", "kept")))
        server.store.edit_search(server.id("cancelled"), Edit(owner="Bo", tags=("llama",), archived=True))
        browser.open(server.address)
        text = browser.wait_for("Ann", "llama", "kept", "failed", "succeeded")
        assert "Bo" not in text
        _click(browser, "a.tag", "kept")
        _wait_for_no(browser, "succeeded")
        assert "succeeded" not in browser.wait_for("failed")
        assert browser.evaluate("location.search") == "?tag=kept"
        browser.open(f"{server.address}/?tag=llama")
        browser.wait_for("failed")
        browser.evaluate("document.querySelector('[role=switch]').click()")
        browser.wait_for("cancelled", "archived", "Bo")
        assert browser.evaluate("location.search") == "?tag=llama&archived=any"
        assert browser.screenshot(tmp_path / "list.png").stat().st_size > 20_000
        _fill(browser, "Owner", "Nobody here")
        browser.wait_for("No such searches")
        assert "owner=Nobody+here" in browser.evaluate("location.search")
        server.store.edit_search(server.id("cancelled"), Edit(archived=False))

    def test_an_edit_of_others_is_seen_without_a_reload(self, server, browser):
        browser.open(server.address)
        browser.wait_for("succeeded")
        server.store.edit_search(server.id("succeeded"), Edit(owner="Somebody else"))
        browser.wait_for("Somebody else")
        browser.open(f"{server.address}/searches/{server.id('succeeded')}")
        browser.wait_for("Somebody else")
        server.store.edit_search(server.id("succeeded"), Edit(notes="seen at once"))
        browser.wait_for("seen at once")

    def test_what_is_said_of_a_search_is_edited_on_its_page(self, server, browser, tmp_path):
        search_id = server.id("preparing")
        browser.open(f"{server.address}/searches/{search_id}")
        browser.wait_for("Nobody has said anything")
        _press(browser, "Edit")
        browser.wait_for("Notes, in Markdown")
        time.sleep(0.5)
        assert browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Owner"
        _fill(browser, "Owner", "Ann")
        _fill(browser, "Tags, with spaces between them", "two, one")
        _fill(browser, "Notes, in Markdown", "**Learnt**\n\n<script>document.title = 'run'</script>")
        _press(browser, "Save")
        browser.wait_for("Learnt", "one", "two", "<script>document.title")
        assert browser.evaluate("document.querySelector('.notes strong').innerText") == "Learnt"
        assert browser.evaluate("document.title") != "run"
        stored = server.store.get_search(search_id)
        assert (stored.owner, stored.tags) == ("Ann", ("one", "two"))
        time.sleep(0.5)
        assert browser.evaluate("document.activeElement.innerText").endswith("Edit")
        _press(browser, "Archive")
        browser.wait_for("Archived: left out of lists", "Unarchive")
        assert server.store.get_search(search_id).archived
        _press(browser, "Unarchive")
        browser.wait_for("Archive")
        assert browser.screenshot(tmp_path / "said.png").stat().st_size > 20_000

    def test_nothing_that_others_say_meanwhile_is_overwritten_unseen(self, server, browser):
        search_id = server.id("failed")
        browser.open(f"{server.address}/searches/{search_id}")
        browser.wait_for("This search failed")
        _press(browser, "Edit")
        browser.wait_for("Notes, in Markdown")
        server.store.edit_search(search_id, Edit(owner="Cy", notes="theirs"))
        _fill(browser, "Tags, with spaces between them", "bad,tag " + "x" * 41)
        _press(browser, "Save")
        browser.wait_for("allowed: words of 1 to 40 characters")
        _fill(browser, "Tags, with spaces between them", "mine")
        _press(browser, "Save")
        browser.wait_for("Somebody else has edited this meanwhile", "owner: Cy", "theirs")
        assert server.store.get_search(search_id).owner == "Cy"
        _press(browser, "Save")
        browser.wait_for("mine")
        assert server.store.get_search(search_id).tags == ("mine",)

    def test_a_hub_that_is_down_is_told_where_the_spec_is_written(self, browser, tmp_path, monkeypatch):
        with serving(FakeHub()) as hub:
            hub.is_down = True
            for name, value in (hub.environment() | {"HF_HOME": str(tmp_path / "hf")}).items():
                monkeypatch.setenv(name, value)
            with running(tmp_path, filled=False) as server:
                browser.open(f"{server.address}/launch")
                browser.wait_for("72 feasible")
                _type(browser, "parent: hub:org/tiny\nbudget: {max_parameters: 10}\naxes: {num_layers: [5]}")
                browser.wait_for("Not now", "hub:org/tiny: http", "allowed: try again")

    def test_a_database_that_is_away_is_told_until_it_is_back(self, browser, tmp_path):
        """Also on a page that is open; nothing has to be reloaded."""
        with (
            private_server() as database,
            running(tmp_path, database_url=database.new_database()) as server,
        ):
            browser.open(server.address)
            browser.wait_for("succeeded")
            database.stop()
            text = browser.wait_for("The database does not answer; shown as of")
            assert "succeeded" in text  # what was read stays, marked
            assert _opacity(browser) == "0.5"
            database.start()
            browser.wait_for("Live; as of", "succeeded", "cancelled")
            assert _opacity(browser) == "1"

    def test_the_list_has_pages_and_marks_its_numbers_when_the_connection_is_lost(self, browser, tmp_path):
        with running(tmp_path, filled=False) as server:
            for number in range(list_page.ROWS_PER_PAGE + 1):
                spec = make_spec(name=f"number {number:02}")
                server.store.add_search(
                    make_search(
                        f"s{number:02}", spec=spec, created_at=after(number), state=SearchState.FAILED
                    )
                )
            browser.open(f"{server.address}/?order_by=name&state=FAILED")
            text = browser.wait_for("number 00", "Next page")
            assert "number 25" not in text
            assert "Page before" not in text
            _press(browser, "Next page")
            assert "number 00" not in browser.wait_for("number 25", "Page before")
            assert browser.evaluate("location.search") == "?state=FAILED&order_by=name&after=s24"
            _press(browser, "Page before")
            browser.wait_for("number 00")
            first = "document.querySelector('.searches tbody a')"
            browser.evaluate(f"{first}.focus()")
            assert browser.evaluate("document.activeElement.getAttribute('href')") == "/searches/s00"
            assert _opacity(browser) == "1"
            browser.evaluate("void window.socket.disconnect()")
            time.sleep(1)
            assert _opacity(browser) == "0.5"

    def test_nothing_submitted_yet(self, browser, tmp_path):
        with running(tmp_path, filled=False) as server:
            browser.open(server.address)
            browser.wait_for("No searches yet", "nas submit search.yaml", f"{server.address}/api/v1/searches")


def _opacity(browser):
    return browser.evaluate("getComputedStyle(document.querySelector('.numbers')).opacity")


def _ended(server, search_id):
    return sum(trial.state.is_final for trial in server.store.trials(search_id))
