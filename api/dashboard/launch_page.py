"""A new search: a form and its spec as text, in step; what it would cost while it is written; the button that starts it."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from starlette.datastructures import QueryParams

from api.dashboard import visitor
from api.dashboard.form_panel import FormPanel
from api.dashboard.plan_panel import PlanPanel
from api.dashboard.said_panel import words_in
from api.dashboard.spec_form import EVERY_FIELD, content_of, emptied, told_where
from api.dashboard.theme import AMBER, banner, frame, message, page_heading, panel
from nas.edits import MAX_OWNER_LENGTH, Edit
from nas.errors import InvalidEdit, InvalidSpec, NotFound, SearchError, StoreUnavailable
from nas.estimate import Estimate
from nas.search import Search
from nas.service import SearchService
from nas.spec import parse_spec
from nas.spec_text import brief_text, patched_text
from nas.storage.store import RequestKey
from nas.templates import templates

QUIET_SECONDS = 0.4
"""How long nothing must be typed before the spec is read."""


async def build(service: SearchService, notice: str | None, asked: QueryParams) -> None:
    """Make the page: with a template, by default the first, or the spec of the search that ``clone`` names."""
    source, problem = await _cloned(service, asked.get("clone"))
    with frame(notice):
        if not visitor.may_submit():
            message(
                "lock", "You may look, not launch", "An admin of your workspace makes viewers contributors."
            )
            return
        if problem:
            banner("error", "There is nothing to clone", problem, AMBER)
        await _Launch(service, source, template=asked.get("template")).check()


async def _cloned(service: SearchService, search_id: str | None) -> tuple[Search | None, str]:
    if not search_id:
        return None, ""
    try:
        return await run_in_threadpool(service.search, search_id.replace("\0", "")), ""
    except (NotFound, StoreUnavailable) as error:
        return None, str(error)


class _Launch:
    """The page of one visitor. The text is what counts: fields show it and change it."""

    def __init__(self, service: SearchService, source: Search | None, *, template: str | None) -> None:
        self._service = service
        self._source = source
        self._id = secrets.token_hex(16)
        self._is_submitting = False
        self._templates = {each.name: each for each in templates()}
        chosen = template if template in self._templates else next(iter(self._templates))
        text = brief_text(source.spec) if source else self._templates[chosen].text
        self._make_head(None if source else chosen)
        self._plan = PlanPanel()
        with ui.element("div").classes("charts"):
            self._form = FormPanel(self._field_changed)
            with panel("Spec: what counts, and may hold more than the form"):
                self._text = ui.codemirror(
                    text, language="YAML", theme="githubLight", line_wrapping=True, on_change=self._typed
                )
                self._text.classes("w-full grow").style("min-height: 460px; font-size: 13px")
                # It would indent: who works by keys could not leave it.
                self._text.on("keydown.tab.capture.stop", js_handler="() => {}")
                ui.context.client.on_connect(self._name_editor)
        self._make_foot()
        self._plan.make_details()
        self._quiet = ui.timer(QUIET_SECONDS, self.check, once=True, active=False)

    def _make_head(self, chosen: str | None) -> None:
        with ui.row().classes("w-full items-center justify-between gap-3"):
            with ui.row().classes("items-baseline gap-3"):
                page_heading("New search")
                if self._source:
                    ui.label("from the spec of").classes("soft")
                    name = self._source.spec.name or self._source.id
                    ui.link(name, f"/searches/{self._source.id}")
            titles = {name: each.title for name, each in self._templates.items()}
            begin = ui.select(titles, value=chosen, label="Begin with", on_change=self._begun_with)
            begin.props("dense outlined options-dense").style("min-width: min(420px, 100%)")

    def _make_foot(self) -> None:
        with panel(), ui.row().classes("w-full items-center gap-3"):
            self._owner = ui.input(
                "Owner", value=visitor.name() or (self._source.owner if self._source else "")
            )
            self._owner.props(f"dense outlined maxlength={MAX_OWNER_LENGTH}")
            tags = " ".join(self._source.tags) if self._source else ""
            self._tags = ui.input("Tags, with spaces between them", value=tags).props("dense outlined")
            self._tags.style("flex: 1; min-width: 220px")
            self._workspace = _workspace()
            self._launch = ui.button("Launch", icon="rocket_launch", on_click=self._submit)
            self._launch.props("no-caps unelevated")

    def _name_editor(self) -> None:
        ui.run_javascript(
            f"getElement({self._text.id}).editorPromise.then(() => getHtmlElement({self._text.id})"
            ".querySelector('.cm-content').setAttribute('aria-label', 'Spec'))"
        )

    def _begun_with(self, event: Any) -> None:
        if event.value in self._templates:
            self._text.value = self._templates[event.value].text

    def _typed(self) -> None:
        """Read the spec once the typing pauses."""
        self._quiet.cancel()
        self._quiet = ui.timer(QUIET_SECONDS, self.check, once=True)

    def _field_changed(self, patch: Mapping[str, Any]) -> None:
        """Bring the text in step with a field."""
        if "parent" in patch:  # what is known of the old one says nothing of the new
            patch = {"parent_config": None, **patch}
        try:
            patch = emptied(content_of(self._text.value), patch)
            text = patched_text(self._text.value, patch) if patch else self._text.value
        except InvalidSpec as error:
            self._plan.show_problems(error.problems)
            return
        if text != self._text.value:
            self._text.value = text
        self._typed()

    async def check(self) -> None:
        """Show what the spec would cost, or what is wrong with it, here and beside its fields."""
        text = self._text.value
        try:
            self._form.show(content_of(text))
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
            self._form.show_problems({})
            self._plan.show(found)
            self._launch.set_enabled(not self._form.is_wrong)

    async def _submit(self) -> None:
        if self._is_submitting:
            return
        self._is_submitting = True
        self._launch.disable()
        try:
            said = Edit(owner=self._owner.value, tags=words_in(self._tags.value))
            text, key, workspace = self._text.value, self._key(), self._workspace.value
            cloned_from = self._source.id if self._source else None
            search = await run_in_threadpool(
                lambda: self._service.create(
                    parse_spec(text), said=said, key=key, cloned_from=cloned_from, workspace=workspace
                )
            )
        except SearchError as error:
            self._show_error(error)
        else:
            ui.navigate.to(f"/searches/{search.id}")
        finally:
            self._is_submitting = False

    def _key(self) -> RequestKey:
        """Return a key of this form with what stands in it: sent again, it is the same search."""
        whole = json.dumps([self._text.value, self._owner.value, self._tags.value, self._workspace.value])
        digest = hashlib.sha256(whole.encode()).hexdigest()
        return RequestKey(key=f"form {self._id} {digest[:32]}", fingerprint=digest)

    def _show_error(self, error: SearchError) -> None:
        """Show what is wrong; what may pass by itself can be tried again."""
        self._launch.set_enabled(not isinstance(error, InvalidSpec))
        if not isinstance(error, InvalidSpec | InvalidEdit):
            self._form.show_problems({})
            self._plan.show_obstacle(str(error))
            return
        self._form.show_problems(told_where(EVERY_FIELD, error.problems))
        self._plan.show_problems(error.problems)


def _workspace() -> ui.select:
    """Return the choice of whose members shall see the search; hidden where there is none."""
    own = visitor.own_workspaces()
    chosen = ui.select(list(own), label="Workspace", value=own[0] if own else None).props("dense outlined")
    chosen.visible = len(own) > 1
    return chosen
