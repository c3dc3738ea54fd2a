"""A report as one HTML file that needs nothing else: no server, no network, nothing beside it.

plotly.js is embedded as NiceGUI brings it, so that figures cost no dependency of their own. The file's own policy lets
no other script run than the two that it holds, by their hashes, and lets it load nothing: what people wrote of a search
is text there, and could be nothing else.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas import wording
from nas.report import SearchReport
from nas.report_figures import figures
from nas.report_marks import Figure
from nas.report_tables import Table
from nas.report_words import listed

PLOTLY = Path("elements", "plotly", "dist", "index.js")
"""In NiceGUI: an ES module that also sets ``window.Plotly``."""
CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #212529; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
p { margin: 0 0 10px; }
a { color: #364fc7; }
.soft { color: #5c6670; font-size: .9rem; overflow-wrap: anywhere; }
.verdict { font-size: 1.08rem; border-left: 4px solid #0ca678; background: #f3faf7; padding: 12px 16px;
  margin: 18px 0; }
.verdict p { margin: 0 0 4px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 10px 24px; margin: 0 0 16px; }
.facts dt { color: #5c6670; font-size: .82rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.notes { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 4px solid #dee2e6; padding-left: 16px; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; padding: 0; margin: 0 0 8px; font-size: .9rem; }
section { border-top: 1px solid #dee2e6; padding-top: 18px; margin-top: 26px; }
figure { margin: 0; }
figcaption { font-size: .95rem; margin-top: 6px; overflow-wrap: anywhere; }
.plot { width: 100%; overflow: hidden; }
.nothing { background: #f8f9fa; padding: 20px; text-align: center; }
details { margin-top: 8px; font-size: .85rem; }
summary { cursor: pointer; color: #364fc7; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 6px; }
th, td { text-align: left; padding: 3px 10px; border-bottom: 1px solid #e9ecef; white-space: nowrap; }
th { color: #5c6670; font-weight: 600; }
.number { text-align: right; }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, details { display: none; }
  section { break-inside: avoid; }
  .verdict { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
INTRODUCTION = (
    "A trial prunes the parent to a smaller student, retrains it briefly and measures how well it predicts text that no "
    "trial trained on: its loss, the lower the better. The search proposes which shapes to try under the budget."
)
SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#343a40" };
const config = { displayModeBar: false, responsive: true };
const paper = matchMedia("print");
function draw(width) {
  for (const [name, figure] of Object.entries(figures)) {
    const margin = { l: 56, r: 20, t: 26, b: 48 };
    const base = { font, margin, height: figure.height, paper_bgcolor: "#fff", plot_bgcolor: "#fff", dragmode: false };
    const layout = { ...base, ...(width ? { width } : { autosize: true }), ...figure.layout };
    Plotly.react(document.getElementById("plot-" + name), figure.data, layout, config);
  }
}
draw(0);
addEventListener("beforeprint", () => draw(660));
addEventListener("afterprint", () => draw(0));
document.body.dataset.drawn = "yes";
"""


def report_page(report: SearchReport) -> Iterator[str]:
    """Yield a report as an HTML document, in pieces: about 4.6 MB, nearly all of them plotly.js."""
    drawn = figures(report)
    policy = (
        f"default-src 'none'; script-src '{_hash(_plotly())}' '{_hash(SCRIPT)}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    title = escape(report.name or f"Search {report.search_id}")
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · report</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
    )
    yield _head(report, title)
    links = "".join(f'<li><a href="#{each.name}">{escape(each.title)}</a></li>' for each in drawn)
    yield f'<nav aria-label="Figures"><ul>{links}</ul></nav>\n'
    yield "<noscript><p>The figures need JavaScript; their numbers stand in the tables.</p></noscript>\n"
    yield from map(_section, drawn)
    yield _foot(report)
    shown = {
        each.name: {"data": each.data, "layout": each.layout, "height": each.height}
        for each in drawn
        if each.data
    }
    yield f'</main>\n<script type="application/json" id="figures">{_data(shown)}</script>\n'
    yield '<script type="module">'
    yield _plotly()
    yield f'</script>\n<script type="module">{SCRIPT}</script>\n</body>\n</html>\n'


def _head(report: SearchReport, title: str) -> str:
    counts = ", ".join(f"{number:,} {state.lower()}" for state, number in sorted(report.counts.items()))
    rungs = listed(wording.count(rung) for rung in report.rungs)
    facts = {
        "Parent": f"{report.parent}, {wording.count(report.parent_parameters)} parameters",
        "Budget": report.budget.capitalize(),
        "Searched": f"{', '.join(wording.AXES[name] for name in report.axes) or 'nothing'}; "
        f"{report.num_feasible:,} architectures fit",
        "Text": ", ".join(report.data),
        "Retraining": f"compared after {rungs} tokens",
        "Proposed by": f"{report.sampler}, seed {report.seed}",
        "Trials": counts or "none yet",
        "State": report.state.capitalize(),
    }
    told = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items())
    first, *others = map(escape, report.verdict)
    verdict = f"<p><strong>{first}</strong></p>" + "".join(f"<p>{each}</p>" for each in others)
    owner = f" · owner {escape(report.owner)}" if report.owner else ""
    tags = f" · {escape(', '.join(report.tags))}" if report.tags else ""
    notes = f'<p class="notes">{escape(report.notes.strip())}</p>\n' if report.notes.strip() else ""
    return (
        f'<p class="soft">Report of a search for a smaller language model</p>\n<h1>{title}</h1>\n'
        f'<p class="soft">Search {escape(report.search_id)}{owner}{tags} · as of {report.at:%d %B %Y, %H:%M} UTC</p>\n'
        f'<div class="verdict">{verdict}</div>\n<p class="soft">{INTRODUCTION}</p>\n'
        f'<dl class="facts">{told}</dl>\n{notes}'
    )


def _section(figure: Figure) -> str:
    caption = escape(figure.caption)
    # What a figure shows is told to those who do not see it by its caption and its table.
    shown = (
        f'<figure><div class="plot" id="plot-{figure.name}" role="img" aria-label="{escape(figure.title)}: {caption}" '
        f'style="min-height: {figure.height}px"></div><figcaption>{caption}</figcaption></figure>'
        if figure.data
        else f'<p class="nothing">{caption}</p>'
    )
    return (
        f'<section id="{figure.name}" aria-labelledby="title-{figure.name}">\n'
        f'<h2 id="title-{figure.name}">{escape(figure.title)}</h2>\n<p class="soft">{escape(figure.reading)}</p>\n'
        f"{shown}\n{_table(figure.table)}</section>\n"
    )


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    marks = ['class="number"' if name.startswith(">") else "" for name in table.columns]
    head = "".join(
        f'<th scope="col" {mark}>{escape(name.removeprefix(">"))}</th>'
        for name, mark in zip(table.columns, marks, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(f'<td {mark}>{escape(cell)}</td>' for cell, mark in zip(row, marks, strict=True))}</tr>"
        for row in table.rows
    )
    left_out = f"<p>{table.num_left_out:,} further rows are left out.</p>" if table.num_left_out else ""
    return (
        f'<details><summary>The numbers</summary><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{left_out}</details>\n"
    )


def _foot(report: SearchReport) -> str:
    return (
        '<section><p class="soft">Losses are nats per token of text that no trial trained on. Only trials measured after '
        "equal tokens compete. Worker hours count each process of each attempt. Made by minitron-nas; the same numbers: "
        f"<code>nas report {escape(report.search_id)} --format json</code>.</p></section>\n"
    )


def _data(value: Any) -> str:
    """Return JSON that ends no script: it is data in a page."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Return plotly.js without the address of its source map, which is not in the file."""
    found = find_spec("nicegui")  # loads nothing of it
    assert found
    assert found.submodule_search_locations
    text = (Path(found.submodule_search_locations[0]) / PLOTLY).read_text(encoding="utf-8")
    return text.partition("//# sourceMappingURL=")[0]


@lru_cache(maxsize=2)
def _hash(script: str) -> str:
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"
