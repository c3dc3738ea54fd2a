"""What the figures of a report share: colours, marks, axes and named lines, as Plotly writes them in JSON. Pure.

All marks are plain lines, bars and symbols of SVG: they print sharply and need no WebGL. What people name (searches, tags,
owners) is in no figure, for Plotly takes some HTML in texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nas import wording
from nas.report import ReportedTrial
from nas.report_tables import Table
from nas.trial import TrialRole, TrialState

Options = dict[str, Any]

BLUE, GREEN, AMBER, PINK, RED, GREY, INK = (
    "#4263eb", "#0ca678", "#e8890c", "#d6336c", "#e03131", "#868e96", "#343a40",
)  # fmt: skip
FAINT = "#e9ecef"
PALE = "#adb5bd"
"""Dark words read on it."""
NAMES: dict[str, Any] = {"automargin": True, "ticklabelstandoff": 6}
"""Of an axis of names."""
KINDS: dict[str, Options] = {
    wording.BEST_AT_EQUAL_TOKENS: {"symbol": "star", "size": 15, "color": GREEN},
    "trained to the end": {"symbol": "circle", "size": 9, "color": BLUE},
    "stopped at a rung": {"symbol": "circle-open", "size": 8, "color": GREY},
    "under way": {"symbol": "circle-open", "size": 8, "color": BLUE},
    "random architecture": {"symbol": "diamond", "size": 10, "color": AMBER},
    "random indices": {"symbol": "triangle-up", "size": 10, "color": PINK},
    "promotion": {"symbol": "star-diamond", "size": 11, "color": GREEN},
}
"""What a trial's mark stands for; shapes differ as well as colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, with all that a reader needs who cannot see it."""

    name: str
    """Of its anchor."""
    title: str
    reading: str
    """How to read it, in a sentence."""
    caption: str
    """What it shows, in numbers."""
    table: Table
    data: list[Options] = field(default_factory=list)
    """Traces of Plotly; none where there is nothing to draw yet, and the caption says why."""
    layout: Options = field(default_factory=dict)
    height: int = 360


def kind_of(trial: ReportedTrial) -> str | None:
    """Return what a trial's mark stands for; None draws none."""
    if trial.loss is None or not trial.num_tokens or trial.state is TrialState.FAILED:
        return None
    if trial.role is not TrialRole.SEARCH:
        return wording.ROLES[trial.role]
    if trial.rank is not None:
        return wording.BEST_AT_EQUAL_TOKENS if trial.rank == 1 else "trained to the end"
    return "stopped at a rung" if trial.state.is_final else "under way"


def label(trial: ReportedTrial) -> str:
    """Return a trial and its architecture."""
    return f"trial {trial.number}, {trial.architecture}"


def tokens_and_hours(num_tokens: int, seconds: float | None) -> str:
    """Return what was spent, in words; hours where they are known."""
    tokens = f"{wording.count(num_tokens)} tokens"
    return tokens if seconds is None else f"{tokens}, {wording.hours(seconds)}"


def axis(title: str, **options: Any) -> Options:
    """Return an axis of numbers with its name."""
    return {
        "title": {"text": title}, "gridcolor": FAINT, "zeroline": False, "automargin": True, "linecolor": GREY,
        **options,
    }  # fmt: skip


def value_range(values: Sequence[float]) -> Options:
    """Return the range of an axis a little wider than the values."""
    if not values:
        return {}
    margin = (max(values) - min(values)) * 0.08 or 0.05
    return {"range": [min(values) - margin, max(values) + margin]}


def line(axis: str, at: float, colour: str) -> Options:
    """Return a dashed line across the figure at a value of ``x`` or ``y``."""
    ends = {f"{axis}0": at, f"{axis}1": at, f"{'y' if axis == 'x' else 'x'}ref": "paper"}
    across = {"y0": 0, "y1": 1} if axis == "x" else {"x0": 0, "x1": 1}
    return {
        "type": "line",
        **ends,
        **across,
        "line": {"color": colour, "width": 1.2, "dash": "dash"},
        "layer": "below",
    }


def note(
    *, text: str, color: str, x: float | None = None, y: float | None = None, xanchor: str = "left"
) -> Options:
    """Return the name of a line, at its end."""
    at = (
        {"x": x, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": xanchor}
        if x is not None
        else {"y": y, "x": 0, "xref": "paper", "yanchor": "bottom", "xanchor": "left"}
    )
    return {**at, "text": text, "showarrow": False, "font": {"color": color, "size": 12}}
