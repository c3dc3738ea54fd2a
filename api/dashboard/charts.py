"""Charts as ECharts options: pure functions of what is stored."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from api.dashboard.theme import AMBER, BLUE, GREEN, GREY, PINK, RED
from nas import wording
from nas.leaderboard import Line
from nas.search import Search
from nas.trial import TrialRole, TrialState

Options = dict[str, Any]

INK = "#7d8896"
"""Reads on light and on dark."""
FAINT = "rgba(125, 136, 150, .25)"

KINDS: Mapping[str, Mapping[str, Any]] = {
    "best": {"symbol": "circle", "symbolSize": 15, "itemStyle": {"color": GREEN}, "z": 5},
    "completed": {"symbol": "circle", "symbolSize": 10, "itemStyle": {"color": BLUE}, "z": 4},
    "stopped early": {
        "symbol": "circle",
        "symbolSize": 9,
        "itemStyle": {"color": "transparent", "borderColor": GREY, "borderWidth": 1.5},
    },
    "under way": {
        "symbol": "circle",
        "symbolSize": 9,
        "itemStyle": {"color": "transparent", "borderColor": BLUE, "borderWidth": 1.5},
    },
    "random architecture": {"symbol": "diamond", "symbolSize": 12, "itemStyle": {"color": AMBER}, "z": 3},
    "random indices": {"symbol": "triangle", "symbolSize": 11, "itemStyle": {"color": PINK}, "z": 3},
}
"""What a point stands for and how it is drawn; hollow ones were measured at fewer tokens."""


def kind_of(line: Line) -> str | None:
    """Return what a trial's point stands for; None draws none."""
    trial = line.record.trial
    if line.loss is None or trial.state is TrialState.FAILED:
        return None
    if trial.role is not TrialRole.SEARCH:
        return "random architecture" if trial.role is TrialRole.RANDOM_ARCHITECTURE else "random indices"
    if line.rank is not None:
        return "best" if line.rank == 1 else "completed"
    return "stopped early" if trial.state.is_final else "under way"


def size_chart(search: Search, lines: Sequence[Line]) -> Options:
    """Return loss against parameters: every trial where it stands, the parent's loss, the budget."""
    count = search.spec.budget.count
    drawn: dict[str, list[Options]] = {kind: [] for kind in KINDS}
    for line in lines:
        kind = kind_of(line)
        if kind and line.num_tokens:
            value = [count(line.record.trial.architecture), line.loss]
            drawn[kind].append({"value": value, "tip": _tip(line)})
    values = [each["value"] for points in drawn.values() for each in points]
    marks = [_mark("xAxis", search.spec.budget.max_parameters, "budget", RED)]
    if search.parent_loss is not None:
        label = f"parent, {wording.count(search.parent_parameters)} parameters"
        marks.append(_mark("yAxis", search.parent_loss, label, INK))
    sizes = [value[0] for value in values] + [search.spec.budget.max_parameters]
    if search.spec.budget.min_parameters:
        sizes.append(search.spec.budget.min_parameters)
    losses = [value[1] for value in values]
    if search.parent_loss is not None:
        losses.append(search.parent_loss)
    # Empty ones too: an update is merged series by series.
    series = [
        {"type": "scatter", "name": kind, "data": points, **KINDS[kind]} for kind, points in drawn.items()
    ]
    # A series of its own, so that the lines stand before there are points, and stay when they are hidden.
    lines_only = {"type": "scatter", "data": [], "markLine": _mark_line(marks)}
    counting = "parameters" if search.spec.budget.counting == "total" else "parameters outside the embeddings"
    return {
        **_base(is_empty=not values),
        "legend": _legend(drawn),
        "xAxis": {**_axis(counting), **_range(sizes), "axisLabel": _labels(_COUNT)},
        "yAxis": {
            **_axis("held-out loss"),
            **_range(losses),
            "axisLabel": _labels(_LOSS),
        },
        "series": [lines_only, *series],
    }


def learning_chart(search: Search, lines: Sequence[Line]) -> Options:
    """Return loss by tokens, a curve for each trial; the best stands out."""
    series: list[Options] = []
    for line in sorted(lines, key=lambda line: line.record.trial.number):
        trial, kind = line.record.trial, kind_of(line)
        colour = _curve_colour(kind)
        is_best = kind == "best"
        series.append(
            {
                "type": "line",
                "name": f"#{trial.number}",
                "data": [
                    {"value": [point.num_tokens, point.loss], "tip": _tip(line, point.num_tokens, point.loss)}
                    for point in line.record.points
                ],
                "symbol": "circle",
                "symbolSize": 7 if is_best else 5,
                "lineStyle": {
                    "color": colour,
                    "width": 3 if is_best else 1.5,
                    "opacity": 1 if is_best else 0.55,
                },
                "itemStyle": {"color": colour},
                "emphasis": {"focus": "series"},
                "z": 5 if is_best else 2,
            }
        )
    # Pruned models begin far above where they end: the axis shows the end, the curves enter from above.
    trained = [point.loss for line in lines for point in line.record.points if point.num_tokens]
    losses = trained or [line.loss_before for line in lines if line.loss_before is not None]
    marks = []
    if search.parent_loss is not None:
        marks.append(_mark("yAxis", search.parent_loss, "parent", INK))
        losses.append(search.parent_loss)
    series.append({"type": "line", "data": [], "markLine": _mark_line(marks)})
    return {
        **_base(is_empty=len(series) == 1),
        "xAxis": {
            **_axis("tokens of retraining"),
            "min": 0,
            "axisLabel": _labels(_COUNT),
        },
        "yAxis": {
            **_axis("held-out loss"),
            **_range(losses),
            "axisLabel": _labels(_LOSS),
        },
        "series": series,
    }


_COUNT = "v => v >= 1e9 ? +(v / 1e9).toPrecision(4) + ' B' : v >= 1e6 ? +(v / 1e6).toPrecision(4) + ' M' : v >= 1e3 ? +(v / 1e3).toPrecision(4) + ' k' : v"
_LOSS = "v => +v.toPrecision(4)"
_TIP = "p => p.data && p.data.tip || ''"


def _base(*, is_empty: bool = False) -> Options:
    return {
        "title": {
            "text": "Nothing is measured yet" if is_empty else "",
            "left": "center",
            "top": "middle",
            "textStyle": {"color": INK, "fontSize": 13, "fontWeight": "normal"},
        },
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"color": INK},
        "grid": {"left": 58, "right": 24, "top": 34, "bottom": 44},
        "tooltip": {
            "trigger": "item",
            ":formatter": _TIP,
            "backgroundColor": "#23282f",
            "borderWidth": 0,
            "textStyle": {"color": "#f1f3f5", "fontSize": 12},
        },
    }


def _axis(name: str) -> Options:
    return {
        "type": "value",
        "name": name,
        "nameLocation": "middle",
        "nameGap": 30 if "loss" not in name else 42,
        "nameTextStyle": {"color": INK},
        "axisLine": {"lineStyle": {"color": FAINT}},
        "splitLine": {"lineStyle": {"color": FAINT}},
        "splitNumber": 5,
    }


def _labels(formatter: str) -> Options:
    # The bounds are not round; only the ticks between them are labelled.
    return {"color": INK, ":formatter": formatter, "showMinLabel": False, "showMaxLabel": False}


def _range(values: Iterable[float]) -> Options:
    """Return bounds a little wider than the values."""
    found = sorted(values)
    if not found:
        return {"scale": True}
    margin = (found[-1] - found[0]) * 0.08 or found[0] * 0.05
    return {"min": found[0] - margin, "max": found[-1] + margin}


def _legend(drawn: Mapping[str, Sequence[Options]]) -> Options:
    return {
        "data": [kind for kind, points in drawn.items() if points],
        "top": 0,
        "left": "center",
        "itemWidth": 14,
        "itemHeight": 9,
        "textStyle": {"color": INK, "fontSize": 11},
    }


def _mark(axis: str, at: float, label: str, colour: str) -> Options:
    position = "insideStartTop" if axis == "yAxis" else "end"
    return {
        axis: at,
        "lineStyle": {"color": colour, "type": "dashed", "width": 1.2},
        "label": {"formatter": label, "position": position, "color": colour, "fontSize": 11},
    }


def _mark_line(marks: Sequence[Options]) -> Options:
    return {"silent": True, "symbol": "none", "animation": False, "data": list(marks)}


def _curve_colour(kind: str | None) -> str:
    if kind is None:
        return RED
    style = KINDS[kind]["itemStyle"]
    return str(style.get("borderColor", style["color"]))


def _tip(line: Line, num_tokens: int | None = None, loss: float | None = None) -> str:
    trial = line.record.trial
    tokens = line.num_tokens if num_tokens is None else num_tokens
    parts = [
        f"<b>Trial {trial.number}</b> · {escape(wording.ROLES[trial.role])} · {trial.state.lower()}",
        escape(trial.architecture.name),
        f"{trial.architecture.parameter_count:,} parameters",
        f"loss <b>{wording.loss(line.loss if loss is None else loss)}</b> after {tokens:,} tokens",
    ]
    return "<br>".join(parts)
