"""What the command line prints of what was measured: the history, its parents, searches side by side."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas import wording
from nas.history import Entry, ParentSummary
from nas.side_by_side import Beside, SideBySide
from nas.tables import FittedTable


def parents_table(parents: Iterable[ParentSummary], now: datetime) -> FittedTable:
    """Return parents, one a row."""
    table = FittedTable("parent", ">searches", ">measurements", ">tokens", ">best loss", "latest", "key")
    for each in parents:
        table.add_row(
            wording.parent(each.parent),
            str(each.num_searches),
            str(each.num_measurements),
            wording.count(each.num_tokens),
            wording.loss(each.best_loss),
            wording.ago(each.last_at, now),
            each.parent_key,
        )
    return table


def history_table(entries: Iterable[Entry], now: datetime) -> FittedTable:
    """Return measurements, one a row; losses in nats per held-out token."""
    table = FittedTable(
        "parent", "architecture", ">parameters", ">loss pruned", ">loss", ">tokens", "role", "search", ">trial",
        "owner", "ended",
    )  # fmt: skip
    for entry in entries:
        found = entry.measured
        table.add_row(
            wording.parent(found.parent),
            found.architecture.name,
            f"{found.num_parameters:,}",
            wording.loss(found.loss_before),
            table.marked(wording.loss(found.loss), is_partial=found.is_partial),
            f"{found.num_tokens:,}",
            wording.ROLES[found.role],
            found.search_id,
            str(found.trial_number),
            entry.owner,
            wording.ago(found.at, now),
        )
    return table


def comparison(console: Console, found: SideBySide) -> None:
    """Print searches side by side: where each stands, what was asked otherwise, whether losses compare."""
    table = _table("", *(f">{each.view.search.id}" for each in found.searches))
    for name, values in standing_rows(found.searches):
        table.add_row(Text(name, style="dim"), *values)
    console.print(table)
    for each in found.incomparable:
        console.print(Text(f"{each.message} ({' | '.join(each.values)})", style="yellow"), soft_wrap=True)
    if len(found.searches) > 1 and not found.differences:
        console.print(Text("the same was asked of all"))
    if found.differences:
        asked = _table("asked otherwise", *(f">{each.view.search.id}" for each in found.searches))
        for difference in found.differences:
            asked.add_row(difference.field, *map(value_words, difference.values))
        console.print(asked)


def standing_rows(searches: Sequence[Beside]) -> list[tuple[str, list[str]]]:
    """Return where searches stand, a row for each thing, in the words that the page uses too."""
    return [
        ("name", [each.view.search.spec.name for each in searches]),
        ("owner", [each.view.search.owner or wording.NOTHING for each in searches]),
        ("state", [each.view.search.state.lower() for each in searches]),
        ("parent", [wording.parent(each.view.search.spec.parent) for each in searches]),
        ("parent's loss", [wording.loss(each.view.search.parent_loss) for each in searches]),
        ("best loss", [wording.loss(each.view.best_loss) for each in searches]),
        (
            "best architecture",
            [each.view.best.architecture.name if each.view.best else wording.NOTHING for each in searches],
        ),
        (
            "its parameters",
            [
                f"{each.view.best.architecture.parameter_count:,}" if each.view.best else wording.NOTHING
                for each in searches
            ],
        ),
        ("gap closed", [wording.percent(each.view.gap_closed) for each in searches]),
        ("its tokens", [_tokens(each.view.best_tokens) for each in searches]),
        *_before_promotion(searches),
        ("on the front", [str(len(each.front)) for each in searches]),
        ("trials", [_trials(each) for each in searches]),
        ("tokens of a training", [f"{each.num_tokens:,}" for each in searches]),
        ("tokens trained", [wording.count(each.view.tokens_done) for each in searches]),
        ("tokens saved by reuse", [wording.count(each.view.tokens_saved) for each in searches]),
        ("priors", [str(each.view.search.num_priors or 0) for each in searches]),
        ("compute", [wording.duration(timedelta(seconds=each.compute_seconds)) for each in searches]),
    ]


def _tokens(number: int | None) -> str:
    return wording.NOTHING if number is None else f"{number:,}"


def _before_promotion(searches: Sequence[Beside]) -> list[tuple[str, list[str]]]:
    """Return what compares where the best of some were retrained for longer; nothing where of none."""
    if not any(each.view.before_promotion for each in searches):
        return []
    compared = [each.view.compared for each in searches]
    losses = [each.measurement.loss if each and each.measurement else None for each in compared]
    return [("best loss before promotion", list(map(wording.loss, losses)))]


def value_words(value: Any) -> str:
    """Return a field of a spec in one line."""
    if value is None:
        return wording.NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _trials(each: Beside) -> str:
    counts = sorted(each.view.counts.items())
    return ", ".join(f"{number} {state.lower()}" for state, number in counts) or wording.NOTHING


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table
