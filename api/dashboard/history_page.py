"""What was ever measured: by parent first, then every student of those searches, filtered and sorted by the server."""

import math
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from starlette.datastructures import QueryParams

from api.dashboard import visitor
from api.dashboard.history_tables import (
    CELLS,
    COLUMNS,
    PARENT_CELL,
    PARENT_COLUMNS,
    SORTED_BY,
    parent_row,
    student_row,
    summary,
)
from api.dashboard.live import REWORD_SECONDS, Live
from api.dashboard.said_panel import words_in
from api.dashboard.table_heads import HEADER, Column, ordered
from api.dashboard.theme import frame, message, page_heading, panel
from api.tailer import Tailer
from nas import wording
from nas.clock import utc_now
from nas.edits import MAX_TAGS
from nas.exports import Format
from nas.history import Entry, HistoryFilter, HistoryOrder, ParentSummary, Place
from nas.listing import SearchFilter
from nas.service import SearchService

ROWS_PER_PAGE = 25
MAX_PARENTS = 50
MAX_ASKED = 200
MOST = 2**63 - 1
PAUSE_SECONDS = 5.0
"""Between two readings: what was measured changes seldom, and is much to read."""


async def build(service: SearchService, tailer: Tailer, notice: str | None, asked: QueryParams) -> None:
    """Make the page of what its address asks for."""
    ui.page_title("History · Minitron search")
    with frame(notice):
        with ui.row().classes("w-full items-baseline justify-between gap-3"):
            with ui.column().classes("gap-0"):
                page_heading("History")
                ui.label("Every student that was ever measured, over all searches").classes("soft")
            freshness = ui.row()
        page = _Page(service, asked)
        with freshness:
            page.live = Live(tailer, page.show, pause=lambda: PAUSE_SECONDS)
        await page.live.read()


class _Page:
    """The page of one visitor: what is asked for, the place that its page of the list begins after."""

    live: Live

    def __init__(self, service: SearchService, asked: QueryParams) -> None:
        self._service = service
        self._parent_key = asked.get("parent_key") or None
        self._order = HistoryOrder.NEWEST
        self._places: list[Place | None] = [None]
        self._next: Place | None = None
        self._parents = _Parents(self._parent_key)
        with panel().props("role=search"), ui.row().classes("w-full items-center gap-3"):
            self._owner = self._field("Owner", asked.get("owner", ""))
            self._tags = self._field("Tags", " ".join(asked.getlist("tag")))
            self._shape = self._field("Architecture, whole name", asked.get("architecture", ""), 230)
            self._least = self._number("At least parameters", asked.get("min_parameters"))
            self._most = self._number("At most parameters", asked.get("max_parameters"))
            self._loss = self._number("At most loss", asked.get("max_loss"))
            self._whole = ui.switch(
                "Only to the last rung", value=asked.get("partial") == "false", on_change=self._ask
            )
            self._archived = ui.switch(
                "Archived too", value=asked.get("archived") == "any", on_change=self._ask
            )
        self._body = ui.column().classes("w-full numbers")
        self._entries: Sequence[Entry] = ()
        self._table: ui.table | None = None
        self._tables: dict[Format, ui.link] = {}
        ui.timer(REWORD_SECONDS, self._reword)

    def _field(self, label: str, value: str, width: int = 150) -> ui.input:
        field = ui.input(label, value=value[:MAX_ASKED], on_change=self._ask)
        return field.props("dense outlined clearable debounce=300 maxlength=200").style(f"width: {width}px")

    def _number(self, label: str, value: str | None) -> ui.number:
        field = ui.number(label, value=_number_in(value), min=0, on_change=self._ask)
        return field.props("dense outlined clearable debounce=300").style("width: 170px")

    def _searches(self) -> SearchFilter:
        """Return of which searches; NUL is no part of any text."""
        owner, tags = ((field.value or "").replace("\0", "") for field in (self._owner, self._tags))
        return SearchFilter(
            owner=owner.strip() or None,
            tags=words_in(tags)[:MAX_TAGS] or None,
            archived=None if self._archived.value else False,
        )

    def _which(self) -> HistoryFilter:
        least, most = (
            None if field.value is None else max(0, min(int(field.value), MOST))
            for field in (self._least, self._most)
        )
        return HistoryFilter(
            searches=self._searches(),
            parent_key=self._parent_key,
            architecture=(self._shape.value or "").replace("\0", "").strip() or None,
            min_parameters=least,
            max_parameters=most,
            max_loss=self._loss.value,
            partial=False if self._whole.value else None,
        )

    def _address(self, which: HistoryFilter) -> str:
        """Return what is asked for as REST has it: of the page's own address and of the table to take along."""
        asked = {
            "parent_key": which.parent_key,
            "owner": which.searches.owner,
            "tag": which.searches.tags,
            "architecture": which.architecture,
            "min_parameters": which.min_parameters,
            "max_parameters": which.max_parameters,
            "max_loss": which.max_loss,
            "partial": "false" if which.partial is False else None,
            "archived": "any" if which.searches.archived is None else None,
        }
        return urlencode({name: value for name, value in asked.items() if value is not None}, doseq=True)

    async def _ask(self) -> None:
        """Show what is asked for by now, from the first page, under an address that can be passed on."""
        query = self._address(self._which())
        ui.navigate.history.replace(f"/history?{query}" if query else "/history")
        self._places = [None]
        await self.live.read()

    async def show(self) -> None:
        """Read parents and a page of measurements, and show them; raises StoreUnavailable."""
        which, order, place = self._which(), self._order, self._places[-1]
        parents = await run_in_threadpool(self._service.list_parents, which.searches, limit=MAX_PARENTS + 1)
        entries = await run_in_threadpool(
            lambda: self._service.list_measurements(which, order=order, after=place, limit=ROWS_PER_PAGE + 1)
        )
        if (which, order, place) != (self._which(), self._order, self._places[-1]):
            return  # a later question is under way
        self._parents.show(parents)
        shown = entries[:ROWS_PER_PAGE]
        self._next = shown[-1].measured.place if len(entries) > len(shown) else None
        self._show_measured(shown)

    def _show_measured(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        if not entries and len(self._places) == 1:
            self._body.clear()
            self._table = None
            with self._body:
                _nothing(is_asked=self._which() != HistoryFilter(searches=SearchFilter(archived=False)))
            return
        if self._table is None:
            self._make_table()
        self._reword()
        first = (len(self._places) - 1) * ROWS_PER_PAGE
        self._where.text = f"{first + 1:,} to {first + len(entries):,}"
        self._back.set_enabled(len(self._places) > 1)
        self._forth.set_enabled(self._next is not None)
        for form, link in self._tables.items():
            link.props(f'href="/api/v1/history/export?{self._address(self._which())}&format={form.value}"')

    def _reword(self) -> None:
        """Show what was read last, in the words of now."""
        now = utc_now()
        self._parents.reword(now)
        rows = [student_row(entry, now) for entry in self._entries]
        if self._table and rows != self._table.rows:
            self._table.rows = rows

    def _make_table(self) -> None:
        self._body.clear()
        with self._body, panel("Students"):
            self._table = ui.table(columns=self._columns(), rows=[], row_key="key", pagination=0)
            self._table.classes("w-full kept").props("flat dense hide-pagination")
            self._table.on("order", lambda event: self._sort(str(event.args)))
            self._table.add_slot("header", HEADER)
            for name, cell in CELLS.items():
                self._table.add_slot(f"body-cell-{name}", f'<q-td :props="props">{cell}</q-td>')
            with ui.row().classes("w-full items-center justify-end gap-2"):
                self._where = ui.label().classes("soft")
                self._back = ui.button("Before", icon="chevron_left", on_click=self._go_back)
                self._forth = ui.button("Next", icon="chevron_right", on_click=self._go_on)
                for button in (self._back, self._forth):
                    button.props("flat dense no-caps")
                ui.space()
                ui.label("Take all of these along:").classes("soft")
                self._tables = {
                    form: ui.link(form.upper(), "").classes("quiet text-primary") for form in Format
                }

    def _columns(self) -> list[Column]:
        """Return what is shown of a student; the column that orders them says so."""
        by = next(name for name, field in SORTED_BY.items() if field == self._order.field)
        shown = [each for each in COLUMNS if each["name"] != "parent" or not self._parent_key]
        return ordered(shown, by, is_descending=self._order.is_descending)

    async def _sort(self, column: str) -> None:
        """Order by a column whose heading was pressed: ascending at first, then the other way."""
        field = SORTED_BY.get(column, "at")
        turns = field == self._order.field and not self._order.is_descending
        self._order = HistoryOrder(f"{'-' if turns else ''}{field}")
        if self._table:
            self._table.columns = self._columns()
        self._places = [None]
        await self.live.read()

    async def _go_on(self) -> None:
        if self._next is not None:
            self._places.append(self._next)
            await self.live.read()

    async def _go_back(self) -> None:
        if len(self._places) > 1:
            self._places.pop()
            await self.live.read()


class _Parents:
    """All parents, or the one that is chosen."""

    def __init__(self, chosen: str | None) -> None:
        self._chosen = chosen
        self._found: Sequence[ParentSummary] | None = None
        self._table: ui.table | None = None
        self._body = ui.column().classes("w-full numbers")

    def show(self, parents: Sequence[ParentSummary]) -> None:
        """Bring them up to date; what is the same stays, and with it where the keyboard is."""
        if parents == self._found:
            return
        self._found = parents
        if self._table and parents:
            self.reword(utc_now())
            return
        self._body.clear()
        self._table = None
        with self._body:
            if self._chosen:
                self._make_one(next((each for each in parents if each.parent_key == self._chosen), None))
            elif parents:
                self._make_table(len(parents) > MAX_PARENTS)
                self.reword(utc_now())

    def reword(self, now: datetime) -> None:
        """Show what was read last, in the words of now."""
        rows = [parent_row(each, now) for each in (self._found or ())[:MAX_PARENTS]]
        if self._table and rows != self._table.rows:
            self._table.rows = rows

    def _make_one(self, parent: ParentSummary | None) -> None:
        with panel(), ui.row().classes("w-full items-center gap-3"):
            ui.label(wording.parent(parent.parent) if parent else "One parent").classes("font-semibold")
            if parent:
                ui.label(summary(parent)).classes("soft")
            ui.link("All parents", "/history").classes("quiet text-primary")

    def _make_table(self, is_long: bool) -> None:
        with panel("Parents"):
            self._table = ui.table(columns=PARENT_COLUMNS, rows=[], row_key="key").classes("w-full")
            self._table.props("flat dense hide-pagination")
            self._table.add_slot("header", HEADER)
            self._table.add_slot("body-cell-parent", f'<q-td :props="props">{PARENT_CELL}</q-td>')
            if is_long:
                ui.label(f"The {MAX_PARENTS} that were measured last.").classes("soft")


def _number_in(text: str | None) -> float | None:
    """Return the number that a part of an address says, if it says one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _nothing(*, is_asked: bool) -> None:
    if is_asked:
        message(
            "search_off", "Nothing of the kind was measured", "Ask for less, or for archived searches too."
        )
        return
    with message(
        "history", "Nothing is measured yet", "Every trial that ends stands here, of whatever search."
    ):
        if visitor.may_submit():
            ui.button("New search", on_click=lambda: ui.navigate.to("/launch")).props("no-caps unelevated")
