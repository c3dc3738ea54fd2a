"""How every page looks: frame, colours and the small parts that pages share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from api.dashboard import visitor
from nas.search import Search, SearchState
from nas.trial import Failure, TrialRole, TrialState

FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" '
    'fill="#3b5bdb"/><g fill="#fff"><circle cx="7" cy="9" r="2"/><circle cx="12" cy="17" r="2"/>'
    '<circle cx="18" cy="21" r="2"/><circle cx="25" cy="23" r="3" fill="#63e6be"/></g></svg>'
)

BLUE, GREEN, AMBER, PINK, RED, GREY = "#4c6ef5", "#12b886", "#f08c00", "#e64980", "#e03131", "#868e96"
"""Readable on the light and on the dark page. Blue competes, green leads, amber and pink are baselines."""

STATE_COLOURS = {
    SearchState.QUEUED: GREY,
    SearchState.PAUSED: AMBER,
    SearchState.PREPARING: BLUE,
    SearchState.RUNNING: BLUE,
    SearchState.COMPLETING: BLUE,
    SearchState.SUCCEEDED: GREEN,
    SearchState.FAILED: RED,
    SearchState.CANCELLED: AMBER,
    TrialState.PROPOSED: GREY,
    TrialState.WAITING: GREY,
    TrialState.COMPLETED: GREEN,
    TrialState.STOPPED: GREY,
}
"""The colours of states; trials share those of searches with the same name."""

ROLE_COLOURS = {
    TrialRole.SEARCH: BLUE,
    TrialRole.RANDOM_ARCHITECTURE: AMBER,
    TrialRole.RANDOM_INDICES: PINK,
    TrialRole.PROMOTION: GREEN,
}

CSS = """
:root { --line: rgba(120, 130, 145, .25); --soft: #5c6773; --card: #fff; --page: #f5f6f8; --link: #3b5bdb; --bad: #c92a2a;
  --warn: #a85b00; }
body.body--dark { --soft: #a3adb8; --card: #1d2127; --page: #14171b; --link: #8da2fb; --bad: #ff8787; --warn: #ffa94d; }
body.body--dark { --q-primary: #8da2fb !important; --q-negative: #ff8787 !important; }
@layer overrides {
  body.body--dark .q-btn:is(.bg-primary, .bg-negative) { color: #14171b !important; }
  .q-btn.disabled { opacity: .75 !important; }
}
body, body.body--dark { background: var(--page); }
.nicegui-content { padding: 0; }
.page { max-width: 1240px; width: 100%; margin: 0 auto; padding: 20px 24px 56px; gap: 16px; }
.bar { background: var(--card); border-bottom: 1px solid var(--line); color: inherit; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  gap: 8px; width: 100%; min-width: 0; }
.heading { font-size: 13px; font-weight: 600; letter-spacing: .01em; }
.soft { color: var(--soft); font-size: 13px; }
.number { font-size: 24px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; }
.mono, .q-table .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12.5px; }
.chip { display: inline-flex; align-items: center; gap: 6px; font-size: 12px; font-weight: 600;
  white-space: nowrap; }
.chip::before { content: ""; width: 8px; height: 8px; border-radius: 50%; background: var(--dot, currentColor);
  flex: none; }
.chip.live::before { animation: pulse 1.6s ease-in-out infinite; }
@keyframes pulse { 50% { opacity: .25; } }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; width: 100%; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 12px; width: 100%; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; align-items: baseline;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.beside { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; font-variant-numeric: tabular-nums;
  background: linear-gradient(90deg, var(--card) 40%, transparent) 0 / 40px 100% no-repeat local,
    linear-gradient(270deg, var(--card) 40%, transparent) 100% / 40px 100% no-repeat local,
    linear-gradient(90deg, var(--line), transparent) 0 / 14px 100% no-repeat scroll,
    linear-gradient(270deg, var(--line), transparent) 100% / 14px 100% no-repeat scroll; }
.beside :is(th, td) { text-align: left; padding: 5px 18px 5px 0; vertical-align: top; border-bottom: 1px solid var(--line); }
.beside tr > :first-child { white-space: nowrap; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 12px 32px; width: 100%;
  align-items: start; }
.shape { display: grid; grid-template-columns: max-content minmax(80px, 1fr) minmax(0, max-content); gap: 8px 14px;
  align-items: center; width: 100%; font-variant-numeric: tabular-nums; }
.shape-name { font-size: 13px; } .shape-words { font-size: 13px; overflow-wrap: anywhere; }
.shape-bar { height: 14px; border-radius: 4px; background: rgba(120, 130, 145, .18); overflow: hidden; }
.shape-bar i { display: block; height: 100%; background: #4c6ef5; }
.shape-cells { display: flex; gap: 2px; height: 20px; }
.shape-cells i { flex: 1 1 0; min-width: 0; border-radius: 3px; background: #4c6ef5; }
.shape-cells i.dropped { background: transparent; border: 1px dashed rgba(120, 130, 145, .8); }
.heat { border-collapse: separate; border-spacing: 3px; font-variant-numeric: tabular-nums; }
.heat th { font-size: 12px; font-weight: 600; padding: 2px 8px; text-align: right; white-space: nowrap; }
.heat td { text-align: center; padding: 4px 10px; border-radius: 6px; line-height: 1.3; min-width: 64px; }
.heat td .soft { font-size: 11px; color: inherit; }
.q-table tbody tr.chosen td { box-shadow: inset 0 1px 0 #4c6ef5, inset 0 -1px 0 #4c6ef5; }
.sort { background: none; border: 0; font: inherit; color: inherit; cursor: pointer; padding: 0; }
.sort:focus-visible { outline: 2px solid var(--link); border-radius: 4px; }
.number-button { background: none; border: 0; font: inherit; color: var(--link); font-weight: 600; cursor: pointer; padding: 0 4px; }
.number-button:focus-visible { outline: 2px solid var(--link); border-radius: 4px; }
.failure .q-item { padding: 2px 0; min-height: 28px; }
.fresh.stale { color: var(--bad); font-weight: 600; }
.stale:not(.fresh) { opacity: .45; }
body:has(.fresh.stale) .numbers, body:has(#popup[aria-hidden="false"]) .numbers { opacity: .5; }
body:has(#popup[aria-hidden="false"]) .fresh::after { content: ". Connection lost: nothing newer is known."; color: var(--bad); }
body.body--dark .cm-editor { filter: invert(.89) hue-rotate(180deg); }
.fields { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(220px, 100%), 1fr)); gap: 10px 12px; width: 100%;
  margin-bottom: 6px; }
.happened :is(.good, .bad)::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%;
  margin-right: 6px; background: var(--dot); }
.happened { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 13px;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.trace { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 360px; overflow: auto; margin: 0;
  padding: 10px 12px; border-radius: 8px; background: rgba(120, 130, 145, .12); }
.q-table__card, .q-table--dark { background: transparent !important; box-shadow: none; }
.q-table th { font-size: 12px; color: var(--soft); font-weight: 600; }
.q-table td { font-variant-numeric: tabular-nums; }
.q-table tbody tr.first td { background: rgba(18, 184, 134, .10); }
.nicegui-code { background: rgba(120, 130, 145, .12); border-radius: 8px; width: 100%; }
.nicegui-code .codehilite { background: none; }
.tag { display: inline-block; font-size: 12px; line-height: 18px; padding: 0 8px; margin: 2px 4px 0 0; border-radius: 9px;
  background: rgba(76, 110, 245, .14); color: inherit; text-decoration: none; }
.tag:hover, .tag:focus-visible { background: rgba(76, 110, 245, .30); }
:where(.nicegui-link) { color: var(--link); }
a:focus-visible, .q-btn:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
.notes { width: 100%; overflow-wrap: anywhere; overflow-x: auto; }
.notes :is(h1, h2, h3, h4, h5, h6) { font-size: 15px; font-weight: 600; line-height: 1.4; margin: 10px 0 4px; }
.notes :is(p, ul, ol, pre, blockquote, table) { margin: 4px 0 8px; }
.notes :is(ul, ol) { padding-left: 22px; } .notes ul { list-style: disc; } .notes ol { list-style: decimal; }
.notes :is(th, td) { border: 1px solid var(--line); padding: 2px 8px; }
.notes code { font-size: 12.5px; background: rgba(120, 130, 145, .16); border-radius: 4px; padding: 1px 4px; }
.notes pre { background: rgba(120, 130, 145, .12); border-radius: 8px; padding: 8px 10px; overflow-x: auto; }
.notes pre code { background: none; padding: 0; }
.notes a { color: var(--link); text-decoration: underline; }
.notes blockquote { border-left: 3px solid var(--line); padding-left: 10px; color: var(--soft); }
a.quiet { color: inherit; text-decoration: none; } a.quiet:hover { text-decoration: underline; }
.sign-out { background: none; border: 0; padding: 0; font: inherit; font-size: 13px; cursor: pointer; }
.sign-out:hover { text-decoration: underline; }
.kept th:first-child, .kept td:first-child { position: sticky; left: 0; z-index: 1; background: var(--card); }
.kept tbody tr.first td:first-child { background: linear-gradient(rgba(18, 184, 134, .10), rgba(18, 184, 134, .10)), var(--card); }
.versus { display: grid; grid-template-columns: repeat(3, max-content) minmax(140px, 1fr); gap: 4px 20px; width: 100%;
  align-items: baseline; font-variant-numeric: tabular-nums; }
@media (max-width: 520px) {
  .page { padding: 12px; } .charts { grid-template-columns: 1fr; }
  .versus { grid-template-columns: 1fr max-content max-content; }
  .versus .note { grid-column: 1 / -1; } .versus .note:empty { display: none; }
}
"""


@contextmanager
def frame(notice: str | None) -> Iterator[None]:
    """Lay out a page: the bar on top, a notice if there is one, and what is made inside."""
    ui.colors(primary="#3b5bdb", positive=GREEN, negative="#c92a2a", warning=AMBER)
    ui.add_css(CSS)
    with ui.header(elevated=False).classes("bar items-center justify-between px-6 py-3"):
        with ui.link(target="/").classes("quiet flex items-center gap-3"):
            ui.html(FAVICON, sanitize=False).style("width: 22px; height: 22px; line-height: 0")
            ui.label("Minitron search").classes("font-semibold")
        with ui.row().classes("items-center gap-6"):
            if visitor.may_submit():
                ui.link("New search", "/launch").classes("quiet")
            ui.link("History", "/history").classes("quiet")
            ui.link("Compare", "/compare").classes("quiet")
            ui.link("API", "/docs").classes("quiet soft")
            visitor.show_name()
    with ui.column().classes("page"):
        if notice:
            banner("warning", "Searches are not run here", notice, AMBER)
        yield


def panel(title: str | None = None) -> ui.column:
    """Return a bordered box, with a heading if it has a title."""
    box = ui.column().classes("panel")
    if title:
        with box:
            heading(title)
    return box


def page_heading(text: str) -> ui.label:
    """Return what a page is called, once on each."""
    return ui.label(text).classes("text-xl font-semibold").props("role=heading aria-level=1")


def heading(text: str, level: int = 2) -> ui.label:
    """Return what stands over a part of a page."""
    return ui.label(text).classes("heading").props(f"role=heading aria-level={level}")


def banner(icon: str, title: str, detail: str, colour: str) -> ui.column:
    """Return a box that cannot be overlooked."""
    box = panel().style(f"border-left: 4px solid {colour}")
    with box:
        with ui.row().classes("items-center gap-2 no-wrap"):
            ui.icon(icon, size="20px").style(f"color: {colour}")
            ui.label(title).classes("font-semibold")
        ui.label(detail).classes("soft").style("overflow-wrap: anywhere")
    return box


def picture(options: dict[str, Any], what: str, **changes: Any) -> ui.echart:
    """Return a chart with what it shows in words, for those who do not see it.

    Drawn on a canvas: as SVG, which a style sheet could colour, two of four first loads of a page left it a fifth as wide.
    """
    return ui.echart(options, **changes).props(f'role=img aria-label="{what}"')


def code(text: str, language: str) -> ui.code:
    """Return text to be copied."""
    block = ui.code(text, language=language)
    block.copy_button.props('aria-label="Copy"')
    return block


def draw(chart: ui.echart, options: dict[str, Any]) -> None:
    """Send a chart to the browser if it is another one."""
    if any(chart.options.get(name) != option for name, option in options.items()):
        chart.options.update(options)
        chart.update()


def fact(what: str, how_much: str) -> None:
    """Make one row of a grid of facts."""
    ui.label(what).classes("soft")
    ui.label(how_much)


def failure_details(failure: Failure) -> None:
    """Make what engineers want to know of a failure: its traceback, and the end of the log."""
    for title, text in (
        ("Traceback of the worker", failure.traceback),
        ("End of the worker's log", failure.log_tail),
    ):
        if text:
            ui.label(title).classes("soft")
            ui.label(text).classes("trace mono w-full")


def message(icon: str, title: str, detail: str) -> ui.column:
    """Return what stands where there is nothing else to show."""
    box = panel().classes("items-center text-center").style("padding: 56px 24px")
    with box:
        ui.icon(icon, size="44px").classes("soft").style("font-size: 44px")
        ui.label(title).classes("text-lg font-semibold")
        ui.label(detail).classes("soft")
    return box


def nowhere(title: str, detail: str) -> None:
    """Show that an address leads nowhere, and where to go on."""
    ui.context.client.status_code = 404
    with message("travel_explore", title, detail):
        ui.button("All searches", on_click=lambda: ui.navigate.to("/")).props("flat no-caps")


def state_words(search: Search) -> str:
    """Return a search's state as people say it."""
    if search.cancel_requested and not search.state.is_final:
        return "Cancelling"
    if search.orders.is_paused and search.state is not SearchState.PAUSED and not search.state.is_final:
        return "Pausing"
    return search.state.value.capitalize()


def state_chip(search: Search) -> ui.label:
    """Return a search's state as a coloured word; the dot pulses while work is done."""
    chip = ui.label().classes("chip")
    show_state(chip, search)
    return chip


def show_state(chip: ui.label, search: Search) -> None:
    """Bring a state chip up to date."""
    chip.text = state_words(search)
    chip.style(f"--dot: {STATE_COLOURS[search.state]}")
    is_live = search.state in {SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING}
    chip.classes(add="live" if is_live else "", remove="" if is_live else "live")
