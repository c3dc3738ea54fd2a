"""The HTML of a report: one file that needs nothing else, and in which what people wrote is text."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from nas.report import SearchReport
from nas.report_figures import figures
from nas.report_page import report_page
from tests.reports import reported, rung_spec, small_report
from tests.searches import make_search

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "end": "</script><script>alert(1)</script>",
    "comment": "<!--<script>",
    "handler": "<img src=x onerror=alert(1)>",
    "attribute": "\" onload=alert(1) x='",
    "entity": "&lt;script&gt;&#60;script&#62;",
    "title": "</title><svg/onload=alert(1)>",
    "template": "{{7*7}} ${alert(1)} `alert(1)`",
}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "p", "h1", "h2", "div", "strong", "dl", "dt", "dd", "nav",
    "ul", "li", "a", "noscript", "section", "figure", "figcaption", "details", "summary", "table", "thead", "tbody", "tr",
    "th", "td", "code", "script",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "role", "aria-label", "aria-labelledby", "style",
    "href", "scope", "type",
}  # fmt: skip


class Seen(HTMLParser):
    """What a browser would see in a document: its tags, its text and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text.append(data)


def page(report: SearchReport) -> str:
    return "".join(report_page(report))


def without_plotly(text: str) -> str:
    """Return a page without the script that is not ours."""
    begin = text.index('<script type="module">')
    return text[:begin] + text[text.index("</script>", begin) :]


def test_the_page_holds_verdict_captions_and_numbers_of_every_figure():
    report = small_report()
    seen = Seen(page(report))
    text = " ".join(seen.text)
    for sentence in report.verdict:
        assert sentence in text
    drawn = json.loads(seen.scripts[0])
    for figure in figures(report):
        assert figure.caption in text
        assert figure.reading in text
        assert drawn[figure.name]["data"] == json.loads(json.dumps(figure.data))
        for row in figure.table.rows:
            assert all(cell in text for cell in row)
    labels = [attributes["aria-label"] for _, attributes in seen.tags if attributes.get("role") == "img"]
    assert len(labels) == len(drawn) == 8


def test_a_search_without_trials_has_a_page_that_says_so():
    seen = Seen(page(reported(make_search(spec=rung_spec()), [])))
    assert json.loads(seen.scripts[0]) == {}
    assert "No trial has been trained to the end so far." in " ".join(seen.text)


def test_nothing_is_loaded_and_only_our_scripts_may_run():
    text = page(small_report())
    seen = Seen(text)
    (policy,) = [attributes["content"] for _, attributes in seen.tags if "http-equiv" in attributes]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    hashes = {
        f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in seen.scripts[1:]
    }
    assert set(rules.pop("script-src").split()) == hashes
    assert len(hashes) == 2
    assert set(rules) == {"style-src", "img-src", "base-uri", "form-action"}
    assert not {"src", "srcset", "data", "action"} & {
        name for _, attributes in seen.tags for name in attributes
    }
    assert {attributes["href"][0] for tag, attributes in seen.tags if tag == "a"} == {"#"}
    ours = without_plotly(text)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", ours.replace("// ", ""))
    assert len(ours) < 200_000
    assert "sourceMappingURL" not in text
    assert text.count("</script>") == 3


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_what_people_name_is_text(words):
    harmless = small_report(
        spec=rung_spec(name="n", parent="builtin:tiny"), owner="o", tags=("t",), notes="w"
    )
    report = small_report(spec=rung_spec(name=words[:200]), owner=words, tags=(words,), notes=f"x {words}")
    report = replace(report, parent=words, data=(words,))
    seen, plain = Seen(page(report)), Seen(page(harmless))
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    assert {tag for tag, _ in seen.tags} <= ALLOWED
    assert {name for _, attributes in seen.tags for name in attributes} <= ATTRIBUTES
    assert "".join(seen.text).count(words) >= 5
    assert seen.scripts[1:] == plain.scripts[1:]
    assert json.loads(seen.scripts[0]) == json.loads(plain.scripts[0])
