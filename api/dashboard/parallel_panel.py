"""The architectures that were tried, side by side, once there are enough to compare."""

from nicegui import ui

from api.dashboard.parallel_chart import MIN_TRIALS, parallel_chart, parallel_lines
from api.dashboard.snapshot import Snapshot
from api.dashboard.theme import draw, panel, picture

WHAT = (
    "Sizes and loss of each architecture, a line for each trial; the table of trials says the same in numbers"
)
FEW = f"Drawn once {MIN_TRIALS} trials are measured at the same tokens."
HOW = "{count} trials, measured at the same tokens; green lost least. Drag along an axis to pick a range."


class ParallelPanel:
    """The panel of one visitor; wider than a phone, where it is moved sideways."""

    def __init__(self, snapshot: Snapshot) -> None:
        with panel("Architectures side by side"):
            self._box = ui.element("div").classes("w-full").style("overflow-x: auto")
            with self._box:
                self._chart = picture(parallel_chart(snapshot.search, snapshot.lines), WHAT)
                self._chart.style("height: 300px; min-width: 640px")
            self._note = ui.label().classes("soft")

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panel up to date."""
        count = len(parallel_lines(snapshot.lines))
        self._box.visible = count >= MIN_TRIALS
        self._note.text = HOW.format(count=count) if self._box.visible else FEW
        draw(self._chart, parallel_chart(snapshot.search, snapshot.lines))
