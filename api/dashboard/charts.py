"""Loss against parameters, and learning curves, as ECharts options: pure functions of what is stored."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from api.dashboard.chart_parts import (
    COUNT,
    INK,
    LOSS,
    Options,
    axis,
    base,
    bounds,
    labels,
    legend,
    mark,
    mark_line,
    spaced,
)
from api.dashboard.theme import AMBER, BLUE, GREEN, GREY, PINK, RED
from nas import wording
from nas.frontier import pareto_front
from nas.leaderboard import Line
from nas.samplers.ordered import zero_shot_choice
from nas.search import Search
from nas.trial import TrialRole, TrialState

EMPTY = "Nothing is measured yet"
FRONT = "Pareto front"
MAX_CURVES = 80
"""More are no picture; those that lead are drawn."""
MAX_CURVE_POINTS = 60

PARTIAL = ", partial"
"""After the kind of a baseline that has not come to its end."""


def _hollow(colour: str) -> Options:
    return {"color": "transparent", "borderColor": colour, "borderWidth": 1.5}


KINDS: Mapping[str, Mapping[str, Any]] = {
    wording.BEST_AT_EQUAL_TOKENS: {
        "symbol": "circle",
        "symbolSize": 15,
        "itemStyle": {"color": GREEN},
        "z": 5,
    },
    "completed": {"symbol": "circle", "symbolSize": 10, "itemStyle": {"color": BLUE}, "z": 4},
    "stopped early": {"symbol": "circle", "symbolSize": 9, "itemStyle": _hollow(GREY)},
    "cancelled": {"symbol": "rect", "symbolSize": 8, "itemStyle": _hollow(GREY)},
    "under way": {"symbol": "circle", "symbolSize": 9, "itemStyle": _hollow(BLUE)},
    "random architecture": {"symbol": "diamond", "symbolSize": 12, "itemStyle": {"color": AMBER}, "z": 3},
    f"random architecture{PARTIAL}": {"symbol": "diamond", "symbolSize": 11, "itemStyle": _hollow(AMBER)},
    "random indices": {"symbol": "triangle", "symbolSize": 11, "itemStyle": {"color": PINK}, "z": 3},
    f"random indices{PARTIAL}": {"symbol": "triangle", "symbolSize": 10, "itemStyle": _hollow(PINK)},
    "promotion": {"symbol": "pin", "symbolSize": 16, "itemStyle": {"color": GREEN}, "z": 4},
    f"promotion{PARTIAL}": {"symbol": "pin", "symbolSize": 14, "itemStyle": _hollow(GREEN)},
}
"""What a point stands for and how it is drawn; hollow ones were measured at fewer tokens."""
ENDS = {TrialState.STOPPED: "stopped early", TrialState.CANCELLED: "cancelled"}
_CURVE_TIP = (
    "p => p.value ? `<b>${p.seriesName}</b><br>loss <b>${p.value[1].toFixed(4)}</b> after "
    "${p.value[0].toLocaleString('en')} tokens` : ''"
)


def kind_of(line: Line) -> str | None:
    """Return what a trial's point stands for; None draws none."""
    trial = line.record.trial
    if line.loss is None or trial.state is TrialState.FAILED:
        return None
    if trial.role is not TrialRole.SEARCH:
        return f"{wording.ROLES[trial.role]}{'' if trial.state is TrialState.COMPLETED else PARTIAL}"
    if line.rank is not None:
        return wording.BEST_AT_EQUAL_TOKENS if line.rank == 1 else "completed"
    return ENDS.get(trial.state, "under way")


def size_chart(search: Search, lines: Sequence[Line], chosen: int | None = None) -> Options:
    """Return loss against size: every trial, the front, the parent's loss, the budget, a ring on the chosen.

    Size is what the search weighs against the loss, parameters unless it says otherwise.
    """
    objective = search.measured_spec.weighed
    count = objective.of if objective else search.spec.budget.count
    drawn: dict[str, list[Options]] = {kind: [] for kind in KINDS}
    ring: list[Options] = []
    for line in lines:
        kind = kind_of(line)
        if kind and line.num_tokens:
            trial = line.record.trial
            point = {"value": [count(trial.architecture), line.loss], "name": str(trial.number)}
            drawn[kind].append({**point, "tip": _tip(line)})
            if trial.number == chosen:
                ring.append(point)
    values = [each["value"] for points in drawn.values() for each in points]
    is_budgeted = objective is None or (objective.cost, search.spec.budget.counting) == (
        "parameters",
        "total",
    )
    marks = []
    if is_budgeted and search.spec.budget.max_parameters is not None:
        marks.append(mark("xAxis", search.spec.budget.max_parameters, "budget", RED))
    if is_budgeted and search.spec.budget.min_parameters:
        marks.append(mark("xAxis", search.spec.budget.min_parameters, "at least", RED))
    if search.parent_loss is not None:
        label = f"parent, {wording.count(search.parent_parameters)} parameters"
        marks.append(mark("yAxis", search.parent_loss, label, INK))
    sizes = [value[0] for value in values]
    if is_budgeted:
        limits = (search.spec.budget.max_parameters, search.spec.budget.min_parameters)
        sizes += [size for size in limits if size]
    losses = [value[1] for value in values]
    if search.parent_loss is not None:
        losses.append(search.parent_loss)
    front = [
        [count(trial.architecture), trial.measurement.loss]
        for trial in pareto_front([line.record.trial for line in lines], objective)
        if trial.measurement
    ]
    # Empty ones too: an update is merged series by series.
    series = [
        {"type": "scatter", "name": kind, "data": points, **KINDS[kind]} for kind, points in drawn.items()
    ]
    # A series of its own, so that the lines stand before there are points, and stay when they are hidden.
    lines_only = {"type": "scatter", "data": [], "markLine": mark_line(marks)}
    counting = wording.COUNTED[search.spec.budget.counting]
    return {
        **base(empty="" if values else EMPTY),
        "legend": legend({**drawn, FRONT: front if len(front) > 1 else []}),
        "xAxis": {
            **axis(objective.words if objective else counting),
            **bounds(sizes),
            "axisLabel": labels(COUNT),
        },
        "yAxis": {**axis("held-out loss"), **bounds(losses), "axisLabel": labels(LOSS)},
        "series": [lines_only, *series, _front(front), _ring(ring)],
    }


def size_note(search: Search, lines: Sequence[Line]) -> str:
    """Return what the rule of a search by closeness to its budget would take, which asks no retraining; empty for others."""
    if search.spec.sampler != "nearest-budget":
        return ""
    losses = {
        line.record.trial.number: {point.num_tokens: point.loss for point in line.record.points}
        for line in lines
    }
    taken = zero_shot_choice([line.record.trial for line in lines], losses)
    choice = f": by the loss at 0 tokens it would take trial {taken.number}" if taken else ""
    return f"The rule that NVIDIA ModelOpt documents retrains none of them{choice}."


def _front(points: Sequence[Sequence[float]]) -> Options:
    """Return the line of the best loss at each size: a larger student must earn its step down."""
    return {
        "type": "line",
        "name": FRONT,
        "data": list(points),
        "step": "end",
        "symbol": "none",
        "silent": True,
        "lineStyle": {"color": GREEN, "width": 1.2, "opacity": 0.7},
        "itemStyle": {"color": GREEN},
        "z": 1,
    }


def _ring(points: Sequence[Options]) -> Options:
    style = {"color": "transparent", "borderColor": INK, "borderWidth": 2}
    return {
        "type": "scatter", "name": "chosen", "data": list(points), "symbolSize": 24, "itemStyle": style, "silent": True, "z": 6,
    }  # fmt: skip


def learning_chart(search: Search, lines: Sequence[Line], chosen: int | None = None) -> Options:
    """Return loss by tokens, a curve for each trial that leads; the best and the chosen stand out."""
    taken = [line for line in lines if line.record.points]
    leading = taken[:MAX_CURVES] + [line for line in taken[MAX_CURVES:] if line.record.trial.number == chosen]
    series = [
        _curve(line, is_chosen=line.record.trial.number == chosen)
        for line in sorted(leading, key=lambda line: line.record.trial.number)
    ]
    # Pruned models begin far above where they end: the axis shows the end, the curves enter from above.
    trained = [loss for curve in series for tokens, loss in curve["data"] if tokens]
    losses = trained or [line.loss_before for line in leading if line.loss_before is not None]
    marks = []
    if search.parent_loss is not None:
        marks.append(mark("yAxis", search.parent_loss, "parent", INK))
        losses.append(search.parent_loss)
    lines_only = {"type": "line", "data": [], "markLine": mark_line(marks)}
    return {
        **base(empty="" if series else EMPTY, tip=_CURVE_TIP),
        "xAxis": {**axis("tokens of retraining"), "min": 0, "axisLabel": labels(COUNT)},
        "yAxis": {**axis("held-out loss"), **bounds(losses), "axisLabel": labels(LOSS)},
        "series": [*series, lines_only],
    }


def num_curves_left_out(lines: Sequence[Line]) -> int:
    """Return how many trials with points have no curve."""
    return max(0, sum(bool(line.record.points) for line in lines) - MAX_CURVES)


def _curve(line: Line, *, is_chosen: bool) -> Options:
    kind, points = kind_of(line), line.record.points
    stands_out = is_chosen or kind == wording.BEST_AT_EQUAL_TOKENS
    colour = _curve_colour(kind)
    return {
        "type": "line",
        "name": f"#{line.record.trial.number} {line.record.trial.architecture.name}",
        "data": [
            [points[i].num_tokens, round(points[i].loss, 5)] for i in spaced(len(points), MAX_CURVE_POINTS)
        ],
        "symbol": "circle",
        "symbolSize": 7 if stands_out else 5,
        "lineStyle": {
            "color": colour,
            "width": 3 if stands_out else 1.5,
            "opacity": 1 if stands_out else 0.55,
            "type": "dashed" if is_chosen and kind != wording.BEST_AT_EQUAL_TOKENS else "solid",
        },
        "itemStyle": {"color": colour},
        "emphasis": {"focus": "series"},
        "z": 5 if stands_out else 2,
    }


def _curve_colour(kind: str | None) -> str:
    if kind is None:
        return RED
    style = KINDS[kind]["itemStyle"]
    return str(style.get("borderColor", style["color"]))


def _tip(line: Line) -> str:
    trial = line.record.trial
    parts = [
        f"<b>Trial {trial.number}</b> · {escape(wording.ROLES[trial.role])} · {trial.state.lower()}",
        escape(trial.architecture.name),
        f"{trial.architecture.parameter_count:,} parameters",
        f"loss <b>{wording.loss(line.loss)}</b> after {line.num_tokens:,} tokens",
    ]
    return "<br>".join(parts)
