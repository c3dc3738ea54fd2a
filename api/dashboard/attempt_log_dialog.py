"""What an attempt of a trial logged and printed, in a dialog over the page, read when one asks for it."""

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from nas.errors import LogUnavailable, NotFound, StoreUnavailable
from nas.log_ranges import DEFAULT_BYTES, LogRange
from nas.service import SearchService
from nas.trial import Attempt


class AttemptLogDialog:
    """One dialog for all attempts of a page; it stays as it is while the page below changes."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        self._attempt: Attempt | None = None
        with ui.dialog() as self._dialog, ui.card().classes("w-full").style("max-width: 960px"):
            self._title = ui.label().classes("text-lg font-semibold")
            self._note = ui.label().classes("soft")
            self._text = ui.label().classes("trace mono w-full")
            with ui.row().classes("w-full justify-end"):
                ui.button("Read again", on_click=self._read).props("flat no-caps")
                ui.button("Close", on_click=self._dialog.close).props("flat no-caps")

    async def open(self, attempt: Attempt) -> None:
        """Show the end of an attempt's log."""
        self._attempt = attempt
        self._title.text = f"Trial {attempt.trial_number}, attempt {attempt.number}: log"
        self._note.text, self._text.text = "", ""
        self._dialog.open()
        await self._read()

    async def _read(self) -> None:
        assert self._attempt is not None
        try:
            found = await run_in_threadpool(self._end_of, self._attempt)
        except (LogUnavailable, NotFound, StoreUnavailable) as error:
            self._note.text, self._text.visible = str(error), False
            return
        skipped = f"the last {len(found.text.encode()):,} of {found.total_bytes:,} bytes"
        self._note.text = skipped if found.offset else f"the whole log, {found.total_bytes:,} bytes"
        self._text.text, self._text.visible = found.text, bool(found.text)

    def _end_of(self, attempt: Attempt) -> LogRange:
        read, place = (
            self._service.log_ranges.of_attempt,
            (attempt.search_id, attempt.trial_number, attempt.number),
        )
        found = read(*place, offset=0, limit=DEFAULT_BYTES)
        if found.next_offset < found.total_bytes:
            return read(*place, offset=found.total_bytes - DEFAULT_BYTES, limit=DEFAULT_BYTES)
        return found
