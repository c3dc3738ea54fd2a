"""What people do with a search under way, on its page: pause, resume, extend, try an architecture, stop a trial, kill."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from fastapi.concurrency import run_in_threadpool
from nicegui import ui

from api.dashboard.theme import AMBER, RED, banner, panel
from api.dashboard.visitor import may_change
from nas import wording
from nas.axes import AXIS_NAMES
from nas.control import parse_limits, parse_sizes
from nas.errors import Conflict, InvalidOrder, NotFound, StoreUnavailable
from nas.orders import EXTENDABLE, Enqueued
from nas.search import Search
from nas.service import SearchService
from nas.space import search_space
from nas.standing import SearchView
from nas.trial import TrialState

Act = Callable[[], Any]
"""What is done once it is confirmed; called in a thread."""
UNDER_WAY = {state for state in TrialState if not state.is_final}
LABELS = {
    "num_trials": "Architectures to try in all",
    "max_tokens": "Training tokens in all",
    "max_parallel": "Trials at a time",
    **{name: f"{words[:1].upper()}{words[1:]}" for name, words in wording.AXES.items()},
}


class ControlPanel:
    """The panel of one visitor; ``show`` brings it up to date.

    Args:
        service: Obeys.
        view: Of the search.
        changed: Called after each order, to show what came of it.
    """

    def __init__(
        self, service: SearchService, view: SearchView, changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._service = service
        self._control = service.control
        self._search = view.search
        self._changed = changed
        self._shown: tuple[str, ...] | None = None
        with panel() as self._box:
            with ui.row().classes("w-full items-center gap-2"):
                self._waiting = (
                    ui.row().classes("items-center gap-2 no-wrap").style("flex: 1; min-width: 240px")
                )
                with self._waiting:
                    ui.icon("hourglass_top", size="18px").classes("soft")
                    self._why = ui.label().style("overflow-wrap: anywhere")
                with ui.row().classes("gap-1 ml-auto") as self._buttons:
                    self._pause = _button("Pause", "pause", self._ask_to_pause)
                    self._resume = _button("Resume", "play_arrow", self._do_resume)
                    self._extend = _button("Change limits", "tune", self._ask_for_limits)
                    self._enqueue = _button("Try an architecture", "playlist_add", self._ask_for_sizes)
                    self._stop = _button("Stop a trial", "block", self._ask_for_trial)
                    self._kill = _button("Kill", "dangerous", self._ask_to_kill).props("color=negative")
            self._orders = ui.column().classes("w-full gap-0 soft")
        self.show(view)

    def show(self, view: SearchView) -> None:
        """Bring the panel up to date; what is the same stays, and with it where the keyboard is."""
        search = self._search = view.search
        self._box.visible = not search.state.is_final
        self._buttons.visible = may_change(search.workspace)
        self._why.text = _capital(view.waiting.text) if view.waiting else ""
        self._waiting.visible = view.waiting is not None
        is_paused = search.orders.is_paused
        self._pause.visible, self._resume.visible = not is_paused, is_paused
        self._stop.visible = bool(UNDER_WAY & view.counts.keys())
        for button in (self._pause, self._resume, self._extend, self._enqueue, self._stop):
            button.enabled = not search.cancel_requested
        lines = tuple(_lines(search, self._pending(search)))
        if lines != self._shown:
            self._shown = lines
            self._orders.clear()
            self._orders.visible = bool(lines)
            with self._orders:
                for line in lines:
                    ui.label(line)

    def _pending(self, search: Search) -> list[Enqueued]:
        if not search.orders.enqueued:
            return []
        tried = {record.trial.architecture for record in self._service.trials(search.id)}
        return [each for each in search.orders.enqueued if each.architecture not in tried]

    async def _ask_to_pause(self) -> None:
        await self._confirm(
            "Pause this search?",
            "What runs stops within seconds and gives back what it uses. Nothing is lost: once resumed, the search "
            "goes on from its last checkpoints to the same results.",
            "Pause",
            lambda: self._control.pause(self._search.id),
        )

    async def _do_resume(self) -> None:
        try:
            await run_in_threadpool(self._control.resume, self._search.id)
        except (Conflict, StoreUnavailable) as error:
            ui.notify(str(error), type="warning")
        await self._changed()

    async def _ask_to_kill(self) -> None:
        await self._confirm(
            "Kill this search?",
            "It is over at once, whatever its workers do; use it when they hang. What was measured is kept, there will "
            "be no winner, and it cannot be taken up again. To end it in order, cancel it.",
            "Kill",
            lambda: self._control.kill(self._search.id),
            is_dangerous=True,
        )

    async def _ask_for_limits(self) -> None:
        now = self._search.spec_by_now
        with Form(
            "Change limits",
            "The spec stays as it was asked; what is changed stands beside it. How long trials train cannot be changed: "
            "clone the search for that.",
        ) as form:
            trials = form.number(LABELS["num_trials"], now.num_trials)
            tokens = form.number(LABELS["max_tokens"], now.max_tokens)
            parallel = form.number(LABELS["max_parallel"], now.max_parallel)

        def act() -> None:
            given = {"num_trials": trials.value, "max_parallel": parallel.value}
            if tokens.value is not None or now.max_tokens is not None:  # none may stay none
                given["max_tokens"] = tokens.value
            self._control.extend(self._search.id, parse_limits(given))

        await self._run(form, "Change", act)

    async def _ask_for_sizes(self) -> None:
        space = await run_in_threadpool(search_space, self._search.spec)
        with Form(
            "Try an architecture",
            "It is tried before the next proposal, in its place; after the last proposal it is one more.",
        ) as form:
            choices = {name: space.choices(name) for name in AXIS_NAMES}
            fields = {
                name: ui.select(list(sizes), label=LABELS[name]).props("outlined dense").classes("w-full")
                for name, sizes in choices.items()
                if len(sizes) > 1
            }

        def act() -> None:
            sizes = {name: field.value for name, field in fields.items() if field.value is not None}
            self._control.enqueue(self._search.id, parse_sizes(sizes))

        await self._run(form, "Try it", act)

    async def _ask_for_trial(self) -> None:
        records = await run_in_threadpool(self._service.trials, self._search.id)
        options = {
            each.trial.number: f"trial {each.trial.number}: {each.trial.architecture.name}, {each.trial.state.lower()}"
            for each in records
            if not each.trial.state.is_final
        }
        with Form("Stop a trial", "It ends for good and the search goes on without it.") as form:
            field = ui.select(options, label="Trial").props("outlined dense").classes("w-full")

        def act() -> None:
            if field.value is None:
                raise InvalidOrder((("Trial", "none is chosen"),))
            self._control.stop_trial(self._search.id, field.value)

        await self._run(form, "Stop it", act, is_dangerous=True)

    async def _confirm(
        self, title: str, text: str, word: str, act: Act, *, is_dangerous: bool = False
    ) -> None:
        with Form(title, text) as form:
            pass
        await self._run(form, word, act, is_dangerous=is_dangerous)

    async def _run(self, form: "Form", word: str, act: Act, *, is_dangerous: bool = False) -> None:
        if await form.answer(word, act, is_dangerous=is_dangerous):
            await self._changed()


class Form:
    """A dialog that stays open until what it asks for is done or given up."""

    def __init__(self, title: str, text: str) -> None:
        self._dialog = ui.dialog()
        with (
            self._dialog,
            ui.card().classes("gap-3").style("min-width: 340px; max-width: 480px") as self._card,
        ):
            ui.label(title).classes("text-lg font-semibold")
            ui.label(text).classes("soft")
            self._problems = ui.column().classes("w-full gap-2")

    def __enter__(self) -> Self:
        self._card.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._card.__exit__()

    def number(self, label: str, value: int | None) -> ui.number:
        """Return a field for a whole number."""
        return ui.number(label, value=value, min=1, precision=0).props("outlined dense").classes("w-full")

    async def answer(self, word: str, act: Act, *, is_dangerous: bool) -> bool:
        """Return whether it was done; what is wrong is shown, and may be mended."""

        async def do() -> None:
            self._problems.clear()
            try:
                await run_in_threadpool(act)
            except InvalidOrder as error:
                self._tell(dict(error.problems), RED)
            except (Conflict, NotFound) as error:
                self._tell({"Not possible now": str(error)}, AMBER)
            except StoreUnavailable as error:
                self._tell({"The database does not answer": f"{error}; try again later."}, AMBER)
            else:
                self._dialog.submit(True)

        with self._card, ui.row().classes("w-full justify-end"):
            ui.button("Leave it", on_click=lambda: self._dialog.submit(False)).props("flat no-caps")
            colour = "negative" if is_dangerous else "primary"
            ui.button(word, on_click=do).props(f"no-caps unelevated color={colour}")
        if not is_dangerous:  # of a field alone: a button that has the keyboard does what it says
            on_enter = "event => { if (event.target.type === 'number') emit(); }"
            self._card.on("keydown.enter", do, js_handler=on_enter)
        self._dialog.on("hide", self._dialog.delete)  # not sooner: the keyboard goes back to the button then
        return bool(await self._dialog)

    def _tell(self, problems: Mapping[str, str], colour: str) -> None:
        with self._problems:
            for title, detail in problems.items():
                banner("error", LABELS.get(title, title), detail, colour)


def _button(text: str, icon: str, act: Callable[[], Awaitable[None]]) -> ui.button:
    return ui.button(text, icon=icon, on_click=act).props("flat dense no-caps")


def _asked(limit: int | None) -> str:
    return "no limit was asked" if limit is None else f"asked were {limit:,}"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _lines(search: Search, pending: list[Enqueued]) -> list[str]:
    """Return what was ordered, where that is not seen elsewhere."""
    asked, now = search.spec, search.spec_by_now
    lines = [
        f"{LABELS[name]}: {getattr(now, name):,}, {_asked(getattr(asked, name))}"
        for name in EXTENDABLE
        if getattr(now, name) != getattr(asked, name)
    ]
    for each in pending:
        size = wording.count(each.architecture.parameter_count)
        lines.append(
            f"To be tried next: {each.architecture.name}, {size} parameters{each.by and f', for {each.by}'}"
        )
    return lines
