"""What people say of a search, on its page: shown, and edited where it stands."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from markdown_it import MarkdownIt
from nicegui import ui

from api.dashboard.theme import AMBER, RED, banner, panel
from api.dashboard.visitor import may_change
from nas.edits import MAX_NOTES_LENGTH, MAX_OWNER_LENGTH, Edit, said
from nas.errors import InvalidEdit, StaleVersion, StoreUnavailable
from nas.search import Search
from nas.service import SearchService

NOTHING = "Nobody has said anything of this search: whose it is, what it is about, what was learnt."


def words_in(text: str) -> tuple[str, ...]:
    """Return the tags in what was typed, with spaces or commas between them."""
    return tuple(filter(None, re.split(r"[\s,]+", text)))


def listed(**asked: Any) -> str:
    """Return the address of the list of what has this owner or this tag."""
    return f"/?{urlencode(asked)}"


def notes_html(notes: str) -> str:
    """Return notes as a page shows them: HTML in them is text, links lead where they say, nothing is loaded."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    return str(parser.render(notes))


class SaidPanel:
    """The panel of one visitor; ``show`` brings it up to date, and leaves alone what is being typed."""

    def __init__(self, service: SearchService, search: Search) -> None:
        self._service = service
        self._search = search
        self._shown: dict[str, Any] | None = None
        self._version = search.version
        with panel():
            with ui.row().classes("w-full items-center justify-between gap-2"):
                self._words = ui.row().classes("items-center gap-2")
                with ui.row().classes("gap-1") as buttons:
                    buttons.visible = may_change(search.workspace)
                    self._edit = ui.button("Edit", icon="edit", on_click=self._begin)
                    self._archive = ui.button(on_click=self._toggle_archived)
                    for button in (self._edit, self._archive):
                        button.props("flat dense no-caps")
            self._notes = ui.html("", sanitize=True).classes("notes")
            self._form = ui.column().classes("w-full gap-2")
        self._make_form()
        self._end()
        self.show(search)

    def _make_form(self) -> None:
        with self._form:
            self._problems = ui.column().classes("w-full gap-2")
            with ui.row().classes("w-full gap-3"):
                self._owner = ui.input("Owner").props(f"dense outlined maxlength={MAX_OWNER_LENGTH}")
                self._tags = ui.input("Tags, with spaces between them").props("dense outlined")
                self._tags.style("flex: 1; min-width: 220px")
                for field in (self._owner, self._tags):
                    field.on("keydown.enter", self._save)
            self._text = ui.textarea("Notes, in Markdown").classes("w-full")
            self._text.props(f"outlined autogrow maxlength={MAX_NOTES_LENGTH} debounce=200")
            self._form.on("keydown.escape", self._end)
            with ui.row().classes("gap-2"):
                ui.button("Save", on_click=self._save).props("no-caps unelevated")
                ui.button("Discard", on_click=self._end).props("no-caps flat")

    def show(self, search: Search) -> None:
        """Bring the panel up to date; what is the same stays, and with it where the keyboard is."""
        is_new = said(search) != self._shown
        self._search, self._shown = search, said(search)
        if is_new:
            self._redraw()

    def _redraw(self) -> None:
        search = self._search
        self._words.clear()
        with self._words:
            if search.owner:
                ui.link(search.owner, listed(owner=search.owner)).classes("quiet font-medium")
            for tag in search.tags:
                ui.link(tag, listed(tag=tag)).classes("tag")
            if search.archived:
                ui.label("Archived: left out of lists that do not ask for it").classes("soft")
            elif not (search.owner or search.tags or search.notes):
                ui.label(NOTHING).classes("soft")
        self._archive.text = "Unarchive" if search.archived else "Archive"
        self._archive.props(f"icon={'unarchive' if search.archived else 'archive'}")
        self._notes.content = notes_html(search.notes)
        self._notes.visible = bool(search.notes.strip())

    def _begin(self) -> None:
        """Edit what is said by now."""
        self._version = self._search.version
        self._owner.value, self._text.value = self._search.owner, self._search.notes
        self._tags.value = " ".join(self._search.tags)
        self._form.visible, self._edit.visible = True, False
        self._owner.run_method("focus")

    def _end(self) -> None:
        self._problems.clear()
        self._form.visible, self._edit.visible = False, True

    async def _save(self) -> None:
        self._problems.clear()
        try:
            edit = Edit(owner=self._owner.value, tags=words_in(self._tags.value), notes=self._text.value)
            search = await run_in_threadpool(
                self._service.edit, self._search.id, edit, versions={self._version}
            )
        except InvalidEdit as error:
            self._tell(error.problems, RED)
        except StaleVersion:
            await self._tell_stale()
        except StoreUnavailable as error:
            self._tell((("The database does not answer", f"{error}; save again later."),), AMBER)
        else:
            self._end()
            self.show(search)
            # Once it is there again: who works by keys goes on where the form was opened.
            ui.run_javascript(f"setTimeout(() => getHtmlElement({self._edit.id}).focus(), 100)")

    async def _tell_stale(self) -> None:
        """Show what others said meanwhile, and let the next save replace it."""
        search = await run_in_threadpool(self._service.search, self._search.id)
        self._version = search.version
        self.show(search)
        words = " ".join(search.tags) or "none"
        detail = (
            f"What is said by now stands above (owner: {search.owner or 'nobody'}, tags: {words}). "
            "What you typed is kept here; saving again puts it in the place of that."
        )
        self._tell((("Somebody else has edited this meanwhile", detail),), AMBER)

    async def _toggle_archived(self) -> None:
        edit = Edit(archived=not self._search.archived)
        try:
            search = await run_in_threadpool(self._service.edit, self._search.id, edit)
        except StoreUnavailable as error:
            ui.notify(str(error), type="warning")
            return
        # One's own click makes nothing stale that is being typed.
        if said(search) == {**said(self._search), "archived": edit.archived, "version": self._version + 1}:
            self._version = search.version
        self.show(search)

    def _tell(self, problems: Iterable[tuple[str, str]], colour: str) -> None:
        with self._problems:
            for title, detail in problems:
                banner("error", title, detail, colour)
