"""One search, live: its panels, and the one place where they are brought up to date."""

from fastapi.concurrency import run_in_threadpool
from nicegui import events, ui
from starlette.datastructures import QueryParams

from api.dashboard.axes_panel import AxesPanel
from api.dashboard.charts import learning_chart, num_curves_left_out, size_chart, size_note
from api.dashboard.control_panel import ControlPanel
from api.dashboard.cost_panel import CostPanel
from api.dashboard.live import Live
from api.dashboard.mlflow_panel import MlflowPanel
from api.dashboard.parallel_panel import ParallelPanel
from api.dashboard.promotion_panel import PromotionPanel
from api.dashboard.ranking_panel import RankingPanel
from api.dashboard.said_panel import SaidPanel
from api.dashboard.search_head import SearchHead, name_of
from api.dashboard.snapshot import Snapshot, SnapshotReader, SnapshotReaders
from api.dashboard.spec_panel import make_spec_panel
from api.dashboard.standing_panel import StandingPanel
from api.dashboard.story_panel import LogPanel, StoryPanel
from api.dashboard.theme import draw, frame, message, nowhere, panel, picture
from api.dashboard.trial_panel import TrialPanel
from api.dashboard.trials_table import TrialsTable
from api.dashboard.winner_panel import WinnerPanel
from api.tailer import Tailer
from nas.errors import NotFound, StoreUnavailable
from nas.service import SearchService

SAME = "the table of trials says the same in numbers"
TRIALS_A_SECOND = 150
"""That a browser draws without effort; a page with more is brought up to date more rarely."""


async def build(
    service: SearchService,
    readers: SnapshotReaders,
    tailer: Tailer,
    search_id: str,
    *,
    notice: str | None,
    asked: QueryParams,
) -> None:
    """Make the page, or say that there is no such search.

    Args:
        service: As the visitor may use it.
        readers: Shared by all visitors: asked only for what ``service`` lets this one see.
        tailer: Tells that something happened.
        search_id: Of the search.
        notice: Shown on each page.
        asked: The address names the trial to show.
    """
    try:
        await run_in_threadpool(service.search, search_id)
        reader = readers.of(search_id)
        snapshot = await run_in_threadpool(reader.read)
    except NotFound:
        with frame(notice):
            nowhere(f"There is no search {search_id}", "It may belong to another server.")
        return
    except StoreUnavailable as error:
        ui.context.client.status_code = 503
        with frame(notice):
            message("cloud_off", "The database does not answer", f"{error}; reload this page later.")
        return
    ui.page_title(f"{name_of(snapshot.search)} · Minitron search")
    trial = asked.get("trial", "")
    with frame(notice):
        page = _Page(service, reader, snapshot, chosen=int(trial) if trial.isdecimal() else None)
        page.follow(tailer)


class _Page:
    """The page of one visitor; ``_show`` brings every part up to date."""

    def __init__(
        self, service: SearchService, reader: SnapshotReader, snapshot: Snapshot, *, chosen: int | None
    ) -> None:
        self._service = service
        self._reader = reader
        self._id = snapshot.search.id
        self._snapshot = snapshot
        self._chosen = chosen if snapshot.line(chosen) else None
        """None follows the best."""
        self._head = SearchHead(service, snapshot.search, self._show_now)
        with ui.column().classes("w-full gap-4 numbers"):
            self._standing = StandingPanel()
            self._control = ControlPanel(service, snapshot.view, self._show_now)
            self._make_charts(snapshot)
            self._winner = WinnerPanel()
            self._promotions = PromotionPanel()
            with panel("Trials"):
                self._table = TrialsTable(self._choose)
            self._trial = TrialPanel(service, self._show_now)
            self._parallel = ParallelPanel(snapshot)
            with ui.element("div").classes("charts"):
                self._axes = AxesPanel()
                self._ranking = RankingPanel()
                self._cost = CostPanel(self._id)
            self._said = SaidPanel(service, snapshot.search)
            with ui.element("div").classes("charts"):
                self._story = StoryPanel(self._id)
                LogPanel(service, self._id)
            MlflowPanel(service, self._id)
            make_spec_panel(snapshot.search)
        self._show(snapshot)
        if self._chosen is not None:
            self._table.turn_to(self._chosen)

    def follow(self, tailer: Tailer) -> None:
        """Keep the page fresh from now on."""
        with self._head.freshness:
            self._live = Live(tailer, self._refresh, search_id=self._id, pause=self._pause)

    def _make_charts(self, snapshot: Snapshot) -> None:
        search, lines = snapshot.search, snapshot.lines
        with ui.element("div").classes("charts"):
            against = f"Loss against {search.spec.objective.cost if search.spec.objective else 'parameters'}"
            with panel(against):
                self._sizes = picture(
                    size_chart(search, lines),
                    f"{against}, a point for each trial; {SAME}",
                    on_point_click=self._point_clicked,
                )
                self._sizes_note = ui.label().classes("soft")
            with panel("Learning curves"):
                self._curves = picture(
                    learning_chart(search, lines),
                    f"Loss by tokens of retraining, a curve for each trial; {SAME}",
                    on_point_click=self._curve_clicked,
                )
                self._curves_note = ui.label().classes("soft")
            for chart in (self._sizes, self._curves):
                chart.style("height: 340px")

    def _show(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        search, lines = snapshot.search, snapshot.lines
        chosen = self._chosen_number()
        self._head.show(search)
        self._standing.show(snapshot)
        self._control.show(snapshot.view)
        draw(self._sizes, size_chart(search, lines, chosen))
        self._sizes_note.text = size_note(search, lines)
        self._sizes_note.visible = bool(self._sizes_note.text)
        draw(self._curves, learning_chart(search, lines, chosen))
        left_out = num_curves_left_out(lines)
        self._curves_note.visible = bool(left_out)
        self._curves_note.text = (
            f"{left_out} further trials are not drawn; choose one below to see its curve."
        )
        self._winner.show(snapshot.view, snapshot.comparison, snapshot.winner)
        self._promotions.show(snapshot.promotions)
        self._table.show(lines, chosen)
        self._trial.show(snapshot, snapshot.line(chosen))
        self._parallel.show(snapshot)
        self._axes.show(snapshot)
        self._ranking.show(snapshot.agreement)
        self._cost.show(snapshot)
        self._said.show(search)
        self._story.show(snapshot.happened)

    async def _show_now(self) -> None:
        """Show what came of what was just done."""
        await self._live.read()

    async def _refresh(self) -> None:
        """Read where the search stands, and draw only when that changed; raises StoreUnavailable."""
        await run_in_threadpool(self._service.workspace_of, self._id)  # may have left it meanwhile
        snapshot = await run_in_threadpool(self._reader.read)
        if snapshot.sequence != self._snapshot.sequence:
            self._show(snapshot)

    def _pause(self) -> float:
        return max(1.0, len(self._snapshot.lines) / TRIALS_A_SECOND)

    def _chosen_number(self) -> int | None:
        if self._chosen is not None:
            return self._chosen
        best = self._snapshot.view.best
        first = self._snapshot.lines[0].record.trial.number if self._snapshot.lines else None
        return best.number if best else first

    def _choose(self, number: int) -> None:
        """Show more of a trial, under an address that can be passed on."""
        self._chosen = number
        ui.navigate.history.replace(f"/searches/{self._id}?trial={number}")
        self._show(self._snapshot)

    def _point_clicked(self, event: events.EChartPointClickEventArguments) -> None:
        if event.name.isdecimal():
            self._choose(int(event.name))

    def _curve_clicked(self, event: events.EChartPointClickEventArguments) -> None:
        number = event.series_name.removeprefix("#").split(" ")[0]
        if number.isdecimal():
            self._choose(int(number))
