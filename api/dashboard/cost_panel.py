"""What a search cost, what that saved, and where in its space nothing works; and the way to its whole report."""

from nicegui import ui

from api.dashboard.snapshot import Snapshot
from api.dashboard.theme import panel
from nas import wording
from nas.report_spending import Spending
from nas.report_words import SPENT_ON, cost_words, zone_words
from nas.report_zones import LEAST_TRIALS, Zones

WHY_ZONES = (
    "Sizes, or pairs of sizes, whose trials were all clearly behind the median of all where the first rung stands, none "
    "of which recovered, and which chance does not explain."
)


class CostPanel:
    """Two panels of one visitor; made anew when they change."""

    def __init__(self, search_id: str) -> None:
        self._spent: object = None
        self._zones: object = None
        with panel("What tokens and hours went into"):
            self._cost = ui.column().classes("w-full gap-2")
            address = f"/api/v1/searches/{search_id}/report"
            with ui.row().classes("gap-4"):
                ui.link("The whole report, as one file to keep", f"{address}?format=html", new_tab=True)
                ui.link("as JSON", address, new_tab=True).classes("soft")
        with panel("Zones that never work"):
            self._where = ui.column().classes("w-full gap-2")

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panels up to date."""
        if snapshot.spending != self._spent:
            self._spent = snapshot.spending
            self._cost.clear()
            with self._cost:
                _show_cost(snapshot.spending, snapshot.search.num_feasible)
        if snapshot.zones != self._zones:
            self._zones = snapshot.zones
            self._where.clear()
            with self._where:
                _show_zones(snapshot.zones)


def bars(spent: Spending) -> str:
    """Return a bar for each kind of trial: its share of the tokens."""
    rows = "".join(
        f'<div class="shape-name">{SPENT_ON[part.on]}</div>'
        f'<div class="shape-bar"><i style="width: {part.num_tokens / max(1, spent.num_tokens):.2%}"></i></div>'
        f'<div class="shape-words">{wording.count(part.num_tokens)} tokens, {wording.hours(part.compute_seconds)}</div>'
        for part in spent.parts
    )
    return f'<div class="shape">{rows}</div>'


def _show_cost(spent: Spending, num_feasible: int) -> None:
    if spent.parts:
        ui.html(bars(spent), sanitize=False).classes("w-full")
    ui.label(cost_words(spent, num_feasible)).classes("soft")


def _show_zones(zones: Zones) -> None:
    for zone in zones.dead:
        best = f"; the best lost {wording.loss(zone.best_loss)}" if zone.best_loss is not None else ""
        ui.label(f"{zone_words(zone)}: {zone.num_trials} trials{best}")
    if zones.median_loss is None:
        ui.label("Told once trials have come to the first rung.").classes("soft")
        return
    if not zones.dead:
        ui.label(f"None is told; a zone needs {LEAST_TRIALS} trials at least.").classes("soft")
    ui.label(
        f"{WHY_ZONES} The median of {zones.num_trials} trials after {zones.num_tokens:,} tokens is "
        f"{wording.loss(zones.median_loss)}."
    ).classes("soft")
