"""What a visitor does on a page: presses, types, clicks, waits."""

import json
import time


def type_spec(browser, text):
    """Replace what stands in the editor, as a reader's typing would."""
    browser.evaluate(
        "(() => { const view = document.querySelector('.cm-content').cmView.view;"
        f" view.dispatch({{changes: {{from: 0, to: view.state.doc.length, insert: {json.dumps(text)}}}}}); }})()"
    )


def is_disabled(browser, label):
    """Return whether a button cannot be pressed."""
    return browser.evaluate(
        f"[...document.querySelectorAll('button')].find(b => b.innerText.trim().endsWith({label!r})).disabled"
    )


def click(browser, selector, text):
    """Click what has a text, among what a selector finds."""
    browser.evaluate(
        f"[...document.querySelectorAll({selector!r})].find(each => each.innerText === {text!r}).click()"
    )


def fill(browser, label, text):
    """Type into a field, by its label."""
    browser.evaluate(
        f"(() => {{ const field = document.querySelector('[aria-label=' + {json.dumps(json.dumps(label))} + ']');"
        f" field.value = {json.dumps(text)}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )
    time.sleep(0.5)  # longer than a field waits for more


def wait_for_no(browser, text):
    """Wait until a text is no longer seen."""
    deadline = time.monotonic() + 30
    while text in browser.text:
        assert time.monotonic() < deadline, browser.text
        time.sleep(0.1)


def press(browser, label, *, last=False):
    """Press a button by its label."""
    browser.evaluate(
        f"[...document.querySelectorAll('button')].filter(b => b.innerText.trim().split('\\n').at(-1) === {label!r})"
        f".at({-1 if last else 0}).click()"
    )
