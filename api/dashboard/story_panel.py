"""What happened in a search, in words, the latest first; and the end of its worker's log where one asks for it."""

from collections.abc import Sequence
from html import escape

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import GREEN, RED, heading, panel
from nas.chronicle import Happening
from nas.errors import LogUnavailable, StoreUnavailable
from nas.service import SearchService

FEW = 8
"""Shown before one asks for more."""
LOG_LINES = 200
_COLOURS = {"good": GREEN, "bad": RED, "plain": "transparent"}


class StoryPanel:
    """The latest lines, more on demand; made anew when something has happened."""

    def __init__(self, search_id: str) -> None:
        self._shown: Sequence[Happening] | None = None
        self._is_long = False
        with panel("What happened"):
            self._text = ui.html("", sanitize=False).classes("w-full")
            with ui.row().classes("items-center gap-4"):
                self._more = ui.button("Show more", on_click=self._toggle).props("flat dense no-caps")
                ui.link("All events, as a stream", f"/api/v1/searches/{search_id}/events?after=0").classes(
                    "soft"
                )

    def show(self, happened: Sequence[Happening]) -> None:
        """Bring the panel up to date."""
        if happened != self._shown:
            self._shown = list(happened)
            self._draw()

    def _toggle(self) -> None:
        self._is_long = not self._is_long
        self._draw()

    def _draw(self) -> None:
        happened = self._shown or []
        self._more.visible = len(happened) > FEW
        self._more.text = "Show less" if self._is_long else f"Show the last {len(happened)}"
        self._text.content = story(happened if self._is_long else happened[:FEW])


def story(happened: Sequence[Happening]) -> str:
    """Return what happened as HTML; what strangers wrote in it is text."""
    lines = "".join(
        f'<div class="soft">{each.at:%d %b, %H:%M:%S}</div>'
        f'<div class="{each.tone}" style="--dot: {_COLOURS[each.tone]}">{escape(each.text[:1].upper() + each.text[1:])}</div>'
        for each in happened
    )
    return f'<div class="happened">{lines}</div>'


class LogPanel:
    """The end of the worker's log, read when one asks for it."""

    def __init__(self, service: SearchService, search_id: str) -> None:
        self._service = service
        self._id = search_id
        with panel():
            with ui.row().classes("w-full items-center justify-between"):
                heading("Log of the worker")
                self._button = ui.button("Show its end", on_click=self._read).props("flat dense no-caps")
            self._note = ui.label().classes("soft")
            self._text = ui.label().classes("trace mono w-full")
            self._note.visible = self._text.visible = False

    async def _read(self) -> None:
        self._note.visible = True
        try:
            tail = await run_in_threadpool(self._service.log, self._id, num_lines=LOG_LINES)
        except (LogUnavailable, StoreUnavailable) as error:
            self._note.text, self._text.visible = str(error), False
            return
        at = f", written until {tail.updated_at:%d %b, %H:%M:%S} UTC" if tail.updated_at else ""
        self._note.text = f"{'The whole log' if tail.is_whole else f'The last {len(tail.lines)} lines'}{at}"
        self._text.text, self._text.visible = "\n".join(tail.lines), True
        self._button.text = "Read again"
