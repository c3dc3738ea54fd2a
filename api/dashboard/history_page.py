"""What was ever measured: by parent first, then every student of those searches, filtered and sorted by the server."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.datastructures import QueryParams

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
from api.dashboard.said_panel import words_in
from api.dashboard.theme import frame, message, panel
from nas import wording
from nas.edits import MAX_TAGS
from nas.errors import StoreUnavailable
from nas.exports import Format
from nas.history import Entry, HistoryFilter, HistoryOrder, ParentSummary, Place
from nas.listing import SearchFilter
from nas.service import SearchService

ROWS_PER_PAGE = 25
MAX_PARENTS = 50
MAX_ASKED = 200
MOST = 2**63 - 1


async def build(service: SearchService, notice: str | None, asked: QueryParams) -> None:
    """Make the page of what its address asks for."""
    ui.page_title("History · Minitron search")
    with frame(notice):
        with ui.row().classes("w-full items-center justify-between gap-3"):
            ui.label("History").classes("text-xl font-semibold")
            ui.label("Every student that was ever measured, over all searches").classes("soft")
        await _Page(service, asked).show()


class _Page:
    """The page of one visitor: what is asked for, the place that its page of the list begins after."""

    def __init__(self, service: SearchService, asked: QueryParams) -> None:
        self._service = service
        self._parent_key = asked.get("parent_key") or None
        self._order = self._drawn_for = HistoryOrder.NEWEST
        self._places: list[Place | None] = [None]
        self._next: Place | None = None
        self._parents = ui.column().classes("w-full")
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
        self._body = ui.column().classes("w-full")
        self._table: ui.table | None = None
        self._tables: dict[Format, ui.link] = {}

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
        await self.show()

    async def show(self) -> None:
        """Read parents and a page of measurements, and show them."""
        which, order, place = self._which(), self._order, self._places[-1]
        try:
            parents = await run_in_threadpool(
                self._service.list_parents, which.searches, limit=MAX_PARENTS + 1
            )
            entries = await run_in_threadpool(
                lambda: self._service.list_measurements(
                    which, order=order, after=place, limit=ROWS_PER_PAGE + 1
                )
            )
        except StoreUnavailable as error:
            self._clear()
            with self._body:
                message("cloud_off", "The database does not answer", f"{error}; reload this page later.")
            return
        if (which, order, place) != (self._which(), self._order, self._places[-1]):
            return  # a later question is under way
        self._show_parents(parents)
        shown = entries[:ROWS_PER_PAGE]
        self._next = shown[-1].measured.place if len(entries) > len(shown) else None
        self._show_measured(shown)

    def _clear(self) -> None:
        self._body.clear()
        self._table = None

    def _show_parents(self, parents: Sequence[ParentSummary]) -> None:
        self._parents.clear()
        chosen = next((each for each in parents if each.parent_key == self._parent_key), None)
        with self._parents:
            if self._parent_key:
                with panel(), ui.row().classes("w-full items-center gap-3"):
                    name = wording.parent(chosen.parent) if chosen else "One parent"
                    ui.label(name).classes("font-semibold")
                    if chosen:
                        ui.label(summary(chosen)).classes("soft")
                    ui.link("All parents", "/history").classes("quiet text-primary")
            elif parents:
                self._parents_table(parents)

    def _parents_table(self, parents: Sequence[ParentSummary]) -> None:
        with panel("Parents"):
            rows = [parent_row(each) for each in parents[:MAX_PARENTS]]
            table = ui.table(columns=PARENT_COLUMNS, rows=rows, row_key="key").classes("w-full")
            table.props("flat dense hide-pagination")
            table.add_slot("body-cell-parent", f'<q-td :props="props">{PARENT_CELL}</q-td>')
            if len(parents) > MAX_PARENTS:
                ui.label(f"The {MAX_PARENTS} that were measured last.").classes("soft")

    def _show_measured(self, entries: Sequence[Entry]) -> None:
        if not entries and len(self._places) == 1:
            self._clear()
            with self._body:
                _nothing(is_asked=self._which() != HistoryFilter(searches=SearchFilter(archived=False)))
            return
        rows = [student_row(entry) for entry in entries]
        if self._table is None or self._drawn_for != self._order:
            self._make_table()  # anew where the order is another: browsers keep to the one that they were given first
        assert self._table
        self._table.rows = rows
        first = (len(self._places) - 1) * ROWS_PER_PAGE
        self._where.text = f"{first + 1:,} to {first + len(rows):,}"
        self._back.set_enabled(len(self._places) > 1)
        self._forth.set_enabled(self._next is not None)
        for form, link in self._tables.items():
            link.props(f'href="/api/v1/history/export?{self._address(self._which())}&format={form.value}"')

    def _make_table(self) -> None:
        self._clear()
        self._drawn_for = self._order
        columns = [column for column in COLUMNS if column["name"] != "parent" or not self._parent_key]
        descending = self._order.is_descending
        by = next(name for name, field in SORTED_BY.items() if field == self._order.field)
        # The server sorts: with a number of rows, a table asks instead of sorting what it has.
        pagination = {"rowsPerPage": 0, "rowsNumber": 1, "sortBy": by, "descending": descending}
        with self._body, panel("Students"):
            self._table = ui.table(columns=columns, rows=[], row_key="key", pagination=pagination)
            self._table.classes("w-full").props("flat dense hide-pagination binary-state-sort")
            self._table.on("request", self._sort)
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

    async def _sort(self, event: GenericEventArguments) -> None:
        """Order by the column whose heading was pressed."""
        asked: Mapping[str, Any] = event.args["pagination"]
        field = SORTED_BY.get(asked.get("sortBy") or "at", "at")
        self._order = HistoryOrder(f"{'-' if asked.get('descending') else ''}{field}")
        self._places = [None]
        await self.show()

    async def _go_on(self) -> None:
        if self._next is not None:
            self._places.append(self._next)
            await self.show()

    async def _go_back(self) -> None:
        if len(self._places) > 1:
            self._places.pop()
            await self.show()


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
        ui.button("New search", on_click=lambda: ui.navigate.to("/launch")).props("no-caps unelevated")
