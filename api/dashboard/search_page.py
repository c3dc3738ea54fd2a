"""One search, live: where it stands, what it found so far, every trial."""

from dataclasses import dataclass
from pathlib import Path

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.charts import learning_chart, size_chart
from api.dashboard.mlflow_panel import MlflowPanel
from api.dashboard.said_panel import SaidPanel
from api.dashboard.theme import AMBER, RED, banner, frame, message, nowhere, panel, show_state, state_chip
from api.dashboard.trials_table import TrialsTable
from api.dashboard.winner_panel import WinnerPanel
from nas import wording
from nas.clock import utc_now
from nas.errors import Conflict, NotFound, StoreUnavailable
from nas.frontier import Comparison
from nas.leaderboard import Line, comparison_of, leaderboard, num_planned
from nas.search import Search, SearchState
from nas.service import SearchService
from nas.spec import spec_to_json
from nas.standing import SearchView
from nas.text import yaml_of

POLL_SECONDS = 1.0
ENDED_SECONDS = 5.0
"""Between looks at a search that has ended, of which only what people say changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that the page shows, read at one time."""

    view: SearchView
    lines: list[Line]
    comparison: Comparison | None
    winner: Path | None
    disk_bytes: int


async def build(service: SearchService, search_id: str, notice: str | None) -> None:
    """Make the page, or say that there is no such search."""
    try:
        snapshot = await run_in_threadpool(_read, service, search_id)
    except NotFound:
        with frame(notice):
            nowhere(f"There is no search {search_id}", "It may belong to another server.")
        return
    except StoreUnavailable as error:
        ui.context.client.status_code = 503
        with frame(notice):
            message("cloud_off", "The database does not answer", f"{error}; reload this page later.")
        return
    ui.page_title(f"{_name(snapshot.view.search)} · Minitron search")
    with frame(notice):
        _Page(service, snapshot)


def _read(service: SearchService, search_id: str) -> Snapshot:
    records = service.trials(search_id)
    view = service.get(search_id)
    return Snapshot(
        view=view,
        lines=leaderboard(records),
        comparison=comparison_of(view.search, records),
        winner=service.winner_directory(search_id) if view.search.winner else None,
        disk_bytes=service.disk_bytes(search_id),
    )


class _Page:
    """The page of one visitor; ``_show`` brings every part up to date."""

    def __init__(self, service: SearchService, snapshot: Snapshot) -> None:
        self._service = service
        self._id = snapshot.view.search.id
        self._view = snapshot.view
        self._pace: wording.Pace | None = None
        self._make(snapshot)
        self._show(snapshot)
        self._timer = ui.timer(self._pause(), self._poll)

    def _make(self, snapshot: Snapshot) -> None:
        search = snapshot.view.search
        with ui.row().classes("w-full items-start justify-between no-wrap gap-4"):
            with ui.column().classes("gap-1").style("min-width: 0"):
                with ui.link(target="/").classes("quiet soft flex items-center gap-1"):
                    ui.icon("arrow_back")
                    ui.label("All searches")
                with ui.row().classes("items-baseline gap-3"):
                    ui.label(_name(search)).classes("text-xl font-semibold")
                    self._state = state_chip(search)
                ui.label(_asked(search)).classes("soft").style("overflow-wrap: anywhere")
                ui.label(search.id).classes("soft mono")
                if search.cloned_from:
                    with ui.row().classes("soft gap-1"):
                        ui.label("Cloned from")
                        ui.link(search.cloned_from, f"/searches/{search.cloned_from}").classes("mono")
            self._cancel = ui.button("Cancel search", on_click=self._ask_to_cancel)
            self._cancel.props("outline no-caps color=negative").classes("shrink-0")
        self._unreachable = banner(
            "cloud_off", "The database does not answer", "This page tries again.", AMBER
        )
        self._unreachable.visible = False
        self._said = SaidPanel(self._service, search)
        self._failure = ui.column().classes("w-full")
        with panel() as self._progress:
            with ui.row().classes("w-full justify-between gap-2"):
                self._stage = ui.label().classes("font-medium")
                self._left = ui.label().classes("soft")
            self._bar = ui.linear_progress(show_value=False, size="8px").props("rounded instant-feedback")
        with ui.element("div").classes("tiles"):
            self._best = _Tile("Best held-out loss")
            self._gap = _Tile("Gap to the parent closed")
            self._size = _Tile("Parameters of the best")
            self._trials = _Tile("Trials ended")
        with ui.element("div").classes("charts"):
            with panel("Loss against parameters"):
                self._sizes = ui.echart(size_chart(search, snapshot.lines)).style("height: 340px")
            with panel("Learning curves"):
                self._curves = ui.echart(learning_chart(search, snapshot.lines)).style("height: 340px")
        self._winner = WinnerPanel()
        with panel("Trials"):
            self._table = TrialsTable()
        MlflowPanel(self._service, search.id)
        with panel(), ui.expansion("Spec, complete with its defaults").classes("w-full").props("dense"):
            ui.code(yaml_of(spec_to_json(search.spec)), language="yaml")

    def _show(self, snapshot: Snapshot) -> None:
        view, search = snapshot.view, snapshot.view.search
        show_state(self._state, search)
        self._said.show(search)
        self._cancel.visible = not search.state.is_final
        self._cancel.enabled = not search.cancel_requested
        self._show_failure(search)
        self._show_progress(snapshot)
        self._show_tiles(view)
        for chart, options in (
            (self._sizes, size_chart(search, snapshot.lines)),
            (self._curves, learning_chart(search, snapshot.lines)),
        ):
            chart.options.update(options)
            chart.update()
        self._winner.show(view, snapshot.comparison, snapshot.winner)
        self._table.show(snapshot.lines)

    def _show_failure(self, search: Search) -> None:
        self._failure.clear()
        self._failure.visible = search.failure is not None
        if search.failure is None:
            return
        with self._failure, banner("error", "This search failed", search.failure.message, RED):
            ui.label(
                "What was measured is kept below. When the cause is removed, submit the same again with "
                f"nas clone {search.id}: what was prepared is found in the cache."
            ).classes("soft")
            for title, text in (
                ("Traceback of the worker", search.failure.traceback),
                ("End of the worker's log", search.failure.log_tail),
            ):
                if text:
                    with ui.expansion(title).props("dense").classes("w-full"):
                        ui.label(text).classes("trace mono")

    def _show_progress(self, snapshot: Snapshot) -> None:
        view = snapshot.view
        search, at = view.search, view.search.progress
        if search.state.is_final:
            ended = search.finished_at or search.created_at
            took = wording.duration(ended - (search.started_at or search.created_at))
            self._stage.text = f"Took {took}; its files take {wording.in_bytes(snapshot.disk_bytes)}"
            self._left.text = f"ended {ended:%d %B %Y, %H:%M} UTC"
            self._bar.visible = False
            return
        self._bar.visible = True
        if search.state is SearchState.QUEUED:
            self._stage.text, self._left.text = "Waiting for a free worker process", ""
            self._bar.value = 0
            return
        done, total = (at.done, at.total) if at and at.total else (view.tokens_done, view.tokens_total)
        self._stage.text = wording.progress(at) if at else "Starting"
        self._stage.text = self._stage.text[:1].upper() + self._stage.text[1:]
        self._left.text = self._time_left(view)
        self._bar.value = min(1.0, done / total) if total else 0

    def _time_left(self, view: SearchView) -> str:
        """Say when the search will end, or else the stage that it is in."""
        at = view.search.progress
        if view.eta_seconds is not None or at is None:
            return wording.remaining(view.eta_seconds)
        if self._pace is None or self._pace.stage != at.stage:
            self._pace = wording.Pace(stage=at.stage, done=at.done, at=utc_now())
        left = self._pace.remaining_seconds(at, utc_now())
        return f"{wording.remaining(left)}{' of this stage' if left is not None else ''}"

    def _show_tiles(self, view: SearchView) -> None:
        search, best = view.search, view.best
        parent = (
            f"parent {wording.loss(search.parent_loss)}" if search.parent_loss else "parent not measured yet"
        )
        self._best.show(wording.loss(view.best_loss), parent)
        self._gap.show(wording.percent(view.gap_closed), "of the loss that pruning added")
        if best:
            count = best.architecture.parameter_count
            share = count / search.parent_parameters
            self._size.show(wording.count(count), f"{share:.0%} of the parent's, trial {best.number}")
        else:
            self._size.show(wording.NOTHING, "no trial has completed")
        done = sum(number for state, number in view.counts.items() if state.is_final)
        parts = ", ".join(f"{number} {state.lower()}" for state, number in sorted(view.counts.items()))
        number = str(done) if search.state.is_final else f"{done} of about {num_planned(search)}"
        self._trials.show(number, parts or "none has begun")

    async def _poll(self) -> None:
        """Read where the search stands; draw only when that changed."""
        try:
            if await run_in_threadpool(self._has_changed):
                snapshot = await run_in_threadpool(_read, self._service, self._id)
                self._view = snapshot.view
                self._show(snapshot)
        except StoreUnavailable:
            self._unreachable.visible = True
            return
        self._unreachable.visible = False
        self._timer.interval = self._pause()

    def _has_changed(self) -> bool:
        if self._view.search.state.is_final:
            return self._service.search(self._id) != self._view.search
        return self._service.get(self._id) != self._view

    def _pause(self) -> float:
        return ENDED_SECONDS if self._view.search.state.is_final else POLL_SECONDS

    async def _ask_to_cancel(self) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label("Cancel this search?").classes("text-lg font-semibold")
            ui.label("Its workers stop within seconds. What was measured is kept; there will be no winner.")
            with ui.row().classes("w-full justify-end"):
                ui.button("Keep it running", on_click=lambda: dialog.submit(False)).props("flat no-caps")
                ui.button("Cancel search", on_click=lambda: dialog.submit(True)).props(
                    "no-caps color=negative"
                )
        if await dialog:
            try:
                await run_in_threadpool(self._service.cancel, self._id)
            except (Conflict, StoreUnavailable) as error:
                ui.notify(str(error), type="warning")
            await self._poll()
        dialog.delete()


class _Tile:
    """One number with what it means."""

    def __init__(self, title: str) -> None:
        with panel(title).style("gap: 2px"):
            self._number = ui.label().classes("number")
            self._note = ui.label().classes("soft")

    def show(self, number: str, note: str) -> None:
        """Bring the tile up to date."""
        self._number.text, self._note.text = number, note


def _asked(search: Search) -> str:
    spec = search.spec
    return (
        f"Parent {spec.parent} with {wording.count(search.parent_parameters)} parameters. "
        f"Budget: {wording.budget(spec.budget)}; {search.num_feasible:,} architectures fit."
    )


def _name(search: Search) -> str:
    return search.spec.name or f"Search {search.id}"
