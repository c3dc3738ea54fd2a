"""Up to eight searches side by side: their fronts and curves together, where each stands, what was asked otherwise."""

import re
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from starlette.datastructures import QueryParams

from api.dashboard.compare_charts import COLOURS, curves_chart, fronts_chart, names_of
from api.dashboard.live import Live
from api.dashboard.theme import AMBER, banner, draw, frame, message, page_heading, panel, picture
from api.tailer import Tailer
from nas import wording
from nas.display_history import standing_rows, value_words
from nas.errors import NotFound, StoreUnavailable
from nas.listing import SearchFilter
from nas.search import Search
from nas.service import SearchService
from nas.side_by_side import MOST_SEARCHES, Beside, SideBySide

MAX_OFFERED = 100
"""The latest searches, to choose from; others are compared by their address."""
PAUSE_SECONDS = 5.0
"""Between two readings: all of the charts are drawn anew."""
KNOWN_ID = re.compile("[A-Za-z0-9_-]{1,64}")
UNARCHIVED = SearchFilter(archived=False)


async def build(service: SearchService, tailer: Tailer, notice: str | None, asked: QueryParams) -> None:
    """Make the page of the searches that its address names."""
    ui.page_title("Compare · Minitron search")
    chosen = [each for each in dict.fromkeys(asked.getlist("search")) if KNOWN_ID.fullmatch(each)]
    with frame(notice):
        with ui.row().classes("w-full items-baseline justify-between gap-3"):
            page_heading("Compare")
            freshness = ui.row()
        page = _Page(service, chosen[:MOST_SEARCHES])
        with freshness:
            page.live = Live(tailer, page.show, pause=lambda: PAUSE_SECONDS)
        await page.begin()


class _Page:
    """The page of one visitor."""

    live: Live

    def __init__(self, service: SearchService, chosen: Sequence[str]) -> None:
        self._service = service
        self._chosen = list(chosen)
        self._shape: object = "nothing is shown yet"
        self._comparison: _Comparison | None = None
        with panel():
            self._choice = ui.select(
                {},
                label=f"Searches, two to {MOST_SEARCHES}",
                multiple=True,
                with_input=True,
                on_change=self._choose,
            ).classes("w-full")
            self._choice.props(f"use-chips dense outlined max-values={MOST_SEARCHES}")
        self._unknown = ui.column().classes("w-full")
        self._body = ui.column().classes("w-full gap-4 numbers")

    async def begin(self) -> None:
        """Offer searches to choose from, and show those that were asked for."""
        try:
            offered = await run_in_threadpool(self._offered)
        except StoreUnavailable:
            offered = {each: each for each in self._chosen}
        unknown = [each for each in self._chosen if each not in offered]
        self._chosen = [each for each in self._chosen if each in offered]
        self._choice.set_options(offered, value=list(self._chosen))
        if unknown:
            with self._unknown:
                banner("travel_explore", "Some of these searches are not here", ", ".join(unknown), AMBER)
        await self.live.read()

    def _offered(self) -> dict[str, str]:
        """Return searches by their ids: the latest, and those that were asked for where there are such."""
        latest = self._service.list_views(UNARCHIVED, limit=MAX_OFFERED)
        found = {view.search.id: view.search for view in latest}
        for search_id in self._chosen:
            if search_id not in found:
                with suppress(NotFound):
                    found[search_id] = self._service.search(search_id)
        return {search_id: _offer(search) for search_id, search in found.items()}

    async def _choose(self) -> None:
        """Show what is chosen by now, under an address that can be passed on."""
        chosen = list(self._choice.value or ())
        if chosen == self._chosen:
            return
        self._chosen = chosen
        query = urlencode({"search": chosen}, doseq=True)
        ui.navigate.history.replace(f"/compare?{query}" if query else "/compare")
        await self.live.read()

    async def show(self) -> None:
        """Read the searches that are chosen, and draw them where something is new; raises StoreUnavailable."""
        chosen = list(self._chosen)
        found = await run_in_threadpool(self._service.compare, chosen) if chosen else None
        if chosen != self._chosen:  # a later choice is under way
            return
        shape = _shape(found) if found else None
        if shape != self._shape:
            self._shape = shape
            self._body.clear()
            with self._body:
                self._comparison = _Comparison(found) if found else None
                if found is None:
                    _nothing()
        elif found and self._comparison:
            self._comparison.show(found)


def _shape(found: SideBySide) -> object:
    """Return what of a comparison is laid out anew where it changes; whatever else does is changed in place, so that
    nobody who reads there loses the place.
    """
    rows = [name for name, _ in standing_rows(found.searches)]
    ids = [each.view.search.id for each in found.searches]
    return ids, names_of(found.searches), found.incomparable, found.differences, found.cost, rows


def _nothing() -> None:
    message(
        "compare_arrows",
        "Choose searches above",
        "Their fronts are drawn together, and what was asked otherwise is listed. The address can be passed on.",
    )


class _Comparison:
    """Searches side by side."""

    def __init__(self, found: SideBySide) -> None:
        for each in found.incomparable:
            banner("warning", each.message, " | ".join(each.values), AMBER)
        with ui.element("div").classes("charts"):
            with panel(f"Fronts: loss against {found.cost}"):
                self._fronts = picture(
                    fronts_chart(found), "The best loss at each cost, a line for each search"
                )
            with panel("Learning curves of the best"):
                self._curves = picture(
                    curves_chart(found.searches), "Loss by tokens of the best trial, a curve for each search"
                )
            for chart in (self._fronts, self._curves):
                chart.style("height: 360px")
        with panel("Where each stands"), _grid():
            _heads(found, "")
            self._standing = [
                _row(name[:1].upper() + name[1:], values) for name, values in _told(found.searches)
            ]
        with panel("What was asked otherwise"):
            if len(found.searches) < 2:
                ui.label("Choose another search to compare with.").classes("soft")
            elif not found.differences:
                ui.label("The same was asked of all.").classes("soft")
            else:
                with _grid():
                    _heads(found, "field of the spec")
                    for difference in found.differences:
                        _row(difference.field, list(map(value_words, difference.values)), is_code=True)

    def show(self, found: SideBySide) -> None:
        """Bring up to date what may change while the searches stay the same."""
        draw(self._fronts, fronts_chart(found))
        draw(self._curves, curves_chart(found.searches))
        for labels, (_, values) in zip(self._standing, _told(found.searches), strict=True):
            for label, value in zip(labels, values, strict=True):
                label.text = value


def _told(searches: Sequence[Beside]) -> list[tuple[str, list[str]]]:
    """Return where each stands; what it is called stands above."""
    return standing_rows(searches)[1:]


def _grid() -> ui.element:
    return ui.element("table").classes("beside")


def _heads(found: SideBySide, title: str) -> None:
    with ui.element("tr"):
        with ui.element("th").props("scope=col"):
            ui.label(title).classes("soft")
        for colour, name, each in zip(COLOURS, names_of(found.searches), found.searches, strict=False):
            with (
                ui.element("th").props("scope=col"),
                ui.link(target=f"/searches/{each.view.search.id}").classes("quiet"),
            ):
                ui.label(name).classes("chip").style(f"--dot: {colour}")


def _row(name: str, values: Sequence[str], *, is_code: bool = False) -> list[ui.label]:
    """Return the labels of the values."""
    labels = []
    with ui.element("tr"):
        with ui.element("th").props("scope=row").classes("font-normal"):
            ui.label(name).classes("mono" if is_code else "soft")
        for value in values:
            with ui.element("td"):
                labels.append(ui.label(value).classes("mono" if is_code else ""))
    return labels


def _offer(search: Search) -> str:
    name = search.spec.name or wording.parent(search.spec.parent)
    owner = f", {search.owner}" if search.owner else ""
    return f"{name} ({search.id}{owner})"
