"""What charts share, as parts of ECharts options: frame, axes, marked lines, legends."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Options = dict[str, Any]

INK = "#7d8896"
"""Reads on light and on dark."""
FAINT = "rgba(125, 136, 150, .25)"

COUNT = "v => v >= 1e9 ? +(v / 1e9).toPrecision(4) + ' B' : v >= 1e6 ? +(v / 1e6).toPrecision(4) + ' M' : v >= 1e3 ? +(v / 1e3).toPrecision(4) + ' k' : v"
LOSS = "v => +v.toPrecision(4)"
TIP = "p => p.data && p.data.tip || ''"
"""Of a point that brings its own text."""


def base(*, empty: str = "", tip: str = TIP) -> Options:
    """Return the frame of a chart; ``empty`` says why there is nothing in it."""
    return {
        "title": {
            "text": empty,
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
            "confine": True,
            ":formatter": tip,
            "backgroundColor": "#23282f",
            "borderWidth": 0,
            "textStyle": {"color": "#f1f3f5", "fontSize": 12},
        },
    }


def axis(name: str) -> Options:
    """Return an axis of values with its name beside it."""
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


def labels(formatter: str) -> Options:
    """Return the labels of an axis whose bounds are not round: only the ticks between them are labelled."""
    return {"color": INK, ":formatter": formatter, "showMinLabel": False, "showMaxLabel": False}


def bounds(values: Iterable[float]) -> Options:
    """Return bounds a little wider than the values."""
    found = sorted(values)
    if not found:
        return {"scale": True}
    margin = (found[-1] - found[0]) * 0.08 or found[0] * 0.05
    return {"min": found[0] - margin, "max": found[-1] + margin}


def legend(drawn: Mapping[str, Sequence[Any]]) -> Options:
    """Return a legend of the series that hold something."""
    return {
        "type": "scroll",
        "data": [kind for kind, points in drawn.items() if points],
        "top": 0,
        "left": "center",
        "itemWidth": 14,
        "itemHeight": 9,
        "textStyle": {"color": INK, "fontSize": 11},
        "pageTextStyle": {"color": INK},
        "pageIconColor": INK,
        "pageIconInactiveColor": FAINT,
    }


def mark(axis_name: str, at: float, label: str, colour: str) -> Options:
    """Return a dashed line across the chart at a value of ``xAxis`` or ``yAxis``."""
    position = "insideStartTop" if axis_name == "yAxis" else "end"
    return {
        axis_name: at,
        "lineStyle": {"color": colour, "type": "dashed", "width": 1.2},
        "label": {"formatter": label, "position": position, "color": colour, "fontSize": 11},
    }


def mark_line(marks: Sequence[Options]) -> Options:
    """Return what a series is given to draw marks."""
    return {"silent": True, "symbol": "none", "animation": False, "data": list(marks)}


def spaced(number: int, most: int) -> list[int]:
    """Return at most ``most`` indices of so many things, evenly spaced, first and last among them."""
    if number <= most:
        return list(range(number))
    return [round(i * (number - 1) / (most - 1)) for i in range(most)]
