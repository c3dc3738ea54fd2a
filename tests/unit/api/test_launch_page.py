"""The launch page as a visitor uses it: form and text in step, errors beside their fields, one search for one press."""

import json
import time

import httpx
import pytest

from nas.spec import parse_spec
from nas.templates import templates
from nas.text import read_text
from tests.unit.api.seeded import DEMO
from tests.unit.api.visitor import fill, is_disabled, press, type_spec, wait_for_no

pytestmark = pytest.mark.browser


def _text(browser):
    return browser.evaluate("document.querySelector('.cm-content').cmView.view.state.doc.toString()")


def _value(browser, label):
    return browser.evaluate(
        f"document.querySelector('[aria-label=' + {json.dumps(json.dumps(label))} + ']').value"
    )


def _once(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _error_beside(browser, label):
    return browser.evaluate(
        f"document.querySelector('[aria-label=' + {json.dumps(json.dumps(label))} + ']')"
        ".closest('.q-field').innerText"
    )


def test_a_field_changes_the_text_and_leaves_what_was_written_around(server, browser):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    fill(browser, "At most, parameters", "600k")
    _once(lambda: "max_parameters: 600_000" in _text(browser))
    assert "# or hub:ORG/NAME" in _text(browser)
    wait_for_no(browser, "72 feasible")
    fill(browser, "Layers", "3 to 6")
    _once(lambda: read_text(_text(browser))["axes"]["num_layers"] == {"start": 3, "stop": 6})
    assert _value(browser, "Layers") == "3 to 6"
    fill(browser, "At least", "")
    _once(lambda: "min_parameters" not in _text(browser))


def test_budgets_of_memory_and_work_are_written_in_a_field_each(server, browser, tmp_path):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    fill(browser, "At most, memory with its cache", "much")
    _once(lambda: "allowed: such as 2.5 GB" in _error_beside(browser, "At most, memory with its cache"))
    fill(browser, "At most, memory with its cache", "2 MB, 2 x 128 tokens")
    wanted = {"max_bytes": 2_000_000, "batch": 2, "context": 128}
    _once(lambda: read_text(_text(browser))["budget"].get("memory") == wanted)
    fill(browser, "At most, work of a token", "1.3 MFLOP, 128 tokens")
    _once(lambda: read_text(_text(browser))["budget"].get("work") == {"max_flops": 1_300_000, "context": 128})
    wait_for_no(browser, "72 feasible")
    assert browser.screenshot(tmp_path / "budgets.png").stat().st_size > 20_000
    fill(browser, "At most, memory with its cache", "")
    _once(lambda: "memory" not in read_text(_text(browser))["budget"])


def test_the_text_changes_the_fields(server, browser):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    type_spec(
        browser,
        "parent: builtin:tiny\nbudget: {max_parameters: 9e5}\naxes: {num_layers: [5], hidden_size: {start: 96, stop: 128, step: 16}}\nnum_trials: 7",
    )
    _once(lambda: _value(browser, "Trials") == "7")
    assert _value(browser, "At most, parameters") == "900_000"
    assert _value(browser, "Hidden size") == "96 to 128 step 16"
    assert _value(browser, "MLP size") == ""


@pytest.mark.parametrize("spec", ["", "parent: builtin:tiny\nbudgett: {max: 3"])
def test_numbers_of_a_spec_that_was_right_before_are_dimmed(server, browser, spec):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    dimmed = (
        "Math.max(...['.tiles', '.facts'].map(e => getComputedStyle(document.querySelector(e)).opacity)) < 1"
    )
    assert not browser.evaluate(dimmed)
    type_spec(browser, spec)
    _once(lambda: browser.evaluate(dimmed))
    type_spec(browser, DEMO.read_text())
    _once(lambda: not browser.evaluate(dimmed))


def test_the_editor_has_a_name_and_the_keyboard_leaves_it(server, browser):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    _once(lambda: browser.evaluate("document.querySelector('.cm-content').ariaLabel") == "Spec")
    before = _text(browser)
    browser.evaluate("document.querySelector('.cm-content').focus()")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.closest('.cm-editor')") is None
    assert browser.evaluate("document.activeElement.ariaLabel") == "Owner"
    assert _text(browser) == before


def test_what_is_wrong_stands_beside_its_field(server, browser):
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    fill(browser, "Layers", "a few")
    _once(lambda: "allowed: sizes such as 4, 5, 6" in _error_beside(browser, "Layers"))
    _once(lambda: is_disabled(browser, "Launch"))
    fill(browser, "Layers", "40")
    _once(lambda: "1 to the parent's 6" in _error_beside(browser, "Layers"))
    assert is_disabled(browser, "Launch")
    fill(browser, "Layers", "4, 5, 6")
    browser.wait_for("72 feasible")
    _once(lambda: not is_disabled(browser, "Launch"))
    assert "allowed" not in _error_beside(browser, "Layers")


def test_pressed_twice_it_is_one_search(server, browser):
    before = len(server.store.list_searches(limit=1000))
    browser.open(f"{server.address}/launch")
    browser.wait_for("72 feasible")
    fill(browser, "Name", "pressed twice")
    fill(browser, "Owner", "Ann")
    _once(lambda: "name: pressed twice" in _text(browser))
    time.sleep(1)
    browser.evaluate(
        "(() => { const launch = [...document.querySelectorAll('button')].find(b => b.innerText.trim().endsWith('Launch'));"
        " launch.click(); launch.click(); launch.click(); })()"
    )
    browser.wait_for("pressed twice", "Queued")
    searches = server.store.list_searches(limit=1000)
    assert len(searches) == before + 1
    (made,) = [search for search in searches if search.spec.name == "pressed twice"]
    assert made.owner == "Ann"


def test_a_clone_begins_with_the_other_spec(server, browser):
    source = server.store.get_search(server.id("succeeded"))
    browser.open(f"{server.address}/searches/{source.id}")
    browser.wait_for("Winner")
    press(browser, "Clone")
    browser.wait_for("New search", "from the spec of", "135 feasible")
    assert parse_spec(_text(browser)) == source.spec
    fill(browser, "Name", "cloned here")
    _once(lambda: "cloned here" in _text(browser))
    time.sleep(1)
    press(browser, "Launch")
    browser.wait_for("cloned here", "cloned from")
    (made,) = [
        search for search in server.store.list_searches(limit=1000) if search.spec.name == "cloned here"
    ]
    assert made.cloned_from == source.id


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.name)
def test_every_template_can_be_begun_with(server, browser, template):
    browser.open(f"{server.address}/launch?template={template.name}")
    browser.wait_for(template.title, "feasible", "What it would cost, in full")
    assert _text(browser).strip() == template.text.strip()
    assert browser.complaints == []


@pytest.mark.parametrize("query", ["clone=nope", "clone=%00", "template=nope", "template=&clone="])
def test_what_there_is_not_begins_with_the_first_template(server, query):
    page = httpx.get(f"{server.address}/launch?{query}")
    assert page.status_code == 200
    assert ("There is nothing to clone" in page.text) == ("clone=" in query and not query.endswith("="))
