"""The chosen trial: its architecture against the parent's, its numbers, and each attempt with what went wrong."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from nicegui import ui

from api.dashboard.attempt_log_dialog import AttemptLogDialog
from api.dashboard.drawing import drawing
from api.dashboard.promotion_panel import ask_to_promote
from api.dashboard.snapshot import Snapshot
from api.dashboard.theme import RED, STATE_COLOURS, fact, failure_details, heading, panel
from api.dashboard.visitor import may_change
from nas import wording
from nas.budget import Budget
from nas.leaderboard import Line
from nas.report_promotions import may_be_promoted
from nas.service import SearchService
from nas.trial import Attempt, Failure, Trial, TrialState


class TrialPanel:
    """Invisible until there is a trial; made anew when what it says changes.

    Args:
        service: Obeys.
        changed: Called after an order, to show what came of it.
    """

    def __init__(self, service: SearchService, changed: Callable[[], Awaitable[None]]) -> None:
        self._service = service
        self._changed = changed
        self._log = AttemptLogDialog(service)
        self._shown: object = None
        self._body = ui.column().classes("w-full")
        self._body.visible = False

    def show(self, snapshot: Snapshot, line: Line | None) -> None:
        """Bring the panel up to date."""
        shown = (line, snapshot.parent)
        if shown == self._shown:
            return
        self._shown = shown
        self._body.visible = line is not None
        self._body.clear()
        if line is None:
            return
        trial = line.record.trial
        with self._body, panel():
            with ui.row().classes("w-full items-baseline gap-3"):
                heading(f"Trial {trial.number}")
                ui.label(trial.architecture.name).classes("mono")
                colour = RED if trial.state is TrialState.FAILED else STATE_COLOURS[trial.state]
                ui.label(_state(line)).classes("chip").style(f"--dot: {colour}")
                if may_be_promoted(trial) and may_change(snapshot.search.workspace):
                    ask = partial(ask_to_promote, self._service, snapshot.search, trial, self._changed)
                    ui.button("Promote", icon="upgrade", on_click=ask).props("flat dense no-caps").classes(
                        "ml-auto"
                    )
            with ui.element("div").classes("halves"):
                with ui.column().classes("w-full gap-2"):
                    _shape(snapshot, trial)
                with ui.column().classes("w-full gap-2"):
                    _numbers(line, snapshot.search.budget)
                    _attempts(line, self._log)


def _state(line: Line) -> str:
    trial = line.record.trial
    state = wording.outcome(trial)
    if line.rank is not None:
        return f"{state}, rank {line.rank}"
    return state if trial.role.value == "SEARCH" else f"{state}, {wording.ROLES[trial.role]}"


def _shape(snapshot: Snapshot, trial: Trial) -> None:
    ui.label("What was kept of the parent").classes("soft")
    if snapshot.parent is None:
        ui.label("The parent's config is no longer where it was: there is nothing to compare with.")
        return
    ui.html(drawing(snapshot.parent, trial.architecture, trial.kept_layers), sanitize=False).classes("w-full")


def _numbers(line: Line, budget: Budget) -> None:
    measured = line.record.trial.measurement
    with ui.element("div").classes("facts"):
        origin = line.record.trial.promoted_from
        if origin is not None:
            fact("retrains", f"the student of trial {origin}")
        fact("loss pruned" if origin is None else "loss before", wording.loss(line.loss_before))
        if line.num_tokens:
            fact("loss", f"{wording.loss(line.loss)} after {line.num_tokens:,} tokens")
        if measured:
            fact("parameters", f"{measured.num_parameters:,}, counted on the student")
        for name, number in wording.costs(budget, line.record.trial.architecture):
            fact(name, number)
        if measured:
            fact("trained for", wording.duration(timedelta(seconds=measured.train_seconds)))
        if measured and measured.peak_memory_bytes:
            fact("peak memory", wording.in_bytes(measured.peak_memory_bytes))


def _attempts(line: Line, log: AttemptLogDialog) -> None:
    attempts, origin = line.record.attempts, line.record.trial.reused_from
    if origin:
        with ui.row().classes("items-center gap-1 q-mt-sm"):
            ui.label("Not run here: measured before by").classes("soft")
            ui.link(str(origin), f"/searches/{origin.search_id}")
        return
    ui.label("Attempts" if attempts else "No worker has begun it yet").classes("soft q-mt-sm")
    for attempt in attempts:
        with ui.column().classes("w-full gap-1"):
            with ui.row().classes("items-center gap-2"):
                ui.label(_attempt(attempt, is_over=line.record.trial.state.is_final))
                ui.button("Log", on_click=partial(log.open, attempt)).props("flat dense no-caps")
            if attempt.failure:
                _failure(attempt.failure)
    trial = line.record.trial
    if trial.failure and all(attempt.failure != trial.failure for attempt in attempts):
        _failure(trial.failure)


def _attempt(attempt: Attempt, *, is_over: bool) -> str:
    took = "its end is not recorded" if is_over else "still running"
    if attempt.ended_at:
        took = f"took {wording.duration(attempt.ended_at - attempt.started_at)}"
    return f"{attempt.number}. on {attempt.worker}, from {attempt.started_at:%d %b, %H:%M:%S} UTC, {took}"


def _failure(failure: Failure) -> None:
    with ui.expansion(failure.message).props("dense").classes("w-full failure").style("color: var(--bad)"):
        failure_details(failure)
