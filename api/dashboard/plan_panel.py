"""What a search would cost, told while its spec is written; or what is wrong with it."""

from collections.abc import Sequence
from datetime import timedelta

from nicegui import ui

from api.dashboard.theme import AMBER, RED, banner, fact, panel
from nas import wording
from nas.estimate import Estimate
from nas.estimate_rows import estimate_rows


class PlanPanel:
    """Four numbers, and the rest of the estimate below them."""

    def __init__(self) -> None:
        self._tiles = ui.element("div").classes("tiles").props("aria-live=polite")
        self._problems = ui.column().classes("w-full gap-2").props("role=alert")
        self._problems.visible = False

    def make_details(self) -> None:
        """Make where the whole estimate stands."""
        with panel("What it would cost, in full"):
            self._rows = ui.element("div").classes("facts")

    def show(self, found: Estimate) -> None:
        """Show an estimate."""
        self._problems.clear()
        self._problems.visible = False
        self._tiles.clear()
        self._mark(is_stale=False)
        least, most = (wording.count(each) for each in (found.parameters.least, found.parameters.most))
        beside = f", {found.num_baselines} baselines" if found.num_baselines else ""
        if found.reusable and found.reusable.num_known:
            beside += f"; {found.reusable.num_known:,} measured before"
        time = "not known" if found.hours is None else _hours(found.hours)
        rate = "until a search has measured it" if found.rate is None else f"{found.rate.source}"
        with self._tiles:
            _tile(
                "Architectures that fit",
                f"{found.num_feasible:,}",
                f"{found.num_trials} of them tried{beside}",
            )
            _tile("Their size", least if least == most else f"{least} to {most}", "parameters")
            _tile(
                "Memory of one trial",
                f"at most {wording.in_bytes(found.trial.memory.total)}",
                f"disk of all {wording.in_bytes(found.disk_bytes)}",
            )
            _tile("Time of the search", time, rate)
        self._rows.clear()
        with self._rows:
            for what, how_much in estimate_rows(found):
                fact(what, how_much)

    def show_problems(self, problems: Sequence[tuple[str, str]]) -> None:
        """Show what is wrong; the numbers are no longer those of what is written."""
        self._mark(is_stale=True)
        self._problems.clear()
        self._problems.visible = True
        with self._problems:
            for field, reason in problems:
                banner("error", field, reason, RED)

    def show_obstacle(self, text: str) -> None:
        """Show what may pass by itself."""
        self._mark(is_stale=True)
        self._problems.clear()
        self._problems.visible = True
        with self._problems:
            banner("cloud_off", "Not now", text, AMBER)

    def _mark(self, *, is_stale: bool) -> None:
        """Dim numbers that are of another spec than the one that is written."""
        for numbers in (self._tiles, self._rows):
            numbers.classes(add="stale") if is_stale else numbers.classes(remove="stale")


def _hours(hours: float) -> str:
    return f"about {wording.duration(timedelta(hours=hours))}"


def _tile(title: str, number: str, note: str) -> None:
    with panel(title).style("gap: 2px; padding: 10px 18px"):
        ui.label(number).classes("number")
        ui.label(note).classes("soft")
