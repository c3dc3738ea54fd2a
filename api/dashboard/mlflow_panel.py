"""Where a search and its trials are in MLflow, on the search's page. Invisible where no browser could reach that."""

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import panel
from nas import wording
from nas.clock import utc_now
from nas.errors import StoreUnavailable
from nas.mlflow_links import SearchLinks
from nas.service import SearchService

POLL_SECONDS = 5.0


class MlflowPanel:
    """The panel of one visitor; it keeps itself up to date."""

    def __init__(self, service: SearchService, search_id: str) -> None:
        self._service = service
        self._id = search_id
        self._shown: object = None
        self._body = ui.column().classes("w-full")
        self._body.visible = False
        ui.timer(POLL_SECONDS, self._poll, immediate=True)

    async def _poll(self) -> None:
        try:
            links, late = await run_in_threadpool(self._read)
        except StoreUnavailable:
            return  # the page says so
        shown = links, late
        if shown != self._shown:
            self._shown = shown
            self._show(links, late)

    def _read(self) -> tuple[SearchLinks, str | None]:
        seconds = self._service.mlflow.behind_seconds(utc_now())
        return self._service.mlflow.of(self._id), wording.behind(seconds) if seconds is not None else None

    def _show(self, links: SearchLinks, late: str | None) -> None:
        self._body.clear()
        self._body.visible = links.search is not None or links.registered is not None or late is not None
        with self._body, panel("In MLflow"):
            if late is not None:
                ui.label(late).style("color: var(--warn)")
            if links.search is not None:
                ui.link("This search: its losses and parameters", links.search, new_tab=True)
            if links.registered is not None:
                words = f"The winner is registered as {wording.registered(links.registered)}"
                if links.registered.url is None:
                    ui.label(words)
                else:
                    ui.link(words, links.registered.url, new_tab=True)
            latest = {trial: link for (trial, _), link in sorted(links.attempts.items())}
            if latest:
                trials = ui.expansion(f"Trials: {len(latest)}").classes("w-full").props("dense")
                with trials, ui.row().classes("gap-3"):
                    for trial, link in latest.items():
                        ui.link(f"trial {trial}", link, new_tab=True)
