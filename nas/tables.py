"""Tables that the command line prints: searches, a leaderboard, scores, costs.

Where there is no terminal every column is printed, each row in one line. On a narrow terminal, or where COLUMNS
says so, the columns that matter least are left out, so that ids and numbers stay whole.
"""

from collections.abc import Container, Iterable, Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from nas import wording
from nas.budget import Budget
from nas.finals import Evaluated, score_rows
from nas.leaderboard import Line, num_planned
from nas.search import SearchState
from nas.standing import SearchView
from nas.trial import TrialState

PLAIN_WIDTH = 2_000
"""Columns where there is no terminal and COLUMNS says nothing: no row of a table is wrapped."""
WORDY_WIDTH = 30
"""Columns of what people write, where a row must fit a terminal."""
WORDY = {"name", "parent", "owner", "tags", "may go", "because"}
SPARE = (
    "loss pruned",
    *(words.name for words in wording.COSTS.values()),
    "tags",
    "owner",
    "parameters",
    "parent's",
    "created",
    "tokens",
    "parent",
    "role",
    "name",
)
"""Columns that a narrow terminal does without, the first one first."""
COLOURS = {
    SearchState.SUCCEEDED: "green",
    SearchState.FAILED: "red",
    SearchState.CANCELLED: "yellow",
    SearchState.PAUSED: "yellow",
    TrialState.COMPLETED: "green",
}


class FittedTable:
    """A table that leaves columns out where they do not fit; those whose names begin with > are numbers."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[tuple[str | Text, ...], str | None]] = []
        self._has_marks = False

    def add_row(self, *cells: str | Text, style: str | None = None) -> None:
        """Add a row with a cell for each column."""
        assert len(cells) == len(self._columns)
        self._rows.append((cells, style))

    def marked(self, loss: str, *, is_partial: bool) -> str:
        """Return a loss with a mark where it was measured at fewer tokens than others; what that means is said once."""
        self._has_marks |= is_partial
        return f"{loss}{'*' if is_partial else ' '}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print itself as wide as there is room."""
        left_out: set[str] = set()
        wide = options.update(max_width=PLAIN_WIDTH)
        for name in SPARE:
            fitted = self._without(left_out, is_narrow=options.max_width < PLAIN_WIDTH)
            if console.measure(fitted, options=wide).maximum <= options.max_width:
                break
            left_out.add(name)
        yield self._without(left_out, is_narrow=options.max_width < PLAIN_WIDTH)
        if options.max_width >= PLAIN_WIDTH:
            return  # programs read lines that are rows
        if self._has_marks:
            yield Text("* of fewer tokens than the last rung's: does not compare", style="dim")
        present = [name for name in (each.removeprefix(">") for each in self._columns) if name in left_out]
        if present:
            yield Text(f"left out: {', '.join(present)}; widen the terminal, or --json", style="dim")

    def _without(self, left_out: Container[str], *, is_narrow: bool) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        kept = [index for index, each in enumerate(self._columns) if each.removeprefix(">") not in left_out]
        for column in (self._columns[index] for index in kept):
            name = column.removeprefix(">")
            table.add_column(
                name,
                justify="right" if column != name else "left",
                no_wrap=name not in WORDY,
                overflow="fold" if name in WORDY else "ellipsis",
                max_width=WORDY_WIDTH if is_narrow and name in WORDY else None,
            )
        for cells, style in self._rows:
            table.add_row(*(cells[index] for index in kept), style=style)
        return table


def searches_table(views: Iterable[SearchView], now: datetime) -> FittedTable:
    """Return searches, one a row."""
    table = FittedTable(
        "id", "name", "state", "parent", ">best loss", ">parent's", ">trials", "created", "owner", "tags"
    )
    for view in views:
        search = view.search
        done = sum(number for state, number in view.counts.items() if state.is_final)
        table.add_row(
            search.id,
            wording.visible(search.spec.name),
            state_text(search.state).append(", archived" if search.archived else "", style="dim"),
            wording.visible(wording.parent(search.spec.parent)),
            wording.loss(view.best_loss),
            wording.loss(search.parent_loss),
            f"{done}/{num_planned(view)}",
            wording.ago(search.created_at, now),
            search.owner,
            wording.tags(search.tags),
        )
    return table


def leaderboard_table(lines: Sequence[Line], budget: Budget) -> FittedTable:
    """Return trials, the best first; losses in nats per held-out token, and what else the budget counts."""
    counted = [wording.COSTS[limit.name].name for limit in budget.limits if limit.name in wording.COSTS]
    table = FittedTable(
        ">rank", ">trial", "architecture", ">parameters", *(f">{name}" for name in counted),
        "role", ">loss pruned", ">loss", ">tokens", "state",
    )  # fmt: skip
    for line in lines:
        trial = line.record.trial
        table.add_row(
            str(line.rank or ""),
            str(trial.number),
            trial.architecture.name,
            f"{trial.architecture.parameter_count:,}",
            *(number for _, number in wording.costs(budget, trial.architecture)),
            wording.ROLES[trial.role],
            wording.loss(line.loss_before),
            table.marked(
                wording.loss(line.loss if line.num_tokens else None),
                is_partial=bool(line.num_tokens) and trial.state is not TrialState.COMPLETED,
            ),
            f"{line.num_tokens:,}",
            state_text(trial.state).append(", reused" if trial.reused_from else "", style="dim"),
            style="bold" if line.rank == 1 else None,
        )
    return table


def scores_table(evaluated: Sequence[Evaluated]) -> FittedTable:
    """Return what teacher and finalists scored at tasks, a row for each score."""
    table = FittedTable("task", *(f">{wording.model(each.trial_number)}" for each in evaluated))
    for row in score_rows(evaluated):
        table.add_row(wording.score_name(row), *(f"{value:.4f}" for value in row.values))
    return table


def estimate_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return what a search would cost, a row for each thing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for what, how_much in rows:
        table.add_row(what, how_much)
    return table


def state_text(state: SearchState | TrialState) -> Text:
    """Return a state in its colour."""
    colour = "red" if state.value == "FAILED" else COLOURS.get(state, "")
    return Text(state.value.lower(), style=colour)
