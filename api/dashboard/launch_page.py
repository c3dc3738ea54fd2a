"""A new search: its spec as text, what it would cost while it is written, and the button that starts it."""

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard import visitor
from api.dashboard.said_panel import words_in
from api.dashboard.theme import AMBER, RED, banner, frame, message, panel
from nas.edits import Edit
from nas.errors import InvalidEdit, InvalidSpec, SearchError
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
        if not visitor.may_submit():
            message(
                "lock", "You may look, not launch", "An admin of your workspace makes viewers contributors."
            )
            return
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
                with ui.row().classes("w-full gap-3"):
                    self._owner = ui.input("Owner", value=visitor.name()).props("dense outlined")
                    self._tags = ui.input("Tags, with spaces between them").props("dense outlined")
                    self._tags.style("flex: 1; min-width: 220px")
                self._workspace = _workspace()
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
            found: Estimate | SearchError = await run_in_threadpool(
                lambda: self._service.plan(parse_spec(text))
            )
        except SearchError as error:
            found = error
        if text != self._text.value:
            return  # a later check is under way
        if isinstance(found, SearchError):
            self._show_error(found)
        else:
            self._show_estimate(found)

    async def _submit(self) -> None:
        self._launch.disable()  # once is enough
        try:
            said = Edit(owner=self._owner.value, tags=words_in(self._tags.value))
            search = await run_in_threadpool(
                lambda: self._service.create(
                    parse_spec(self._text.value), said=said, workspace=self._workspace.value
                )
            )
        except SearchError as error:
            self._show_error(error)
        else:
            ui.navigate.to(f"/searches/{search.id}")

    def _show_error(self, error: SearchError) -> None:
        """Show what is wrong; what may pass by itself can be tried again."""
        self._launch.set_enabled(not isinstance(error, InvalidSpec))
        self._findings.clear()
        with self._findings:
            if isinstance(error, InvalidSpec | InvalidEdit):
                for field, reason in error.problems:
                    banner("error", field, reason, RED)
            else:
                banner("cloud_off", "Not now", str(error), AMBER)

    def _show_estimate(self, found: Estimate) -> None:
        self._launch.enable()
        self._findings.clear()
        with self._findings, ui.element("div").classes("facts"):
            for what, how_much in estimate_rows(found):
                ui.label(what).classes("soft")
                ui.label(how_much)


def _workspace() -> ui.select:
    """Return the choice of whose members shall see the search; hidden where there is none."""
    own = visitor.own_workspaces()
    chosen = ui.select(list(own), label="Workspace", value=own[0] if own else None).props("dense outlined")
    chosen.visible = len(own) > 1
    return chosen
