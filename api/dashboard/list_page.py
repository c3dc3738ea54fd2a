"""The first page: all searches at a glance, live."""

from collections.abc import Sequence
from typing import Any

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import STATE_COLOURS, frame, message, state_words
from nas import wording
from nas.clock import utc_now
from nas.errors import StoreUnavailable
from nas.leaderboard import num_planned
from nas.search import SearchState
from nas.service import SearchService, SearchView

POLL_SECONDS = 2.0
MAX_SHOWN = 200
ROWS_PER_PAGE = 25
ACTIVE = tuple(state for state in SearchState if not state.is_final)

COLUMNS = [
    {"name": "search", "label": "Search", "field": "name", "align": "left"},
    {"name": "state", "label": "State", "field": "state", "align": "left"},
    {"name": "parent", "label": "Parent", "field": "parent", "align": "left"},
    {"name": "best", "label": "Best loss", "field": "best", "align": "right"},
    {"name": "parent_loss", "label": "Parent's loss", "field": "parent_loss", "align": "right"},
    {"name": "trials", "label": "Trials", "field": "trials", "align": "left"},
    {"name": "created", "label": "Created", "field": "created", "align": "right"},
]
CELLS = {
    "search": '<a class="quiet font-medium text-primary" :href="`/searches/${props.row.id}`">'
    '{{ props.row.name }}</a><div class="soft mono">{{ props.row.id }}</div>',
    "state": '<span class="chip" :class="{live: props.row.live}" :style="`color: ${props.row.colour}`">'
    "{{ props.row.state }}</span>",
    "parent": '<div>{{ props.row.parent }}</div><div class="soft">{{ props.row.budget }}</div>',
    "trials": '<div style="min-width: 120px">{{ props.row.trials }}'
    '<q-linear-progress v-if="props.row.share !== null" :value="props.row.share" size="4px" rounded '
    ':style="`color: ${props.row.colour}`" class="q-mt-xs" /></div>',
}
HOW_TO_SUBMIT = """nas submit search.yaml

curl -X POST {origin}/api/v1/searches \\
     -H 'Content-Type: application/yaml' --data-binary @search.yaml"""


async def build(service: SearchService, notice: str | None) -> None:
    """Make the page."""
    with frame(notice):
        ui.label("Searches").classes("text-xl font-semibold")
        body = ui.column().classes("w-full")
        await _List(service, body).show()


class _List:
    """The table of one visitor, or what stands in its place."""

    def __init__(self, service: SearchService, body: ui.column) -> None:
        self._service = service
        self._body = body
        self._table: ui.table | None = None
        self._active: list[SearchView] = []
        self._timer = ui.timer(POLL_SECONDS, self._poll)

    async def show(self) -> None:
        """Read all searches and show them."""
        try:
            views = await run_in_threadpool(self._service.list_views, limit=MAX_SHOWN)
        except StoreUnavailable as error:
            self._replace()
            with self._body:
                message("cloud_off", "The database does not answer", f"{error}; this page tries again.")
            return
        self._active = [view for view in views if not view.search.state.is_final]
        rows = [_row(view) for view in views]
        if not rows:
            self._show_empty()
        elif self._table:
            self._table.rows = rows
        else:
            self._show_table(rows)

    async def _poll(self) -> None:
        """Read again what can change, and everything only when something did."""
        try:
            active = await run_in_threadpool(self._service.list_views, states=ACTIVE, limit=MAX_SHOWN)
        except StoreUnavailable:
            active = []
        if active != self._active or not self._table:
            await self.show()

    def _replace(self) -> None:
        self._body.clear()
        self._table = None

    def _show_empty(self) -> None:
        self._replace()
        request = ui.context.client.request
        with self._body, message("travel_explore", "No searches yet", "Launch one here, or from a terminal:"):
            ui.button("New search", on_click=lambda: ui.navigate.to("/launch")).props("no-caps unelevated")
            how = HOW_TO_SUBMIT.format(origin=str(request.base_url).rstrip("/"))
            ui.code(how, language="sh").classes("text-left").style("max-width: 640px")

    def _show_table(self, rows: Sequence[dict[str, Any]]) -> None:
        self._replace()
        with self._body, ui.column().classes("panel").style("padding: 4px 6px"):
            self._table = ui.table(columns=COLUMNS, rows=list(rows), row_key="id", pagination=ROWS_PER_PAGE)
            self._table.classes("w-full").props("flat")
            if len(rows) <= ROWS_PER_PAGE:
                self._table.props("hide-pagination")
            for name, cell in CELLS.items():
                self._table.add_slot(f"body-cell-{name}", f'<q-td :props="props">{cell}</q-td>')


def _row(view: SearchView) -> dict[str, Any]:
    search = view.search
    done = sum(number for state, number in view.counts.items() if state.is_final)
    is_final = search.state.is_final
    return {
        "id": search.id,
        "name": search.spec.name or f"Search of {wording.parent(search.spec.parent)}",
        "state": state_words(search),
        "colour": STATE_COLOURS[search.state],
        "live": not is_final and search.state is not SearchState.QUEUED,
        "parent": wording.parent(search.spec.parent),
        "budget": wording.budget(search.spec.budget),
        "best": wording.loss(view.best_loss),
        "parent_loss": wording.loss(search.parent_loss),
        "trials": f"{done} done" if is_final else f"{done} of about {num_planned(search)}",
        "share": None if is_final else view.tokens_done / max(1, view.tokens_total),
        "created": wording.ago(search.created_at, utc_now()),
    }
