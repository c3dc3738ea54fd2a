"""A new search: its spec as text, what it would cost while it is written, and the button that starts it."""

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import AMBER, RED, banner, frame, panel
from nas.errors import InvalidSpec, StoreUnavailable
from nas.estimate import Estimate
from nas.estimate_rows import estimate_rows
from nas.service import SearchService
from nas.spec import parse_spec

QUIET_SECONDS = 0.4
"""How long nothing must be typed before the spec is read."""
STARTER = """\
name: tiny, to 60 percent
parent: builtin:tiny          # or a local Hugging Face directory
budget: {max_parameters: 640_000, min_parameters: 520_000}
axes:
  num_layers: [4, 5, 6]
  hidden_size: {start: 80, stop: 128, step: 8}
  intermediate_size: {start: 96, stop: 256, step: 16}
data:
  source: builtin:python-docs   # or a file, a directory or a pattern
  sequence_length: 128
  validation_tokens: 16_384
training:
  num_tokens: 98_304
  batch_tokens: 2_048
  peak_learning_rate: 2.0e-3
num_trials: 16
"""


async def build(service: SearchService, notice: str | None) -> None:
    """Make the page."""
    with frame(notice):
        ui.label("New search").classes("text-xl font-semibold")
        await _Form(service).check()


class _Form:
    """The form of one visitor."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        with ui.element("div").classes("charts"):
            with panel("Spec"):
                self._text = ui.codemirror(
                    STARTER, language="YAML", line_wrapping=True, on_change=self._typed
                ).classes("w-full")
                self._text.style("height: 460px; font-size: 13px")
                self._launch = ui.button("Launch", icon="rocket_launch", on_click=self._submit)
                self._launch.props("no-caps unelevated")
            with panel("What it would cost"):
                self._findings = ui.column().classes("w-full gap-2")
        self._quiet = ui.timer(QUIET_SECONDS, self.check, once=True, active=False)

    def _typed(self) -> None:
        """Read the spec once the typing pauses."""
        self._quiet.cancel()
        self._quiet = ui.timer(QUIET_SECONDS, self.check, once=True)

    async def check(self) -> None:
        """Show what the spec would cost, or what is wrong with it."""
        text = self._text.value
        try:
            found = await run_in_threadpool(lambda: self._service.plan(parse_spec(text)))
        except InvalidSpec as error:
            self._show_problems(error)
        except StoreUnavailable as error:
            self._show_trouble(error)
        else:
            if text == self._text.value:  # else a later check is under way
                self._show_estimate(found)

    async def _submit(self) -> None:
        try:
            search = await run_in_threadpool(lambda: self._service.create(parse_spec(self._text.value)))
        except InvalidSpec as error:
            self._show_problems(error)
        except StoreUnavailable as error:
            self._show_trouble(error)
        else:
            ui.navigate.to(f"/searches/{search.id}")

    def _show_estimate(self, found: Estimate) -> None:
        self._launch.enable()
        self._findings.clear()
        with self._findings, ui.element("div").classes("facts"):
            for what, how_much in estimate_rows(found):
                ui.label(what).classes("soft")
                ui.label(how_much)

    def _show_problems(self, error: InvalidSpec) -> None:
        self._launch.disable()
        self._findings.clear()
        with self._findings:
            for field, reason in error.problems:
                banner("error", field, reason, RED)

    def _show_trouble(self, error: StoreUnavailable) -> None:
        self._findings.clear()
        with self._findings:
            banner("cloud_off", "The database does not answer", str(error), AMBER)
