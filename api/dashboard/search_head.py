"""The top of a search's page: what it is, its state, what can be done with it, and why it failed if it did."""

from collections.abc import Awaitable, Callable

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import RED, banner, failure_details, page_heading, show_state, state_chip
from api.dashboard.visitor import may_change, may_submit
from nas import wording
from nas.errors import Conflict, StoreUnavailable
from nas.sampling import SAMPLERS
from nas.search import Search
from nas.service import SearchService


class SearchHead:
    """The head of one visitor's page.

    ``links`` holds what leads to the same search elsewhere, ``freshness`` what says how fresh the page is.

    Args:
        service: Of the use cases.
        search: As it stands.
        refresh: Brings the page up to date, after something was done.
    """

    def __init__(
        self, service: SearchService, search: Search, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._service = service
        self._id = search.id
        self._refresh = refresh
        with ui.row().classes("w-full items-start justify-between gap-4"):
            with ui.column().classes("gap-1").style("min-width: 0; flex: 1 1 420px"):
                with ui.link(target="/").classes("quiet soft flex items-center gap-1"):
                    ui.icon("arrow_back")
                    ui.label("All searches")
                with ui.row().classes("items-baseline gap-3"):
                    page_heading(name_of(search))
                    self._state = state_chip(search)
                    self._killed = ui.label().classes("soft")
                ui.label(_asked(search)).classes("soft").style("overflow-wrap: anywhere")
                with ui.row().classes("soft items-baseline gap-3") as self.links:
                    ui.label(search.id).classes("mono")
                    if search.cloned_from:
                        ui.link("cloned from", f"/searches/{search.cloned_from}").tooltip(search.cloned_from)
            with ui.column().classes("items-end gap-1"):
                with ui.row().classes("gap-2"):
                    clone = (
                        ui.button(
                            "Clone", icon="content_copy", on_click=lambda: ui.navigate.to(_clone(search.id))
                        )
                        .props("outline no-caps")
                        .tooltip("Launch another, from this one's spec")
                    )
                    clone.visible = may_submit()
                    self._cancel = ui.button("Cancel search", on_click=self._ask_to_cancel)
                    self._cancel.props("outline no-caps color=negative")
                self.freshness = ui.row()
        self._failure = ui.column().classes("w-full")
        self._told: object = None

    def show(self, search: Search) -> None:
        """Bring the head up to date."""
        show_state(self._state, search)
        self._killed.text = wording.killed(search.orders)
        self._cancel.visible = not search.state.is_final and may_change(search.workspace)
        self._cancel.enabled = not search.cancel_requested
        if search.failure != self._told:
            self._told = search.failure
            self._show_failure(search)

    def _show_failure(self, search: Search) -> None:
        self._failure.clear()
        if search.failure is None:
            return
        with self._failure, banner("error", "This search failed", search.failure.message, RED):
            ui.label(
                "What was measured is kept below. When the cause is removed, clone it here or with "
                f"nas clone {search.id}: what was prepared is found in the cache."
            ).classes("soft")
            if search.failure.traceback or search.failure.log_tail:
                with ui.expansion("Traceback and log").props("dense").classes("w-full"):
                    failure_details(search.failure)

    async def _ask_to_cancel(self) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label("Cancel this search?").classes("text-lg font-semibold")
            ui.label("Its workers stop within seconds. What was measured is kept; there will be no winner.")
            with ui.row().classes("w-full justify-end"):
                ui.button("Keep it running", on_click=lambda: dialog.submit(False)).props("flat no-caps")
                ui.button("Cancel search", on_click=lambda: dialog.submit(True)).props(
                    "no-caps color=negative"
                )
        dialog.on("hide", dialog.delete)  # not sooner: the keyboard goes back to the button then
        if await dialog:
            try:
                await run_in_threadpool(self._service.control.cancel, self._id)
            except (Conflict, StoreUnavailable) as error:
                ui.notify(str(error), type="warning")
            await self._refresh()


def name_of(search: Search) -> str:
    """Return what a search is called."""
    return search.spec.name or f"Search {search.id}"


def _clone(search_id: str) -> str:
    return f"/launch?clone={search_id}"


def _asked(search: Search) -> str:
    spec = search.spec
    return (
        f"Parent {spec.parent} with {wording.count(search.parent_parameters)} parameters. "
        f"Budget: {wording.budget(search.budget)}; {wording.fitting(search)}. "
        f"Tried: {SAMPLERS[spec.sampler]}."
    )
