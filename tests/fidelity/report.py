"""Means and spreads over seeds, as a page for people."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from tests.fidelity.findings import Finding, Rows


def means(by_seed: Sequence[Rows]) -> Rows:
    """Return the mean over the seeds of every number."""
    return {
        name: [fmean(column) for column in zip(*(rows[name] for rows in by_seed), strict=True)]
        for name in by_seed[0]
    }


def verdict(finding: Finding, by_seed: Sequence[Rows]) -> str:
    """Return whether a finding holds, in a word."""
    if finding.holds is None:
        return "reported"
    return "holds" if finding.holds(means(by_seed)) else "FAILS"


def section(finding: Finding, by_seed: Sequence[Rows]) -> str:
    """Return a finding's heading and its table: the mean and, in brackets, the least and the most of the seeds."""
    head = ["", *finding.columns]
    lines = [
        f"### {finding.number}. {finding.claim}",
        "",
        f"{verdict(finding, by_seed).capitalize()}, over {len(by_seed)} seeds.",
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    for name in by_seed[0]:
        columns = zip(*(rows[name] for rows in by_seed), strict=True)
        lines.append(_line([name, *map(_cell, columns)]))
    return "\n".join(lines)


def page(title: str, about: str, found: Mapping[Finding, Sequence[Rows]]) -> str:
    """Return a whole protocol's results as Markdown."""
    return "\n\n".join([f"## {title}", about, *(section(finding, rows) for finding, rows in found.items())])


def joined(document: str, title: str, written: str) -> str:
    """Return a document with one protocol's page in place of what it had of it, after the others where it had none."""
    begins = f"## {title}\n"
    parts = [part for part in document.split("\n## ") if part.strip()]
    pages = [parts[0], *(f"## {part}" for part in parts[1:])]
    kept = [page.rstrip() for page in pages if not page.startswith(begins)]
    return "\n\n".join([*kept, written]) + "\n"


def _cell(numbers: Sequence[float]) -> str:
    return f"{fmean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
