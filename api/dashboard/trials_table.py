"""The table of trials: rank, shape, state and losses; choosing one shows more of it beside.

Sorted and paged here, so that a browser gets one page of rows however many trials there are.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from api.dashboard.table_heads import HEADER, ordered
from api.dashboard.theme import RED, ROLE_COLOURS, STATE_COLOURS
from nas import wording
from nas.leaderboard import Line
from nas.trial import TrialState

COLUMNS: list[dict[str, Any]] = [  # a phone shows the first ones, and keeps the first
    {"name": "number", "label": "Trial", "field": "number", "align": "right", "orders": True},
    {"name": "loss", "label": "Loss", "field": "loss", "align": "right", "orders": True},
    {"name": "rank", "label": "Rank", "field": "rank", "align": "right", "orders": True},
    {"name": "name", "label": "Architecture", "field": "name", "align": "left", "classes": "mono"},
    {"name": "parameters", "label": "Parameters", "field": "parameters", "align": "right", "orders": True},
    {"name": "role", "label": "Role", "field": "role", "align": "left", "orders": True},
    {"name": "state", "label": "State", "field": "state", "align": "left", "orders": True},
    {"name": "before", "label": "Loss pruned", "field": "before", "align": "right", "orders": True},
    {"name": "tokens", "label": "Tokens", "field": "tokens", "align": "right", "orders": True},
    {"name": "attempts", "label": "Attempts", "field": "attempts", "align": "right", "orders": True},
]
BODY = """
<q-tr :props="props" :class="{first: props.row.rank === 1, chosen: props.row.chosen}" style="cursor: pointer"
  @click="() => $parent.$emit('choose', props.row.number)">
  <q-td v-for="col in props.cols" :key="col.name" :props="props">
    <button v-if="col.name === 'number'" class="number-button" :aria-pressed="props.row.chosen"
      :aria-label="`Show trial ${col.value}`">{{ col.value }}</button>
    <span v-else-if="col.name === 'state' || col.name === 'role'" class="chip"
      :class="{live: props.row.live && col.name === 'state'}"
      :style="`--dot: ${props.row[col.name + '_colour']}`">{{ col.value }}</span>
    <template v-else-if="col.name === 'parameters' || col.name === 'tokens'">
      {{ col.value.toLocaleString('en') }}</template>
    <template v-else-if="col.name === 'before' || col.name === 'loss'">
      {{ col.value === null ? '-' : col.value.toFixed(4) }}</template>
    <template v-else>{{ col.value }}</template>
  </q-td>
</q-tr>
"""
ROWS_PER_PAGE = 12
EMPTY = '<div class="soft q-pa-sm">The first trial begins when parent, data, scores and teacher are prepared.</div>'


class TrialsTable:
    """The table of one visitor; order, page and the chosen row stay while rows come and go.

    Args:
        choose: Called with the number of a trial that was chosen.
    """

    def __init__(self, choose: Callable[[int], Any]) -> None:
        self._rows: list[dict[str, Any]] = []
        self._order: tuple[str, bool] | None = None
        """Column, and whether it descends; None is the leaderboard's."""
        self._table = ui.table(columns=COLUMNS, rows=[], row_key="number", pagination=0)
        self._table.classes("w-full kept").props("flat dense hide-pagination")
        self._table.add_slot("header", HEADER)
        self._table.add_slot("body", BODY)
        self._table.add_slot("no-data", EMPTY)
        self._table.on("order", lambda event: self._ordered(str(event.args)))
        self._table.on("choose", lambda event: choose(int(event.args)))
        with ui.row().classes("w-full items-center justify-end gap-3") as self._pager:
            self._which = ui.label().classes("soft")
            self._page = ui.pagination(1, 1, direction_links=True, on_change=self._draw)
            self._page.props("dense size=sm max-pages=7")

    def show(self, lines: Sequence[Line], chosen: int | None) -> None:
        """Bring the table up to date."""
        self._rows = [_row(line, chosen) for line in lines]
        self._draw()

    def turn_to(self, number: int) -> None:
        """Show the page with a trial on it."""
        rows = _sorted(self._rows, self._order)
        place = next((place for place, row in enumerate(rows) if row["number"] == number), 0)
        self._page.value = place // ROWS_PER_PAGE + 1

    def _ordered(self, column: str) -> None:
        """Order by a column: ascending, then descending, then as before."""
        orders = {None: (column, False), (column, False): (column, True), (column, True): None}
        self._order = orders.get(self._order, (column, False))
        by, is_descending = self._order or (None, False)
        self._table.columns = ordered(COLUMNS, by, is_descending=is_descending)
        self._page.value = 1
        self._draw()

    def _draw(self) -> None:
        """Show the rows of the page that the visitor is on."""
        rows = _sorted(self._rows, self._order)
        last = max(1, -(-len(rows) // ROWS_PER_PAGE))
        if self._page.max != last:
            self._page.max = last
        first = (min(self._page.value or 1, last) - 1) * ROWS_PER_PAGE
        shown = rows[first : first + ROWS_PER_PAGE]
        if shown != self._table.rows:
            self._table.rows = shown
        self._pager.visible = len(rows) > ROWS_PER_PAGE
        self._which.text = f"{first + 1}-{first + len(shown)} of {len(rows)}"


def _sorted(rows: Sequence[dict[str, Any]], order: tuple[str, bool] | None) -> list[dict[str, Any]]:
    """Return rows in an order; those that have nothing there come last either way."""
    if order is None:
        return list(rows)
    by, is_descending = order
    known = [row for row in rows if row[by] is not None]
    known.sort(key=lambda row: row[by], reverse=is_descending)
    return known + [row for row in rows if row[by] is None]


def _row(line: Line, chosen: int | None) -> dict[str, Any]:
    trial = line.record.trial
    return {
        "rank": line.rank,
        "number": trial.number,
        "name": trial.architecture.name,
        "parameters": trial.architecture.parameter_count,
        "role": wording.ROLES[trial.role],
        "role_colour": ROLE_COLOURS[trial.role],
        "state": wording.outcome(trial),
        "state_colour": RED if trial.state is TrialState.FAILED else STATE_COLOURS[trial.state],
        "live": trial.state is TrialState.RUNNING,
        "before": line.loss_before,
        "loss": line.loss if line.num_tokens else None,
        "tokens": line.num_tokens,
        "attempts": trial.num_attempts,
        "chosen": trial.number == chosen,
    }
