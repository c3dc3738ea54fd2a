"""Searches under way are paused, resumed, extended and killed from their page, as a visitor's browser shows it."""

import json
import shutil
import time

import pytest

from nas.orders import Enqueue, Pause
from nas.search import SearchState
from nas.service import SearchService
from nas.space import search_space
from tests.unit.api.chromium import chromium
from tests.unit.api.seeded import demo_spec
from tests.unit.api.server import running

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert CHROMIUM, "no Chromium on the path: install it, or leave these tests out with -m 'not browser'"
    with chromium(CHROMIUM, tmp_path_factory.mktemp("profile"), height=1000) as browser:
        yield browser


def press(browser, text, *, last=False):
    """Press a button that can be seen; of several the last, as in a dialog."""
    browser.wait_for(text)
    # The text of an icon stands before that of its button.
    is_it = f"b => b.offsetParent && b.innerText.trim().split('\\n').at(-1) === {json.dumps(text)}"
    browser.evaluate(
        f"[...document.querySelectorAll('button')].filter({is_it}).at({-1 if last else 0}).click()"
    )


def fill(browser, label, value):
    """Type into a field as people do."""
    browser.evaluate(
        f"""(() => {{
            const field = document.querySelector('.q-dialog input[aria-label={json.dumps(label)}]');
            field.focus();
            field.select();
            document.execCommand('insertText', false, {json.dumps(str(value))});
        }})()"""
    )


def test_a_queued_search_says_why_it_waits_and_is_paused_and_resumed(server, browser, tmp_path):
    service = SearchService(server.store, artifact_root=server.artifact_root)
    search = service.create(demo_spec(name="under control"))
    browser.open(f"{server.address}/searches/{search.id}")
    browser.wait_for("This server runs no searches", "Queued", "Nothing of it runs now")
    press(browser, "Pause")
    browser.wait_for("Pause this search?", "to the same results")
    assert server.store.get_search(search.id).state is SearchState.QUEUED
    press(browser, "Pause", last=True)
    browser.wait_for("Paused, until somebody resumes it: nas resume")
    assert server.store.get_search(search.id).state is SearchState.PAUSED
    assert browser.screenshot(tmp_path / "paused.png").stat().st_size > 20_000
    press(browser, "Resume")
    browser.wait_for("Queued")
    assert server.store.get_search(search.id).state is SearchState.QUEUED


def test_limits_are_changed_and_what_is_wrong_is_mended_in_the_dialog(server, browser, tmp_path):
    search_id = server.id("running")
    browser.open(f"{server.address}/searches/{search_id}")
    press(browser, "Change limits")
    browser.wait_for("The spec stays as it was asked")
    fill(browser, "Architectures to try in all", 2)
    press(browser, "Change")
    browser.wait_for("found 2, allowed:")
    assert browser.screenshot(tmp_path / "limits.png").stat().st_size > 20_000
    fill(browser, "Architectures to try in all", 30)
    press(browser, "Change")
    browser.wait_for("Architectures to try in all: 30, asked were 12")
    assert server.store.get_search(search_id).spec_by_now.num_trials == 30
    while browser.evaluate("document.querySelectorAll('.q-dialog').length"):
        time.sleep(0.1)
    press(browser, "Change limits")
    browser.wait_for("The spec stays as it was asked")
    fill(browser, "Training tokens in all", 5)
    press(browser, "Change")
    browser.wait_for("found 5, allowed:")
    assert browser.screenshot(tmp_path / "tokens.png").stat().st_size > 20_000
    fill(browser, "Training tokens in all", 80_000_000)
    press(browser, "Change")
    browser.wait_for("Training tokens in all: 80,000,000, no limit was asked")
    assert server.store.get_search(search_id).spec_by_now.max_tokens == 80_000_000


def test_an_architecture_is_asked_for_and_a_trial_is_stopped(server, browser, tmp_path):
    search_id = server.id("running")
    browser.open(f"{server.address}/searches/{search_id}")
    press(browser, "Try an architecture")
    browser.wait_for("before the next proposal", "Hidden size")
    press(browser, "Try it")
    browser.wait_for("found nothing, allowed: a mapping of any of num_layers")
    press(browser, "Leave it")
    wanted = search_space(demo_spec()).largest
    server.store.give_order(
        search_id, Enqueue(architecture=wanted), at=server.played["running"].clock(), by="ann"
    )
    browser.wait_for(f"To be tried next: {wanted.name}", "for ann")
    press(browser, "Stop a trial")
    browser.wait_for("It ends for good")
    press(browser, "Stop it")
    browser.wait_for("none is chosen")
    press(browser, "Leave it")
    assert browser.screenshot(tmp_path / "running.png").stat().st_size > 20_000


def test_a_search_is_killed_once_that_is_confirmed(server, browser):
    search_id = server.id("preparing")
    server.store.give_order(search_id, Pause(), at=server.played["preparing"].clock())
    browser.open(f"{server.address}/searches/{search_id}")
    browser.wait_for("Pausing")
    press(browser, "Kill")
    browser.wait_for("Kill this search?", "whatever its workers do")
    assert not server.store.get_search(search_id).state.is_final
    press(browser, "Kill", last=True)
    browser.wait_for("Cancelled")
    assert server.store.get_search(search_id).orders.is_killed
    browser.evaluate("window.scrollTo(0, 0)")
    assert "Change limits" not in browser.text


def focused(browser):
    return browser.evaluate("document.activeElement.innerText.trim().split('\\n').at(-1)")


@pytest.mark.parametrize("word", ["Kill", "Cancel search", "Change limits"])
def test_the_keyboard_is_back_at_the_button_once_its_dialog_is_left(server, browser, word):
    browser.open(f"{server.address}/searches/{server.id('running')}")
    browser.wait_for(word)
    is_it = f"b => b.innerText.trim().split('\\n').at(-1) === {json.dumps(word)}"
    browser.evaluate(f"[...document.querySelectorAll('button')].find({is_it}).focus()")
    browser.press("Enter")
    wait_until(
        lambda: browser.evaluate("!!document.querySelector('.q-dialog')?.contains(document.activeElement)")
    )
    browser.press("Escape")
    wait_until(lambda: not browser.evaluate("!!document.querySelector('.q-dialog')"))
    assert focused(browser) == word


def test_enter_on_the_button_that_gives_up_orders_nothing(server, browser):
    browser.open(f"{server.address}/searches/{server.id('running')}")
    press(browser, "Pause")
    browser.wait_for("Pause this search?")
    browser.evaluate(
        "[...document.querySelectorAll('.q-dialog button')].find(b => b.innerText.trim() === 'Leave it').focus()"
    )
    browser.press("Enter")
    wait_until(lambda: not browser.evaluate("!!document.querySelector('.q-dialog')"))
    assert not server.store.get_search(server.id("running")).orders.is_paused


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
