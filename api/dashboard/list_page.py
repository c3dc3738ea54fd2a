"""The first page: searches at a glance, live, filtered, in order and by pages as its address asks."""

from typing import Any
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from starlette.datastructures import QueryParams

from api.dashboard import visitor
from api.dashboard.live import REWORD_SECONDS, Live
from api.dashboard.said_panel import words_in
from api.dashboard.search_rows import CELLS, COLUMNS, row_of
from api.dashboard.table_heads import HEADER
from api.dashboard.theme import code, frame, message, page_heading
from api.tailer import Tailer
from nas.clock import utc_now
from nas.edits import MAX_TAGS
from nas.errors import NotFound
from nas.listing import SearchFilter, SearchOrder
from nas.search import SearchState
from nas.service import SearchService
from nas.standing import SearchView

ROWS_PER_PAGE = 25
MAX_ASKED = 200
ORDERS = {
    SearchOrder.NEWEST: "Newest first",
    SearchOrder.OLDEST: "Oldest first",
    SearchOrder.NAME: "By name",
    SearchOrder.NAME_REVERSED: "By name, reversed",
}
STATES = {state.value: state.value.capitalize() for state in SearchState}
HOW_TO_SUBMIT = """nas submit search.yaml

curl -X POST {origin}/api/v1/searches \\
     -H 'Content-Type: application/yaml' --data-binary @search.yaml"""
LABEL = '<span class="label soft">{{ props.col.label }}</span>'
"""Stands in a cell where there is no room for a header."""
CSS = """
.searches td { vertical-align: top; } .searches .reason { min-width: 150px; max-width: 210px; white-space: normal;
  display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; overflow-wrap: anywhere; }
.searches td:nth-child(1) { white-space: normal; min-width: 200px; overflow-wrap: anywhere; }
.searches td:nth-child(5) { white-space: normal; min-width: 130px; }
.searches tbody tr:focus-within { background: rgba(76, 110, 245, .10); }
.searches .label { display: none; }
.searches .owner { display: block; max-width: 130px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
@media (max-width: 760px) {
  .searches thead { display: none; }
  .searches :is(table, tbody, tr, td) { display: block; width: 100%; height: auto !important; }
  .searches tbody tr { border-bottom: 1px solid var(--line); padding: 8px 0; }
  .searches tbody td { border: 0 !important; padding: 2px 12px !important; text-align: left !important; }
  .searches td:nth-child(-n + 2) .label { display: none; }
  .searches td:nth-child(n + 3) .label { display: inline; margin-right: 8px; }
  .searches td:nth-child(n + 3) > div:not(.q-linear-progress) { display: inline; margin-right: 8px; }
  .searches tbody td { white-space: normal; }
  .searches .owner { display: inline; white-space: normal; } .searches .reason { min-width: 0; max-width: none; } .searches tbody td::before { display: none; }
}
"""


async def build(service: SearchService, tailer: Tailer, notice: str | None, asked: QueryParams) -> None:
    """Make the page of the searches that its address asks for."""
    ui.add_css(CSS)
    with frame(notice):
        with ui.row().classes("w-full items-baseline justify-between gap-3"):
            page_heading("Searches")
            freshness = ui.row()
        asking = ui.row().classes("w-full items-center gap-3").props("role=search")
        body = ui.column().classes("w-full numbers")
        shown = _List(service, asking, body, asked)
        with freshness:
            shown.live = Live(tailer, shown.show)
        await shown.live.read()


class _List:
    """The table of one visitor, or what stands in its place."""

    live: Live

    def __init__(self, service: SearchService, asking: ui.row, body: ui.column, asked: QueryParams) -> None:
        self._service = service
        self._body = body
        self._table: ui.table | None = None
        self._views: list[SearchView] = []
        self._pages: list[str | None] = [asked.get("after")]
        """After which search each page begins, up to the one that is shown."""
        with asking:
            self._text = self._field("Name or notes", asked.get("text", ""))
            self._owner = self._field("Owner", asked.get("owner", ""))
            self._tags = self._field("Tags", " ".join(asked.getlist("tag")))
            states = [state for state in asked.getlist("state") if state in STATES]
            self._states = self._choice(STATES, states, "State", "multiple clearable")
            order = asked.get("order_by", "")
            known = SearchOrder(order) if order in set(SearchOrder) else SearchOrder.NEWEST
            self._order = self._choice(ORDERS, known, "Order", "")
            self._archived = ui.switch(
                "Archived too", value=asked.get("archived") == "any", on_change=self._ask
            )
        ui.timer(REWORD_SECONDS, self._reword)

    def _field(self, label: str, value: str) -> ui.input:
        field = ui.input(label, value=value, on_change=self._ask)
        return field.props("dense outlined clearable debounce=300 maxlength=200").style("width: 160px")

    def _choice(self, options: dict[Any, str], value: Any, label: str, props: str) -> ui.select:
        choice = ui.select(options, value=value, label=label, on_change=self._ask)
        return choice.props(f"dense outlined options-dense {props}").style("min-width: 150px")

    def _which(self) -> SearchFilter:
        """Return which searches are asked for; NUL is no part of any text."""
        text, owner, tags = (
            (field.value or "").replace("\0", "") for field in (self._text, self._owner, self._tags)
        )
        return SearchFilter(
            text=text[:MAX_ASKED] or None,
            owner=owner.strip() or None,
            tags=words_in(tags)[:MAX_TAGS] or None,
            states=tuple(map(SearchState, self._states.value or ())) or None,
            archived=None if self._archived.value else False,
        )

    async def _ask(self) -> None:
        """Show what is asked for by now, from its first page."""
        await self._turn_to([None])

    async def _turn_to(self, pages: list[str | None]) -> None:
        """Show a page, under an address that can be passed on."""
        self._pages = pages
        which = self._which()
        asked = {
            "text": which.text, "owner": which.owner, "tag": which.tags, "state": which.states,
            "order_by": self._order.value if self._order.value is not SearchOrder.NEWEST else None,
            "archived": "any" if which.archived is None else None, "after": pages[-1],
        }  # fmt: skip
        query = urlencode({name: value for name, value in asked.items() if value}, doseq=True)
        ui.navigate.history.replace(f"/?{query}" if query else "/")
        self._replace()
        await self.live.read()

    async def show(self) -> None:
        """Read one page of searches and show it."""
        question = (self._which(), self._order.value, self._pages[-1])
        views, others = await run_in_threadpool(self._read, *question)
        if question != (self._which(), self._order.value, self._pages[-1]):
            return  # a later question is under way
        self._views, has_more = views[:ROWS_PER_PAGE], len(views) > ROWS_PER_PAGE
        if not views and others:
            self._show_none()
        elif not views:
            self._show_empty()
        else:
            if not self._table:
                self._show_table()
            self._reword()
            self._before.visible, self._next.visible = len(self._pages) > 1, has_more

    def _read(
        self, which: SearchFilter, order: SearchOrder, after: str | None
    ) -> tuple[list[SearchView], list[SearchView]]:
        """Return a page and the first of the next, and where there are none whether there are any others."""
        try:
            views = self._service.list_views(which, order=order, after=after, limit=ROWS_PER_PAGE + 1)
        except NotFound:  # an address of another server's page
            views = []
        return views, [] if views else self._service.list_views(limit=1)

    def _reword(self) -> None:
        """Show what was read last, in the words of now."""
        if not self._table:
            return
        now = utc_now()
        self._table.rows = [row_of(view, now) for view in self._views]
        self._owner.set_autocomplete(sorted({view.search.owner for view in self._views if view.search.owner}))

    async def _forward(self) -> None:
        await self._turn_to([*self._pages, self._views[-1].search.id])

    async def _back(self) -> None:
        await self._turn_to(self._pages[:-1])

    def _replace(self) -> None:
        self._body.clear()
        self._table = None

    def _show_none(self) -> None:
        self._replace()
        hint = "Ask for less." if self._archived.value else "Ask for less, or for archived ones too."
        with self._body:
            message("search_off", "No such searches", hint)

    def _show_empty(self) -> None:
        self._replace()
        request = ui.context.client.request
        if not visitor.may_submit():
            with self._body:
                message(
                    "travel_explore",
                    "No searches yet",
                    "Those of your workspaces stand here once there are any.",
                )
            return
        with self._body, message("travel_explore", "No searches yet", "Launch one here, or from a terminal:"):
            ui.button("New search", on_click=lambda: ui.navigate.to("/launch")).props("no-caps unelevated")
            how = HOW_TO_SUBMIT.format(origin=str(request.base_url).rstrip("/"))
            code(how, "sh").classes("text-left").style("max-width: 640px")

    def _show_table(self) -> None:
        self._replace()
        with self._body:
            with ui.column().classes("panel").style("padding: 4px 6px; overflow-x: auto"):
                self._table = ui.table(columns=COLUMNS, rows=[], row_key="id", pagination=0)
                self._table.classes("w-full searches").props("flat hide-pagination")
                self._table.add_slot("header", HEADER)
                for column in COLUMNS:
                    cell = f'<q-td :props="props">{LABEL}{CELLS[column["name"]]}</q-td>'
                    self._table.add_slot(f"body-cell-{column['name']}", cell)
            with ui.row().classes("w-full justify-end gap-2"):
                self._before = ui.button("Page before", on_click=self._back)
                self._next = ui.button("Next page", on_click=self._forward)
                for button in (self._before, self._next):
                    button.props("flat dense no-caps")
