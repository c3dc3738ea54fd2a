"""The first page: all searches at a glance, live, or those with an owner, tags or words."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi.concurrency import run_in_threadpool
from nicegui import ui
from starlette.datastructures import QueryParams

from api.dashboard import visitor
from api.dashboard.said_panel import listed, words_in
from api.dashboard.theme import STATE_COLOURS, frame, message, state_words
from nas import wording
from nas.clock import utc_now
from nas.edits import MAX_TAGS
from nas.errors import StoreUnavailable
from nas.leaderboard import num_planned
from nas.listing import SearchFilter
from nas.search import SearchState
from nas.service import SearchService
from nas.standing import SearchView

POLL_SECONDS = 2.0
MAX_SHOWN = 200
ROWS_PER_PAGE = 25
EVENTS_PER_POLL = 1000
ACTIVE = tuple(state for state in SearchState if not state.is_final)
MAX_ASKED = 200

COLUMNS = [
    {"name": "search", "label": "Search", "field": "name", "align": "left"},
    {"name": "state", "label": "State", "field": "state", "align": "left"},
    {"name": "parent", "label": "Parent", "field": "parent", "align": "left"},
    {"name": "best", "label": "Best loss", "field": "best", "align": "right"},
    {"name": "parent_loss", "label": "Parent's loss", "field": "parent_loss", "align": "right"},
    {"name": "owner", "label": "Owner", "field": "owner", "align": "left"},
    {"name": "trials", "label": "Trials", "field": "trials", "align": "left"},
    {"name": "created", "label": "Created", "field": "created", "align": "right"},
]
CELLS = {
    "search": '<a class="quiet font-medium text-primary" :href="`/searches/${props.row.id}`">'
    '{{ props.row.name }}</a><div class="soft mono">{{ props.row.id }}</div>'
    '<a v-for="tag in props.row.tags" class="tag" :href="tag.href">{{ tag.name }}</a>',
    "state": '<span class="chip" :class="{live: props.row.live}" :style="`color: ${props.row.colour}`">'
    '{{ props.row.state }}</span><div v-if="props.row.archived" class="soft">archived</div>',
    "owner": '<a class="quiet" :href="props.row.owner_href">{{ props.row.owner }}</a>',
    "parent": '<div>{{ props.row.parent }}</div><div class="soft">{{ props.row.budget }}</div>',
    "trials": '<div style="min-width: 120px">{{ props.row.trials }}'
    '<q-linear-progress v-if="props.row.share !== null" :value="props.row.share" size="4px" rounded '
    ':style="`color: ${props.row.colour}`" class="q-mt-xs" /></div>',
}
HOW_TO_SUBMIT = """nas submit search.yaml

curl -X POST {origin}/api/v1/searches \\
     -H 'Content-Type: application/yaml' --data-binary @search.yaml"""


async def build(service: SearchService, notice: str | None, asked: QueryParams) -> None:
    """Make the page of the searches that its address asks for."""
    with frame(notice):
        with ui.row().classes("w-full items-center justify-between gap-3"):
            ui.label("Searches").classes("text-xl font-semibold")
            asking = ui.row().classes("items-center gap-3").props("role=search")
        body = ui.column().classes("w-full")
        await _List(service, asking, body, asked).show()


class _List:
    """The table of one visitor, or what stands in its place."""

    def __init__(self, service: SearchService, asking: ui.row, body: ui.column, asked: QueryParams) -> None:
        self._service = service
        self._body = body
        self._table: ui.table | None = None
        self._active: list[SearchView] = []
        self._cursor: int | None = None
        with asking:
            self._text = self._field("Name or notes", asked.get("text", ""))
            self._owner = self._field("Owner", asked.get("owner", ""))
            self._tags = self._field("Tags", " ".join(asked.getlist("tag")))
            self._archived = ui.switch(
                "Archived too", value=asked.get("archived") == "any", on_change=self._ask
            )
        self._timer = ui.timer(POLL_SECONDS, self._poll)

    def _field(self, label: str, value: str) -> ui.input:
        field = ui.input(label, value=value, on_change=self._ask)
        return field.props("dense outlined clearable debounce=300 maxlength=200").style("width: 180px")

    def _which(self) -> SearchFilter:
        """Return which searches are asked for; NUL is no part of any text."""
        text, owner, tags = (
            (field.value or "").replace("\0", "") for field in (self._text, self._owner, self._tags)
        )
        return SearchFilter(
            text=text[:MAX_ASKED] or None,
            owner=owner.strip() or None,
            tags=words_in(tags)[:MAX_TAGS] or None,
            archived=None if self._archived.value else False,
        )

    async def _ask(self) -> None:
        """Show what is asked for by now, under an address that can be passed on."""
        which = self._which()
        asked = {
            "text": which.text, "owner": which.owner, "tag": which.tags, "archived": "any" if which.archived is None else None,
        }  # fmt: skip
        query = urlencode({name: value for name, value in asked.items() if value}, doseq=True)
        ui.navigate.history.replace(f"/?{query}" if query else "/")
        self._replace()
        await self.show()

    async def show(self) -> None:
        """Read all searches and show them."""
        try:
            which = self._which()
            views = await run_in_threadpool(self._service.list_views, which, limit=MAX_SHOWN)
            others = [] if views else await run_in_threadpool(self._service.list_views, limit=1)
        except StoreUnavailable as error:
            self._replace()
            with self._body:
                message("cloud_off", "The database does not answer", f"{error}; this page tries again.")
            return
        if which != self._which():
            return  # a later question is under way
        self._active = [view for view in views if not view.search.state.is_final]
        rows = [_row(view) for view in views]
        self._owner.set_autocomplete(sorted({row["owner"] for row in rows if row["owner"]}))
        if not rows and others:
            self._show_none()
        elif not rows:
            self._show_empty()
        elif self._table:
            self._table.rows = rows
        else:
            self._show_table(rows)

    async def _poll(self) -> None:
        """Read again what can change, and everything only when something did."""
        try:
            which = replace(self._which(), states=ACTIVE)
            active = await run_in_threadpool(self._service.list_views, which, limit=MAX_SHOWN)
            is_edited = await run_in_threadpool(self._is_edited)
        except StoreUnavailable:
            active, is_edited = [], False
        if active != self._active or is_edited or not self._table:
            await self.show()

    def _is_edited(self) -> bool:
        """Return whether people have edited a search since this was asked last."""
        if self._cursor is None:
            self._cursor = self._service.event_cursor(None, "after")
            return False
        events = self._service.events(after=self._cursor, limit=EVENTS_PER_POLL)
        self._cursor = events[-1].sequence if events else self._cursor
        return any(event.kind == "edit" for event in events)

    def _replace(self) -> None:
        self._body.clear()
        self._table = None

    def _show_none(self) -> None:
        self._replace()
        hint = "Ask for less." if self._archived.value else "Ask for less, or for archived ones too."
        with self._body:
            message("search_off", "No such searches", hint)

    def _show_empty(self) -> None:
        self._replace()
        request = ui.context.client.request
        with self._body, message("travel_explore", "No searches yet", "Launch one here, or from a terminal:"):
            if visitor.may_submit():
                ui.button("New search", on_click=lambda: ui.navigate.to("/launch")).props(
                    "no-caps unelevated"
                )
            how = HOW_TO_SUBMIT.format(origin=str(request.base_url).rstrip("/"))
            ui.code(how, language="sh").classes("text-left").style("max-width: 640px")

    def _show_table(self, rows: Sequence[dict[str, Any]]) -> None:
        self._replace()
        with self._body, ui.column().classes("panel").style("padding: 4px 6px"):
            self._table = ui.table(columns=COLUMNS, rows=list(rows), row_key="id", pagination=ROWS_PER_PAGE)
            self._table.classes("w-full").props("flat")
            if len(rows) <= ROWS_PER_PAGE:
                self._table.props("hide-pagination")
            for name, cell in CELLS.items():
                self._table.add_slot(f"body-cell-{name}", f'<q-td :props="props">{cell}</q-td>')


def _row(view: SearchView) -> dict[str, Any]:
    search = view.search
    done = sum(number for state, number in view.counts.items() if state.is_final)
    is_final = search.state.is_final
    return {
        "id": search.id,
        "name": search.spec.name or f"Search of {wording.parent(search.spec.parent)}",
        "state": state_words(search),
        "colour": STATE_COLOURS[search.state],
        "live": not is_final and search.state is not SearchState.QUEUED,
        "archived": search.archived,
        "owner": search.owner,
        "owner_href": listed(owner=search.owner),
        "tags": [{"name": tag, "href": listed(tag=tag)} for tag in search.tags],
        "parent": wording.parent(search.spec.parent),
        "budget": wording.budget(search.spec.budget),
        "best": wording.loss(view.best_loss),
        "parent_loss": wording.loss(search.parent_loss),
        "trials": f"{done} done" if is_final else f"{done} of about {num_planned(search)}",
        "share": None if is_final else view.tokens_done / max(1, view.tokens_total),
        "created": wording.ago(search.created_at, utc_now()),
    }
