"""The table of trials: rank, shape, state and losses, with what went wrong one click away."""

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from api.dashboard.theme import RED, ROLE_COLOURS, STATE_COLOURS
from nas import wording
from nas.leaderboard import Line
from nas.trial import Failure, TrialState

COLUMNS: list[dict[str, Any]] = [
    {"name": "rank", "label": "Rank", "field": "rank", "align": "right"},
    {"name": "number", "label": "Trial", "field": "number", "align": "right", "sortable": True},
    {"name": "name", "label": "Architecture", "field": "name", "align": "left", "classes": "mono"},
    {"name": "parameters", "label": "Parameters", "field": "parameters", "align": "right", "sortable": True},
    {"name": "role", "label": "Role", "field": "role", "align": "left", "sortable": True},
    {"name": "state", "label": "State", "field": "state", "align": "left", "sortable": True},
    {"name": "before", "label": "Loss pruned", "field": "before", "align": "right", "sortable": True},
    {"name": "loss", "label": "Loss now", "field": "loss", "align": "right", "sortable": True},
    {"name": "tokens", "label": "Tokens", "field": "tokens", "align": "right", "sortable": True},
    {"name": "attempts", "label": "Attempts", "field": "attempts", "align": "right"},
]
BODY = """
<q-tr :props="props" :class="{first: props.row.rank === 1}">
  <q-td v-for="col in props.cols" :key="col.name" :props="props">
    <span v-if="col.name === 'state' || col.name === 'role'" class="chip"
      :class="{live: props.row.live && col.name === 'state'}"
      :style="`color: ${props.row[col.name + '_colour']}`">{{ col.value }}</span>
    <template v-else-if="col.name === 'parameters' || col.name === 'tokens'">
      {{ col.value.toLocaleString('en') }}</template>
    <template v-else-if="col.name === 'before' || col.name === 'loss'">
      {{ col.value === null ? '-' : col.value.toFixed(4) }}</template>
    <template v-else>{{ col.value }}</template>
    <q-btn v-if="col.name === 'state' && props.row.failure" flat dense round size="sm"
      :icon="props.expand ? 'expand_less' : 'expand_more'" aria-label="What went wrong"
      @click="props.expand = !props.expand" />
  </q-td>
</q-tr>
<q-tr v-if="props.expand && props.row.failure" :props="props">
  <q-td colspan="100%" style="white-space: normal">
    <div class="q-mb-xs">{{ props.row.failure }}</div>
    <pre v-if="props.row.traceback" class="trace mono">{{ props.row.traceback }}</pre>
    <div v-if="props.row.log" class="soft q-mt-sm">The end of the worker's log:</div>
    <pre v-if="props.row.log" class="trace mono">{{ props.row.log }}</pre>
  </q-td>
</q-tr>
"""
ROWS_PER_PAGE = 25
EMPTY = '<div class="soft q-pa-sm">The first trial begins when parent, data, scores and teacher are prepared.</div>'


class TrialsTable:
    """Rows are replaced in place, so that sorting, page and open rows stay."""

    def __init__(self) -> None:
        self._table = ui.table(columns=COLUMNS, rows=[], row_key="number", pagination=ROWS_PER_PAGE)
        self._table.classes("w-full").props("flat dense")
        self._table.add_slot("body", BODY)
        self._table.add_slot("no-data", EMPTY)

    def show(self, lines: Sequence[Line]) -> None:
        """Bring the table up to date."""
        self._table.rows = [_row(line) for line in lines]
        fits = len(lines) <= ROWS_PER_PAGE
        self._table.props(add="hide-pagination" if fits else "", remove="" if fits else "hide-pagination")


def _row(line: Line) -> dict[str, Any]:
    trial = line.record.trial
    failure = trial.failure or _last_failure(line)
    return {
        "rank": line.rank,
        "number": trial.number,
        "name": trial.architecture.name,
        "parameters": trial.architecture.parameter_count,
        "role": wording.ROLES[trial.role],
        "role_colour": ROLE_COLOURS[trial.role],
        "state": trial.state.value.lower(),
        "state_colour": RED if trial.state is TrialState.FAILED else STATE_COLOURS[trial.state],
        "live": trial.state is TrialState.RUNNING,
        "before": line.loss_before,
        "loss": line.loss if line.num_tokens else None,
        "tokens": line.num_tokens,
        "attempts": trial.num_attempts,
        "failure": failure.message if failure else None,
        "traceback": failure.traceback if failure else None,
        "log": failure.log_tail if failure else None,
    }


def _last_failure(line: Line) -> Failure | None:
    """Return why the attempt before was lost, while another is made."""
    failures = [attempt.failure for attempt in line.record.attempts if attempt.failure]
    return failures[-1] if failures and line.record.trial.state is TrialState.RUNNING else None
