"""Searches together in one picture, a colour for each: their fronts, and the learning curves of their best trials."""

from collections.abc import Sequence
from html import escape

from api.dashboard.chart_parts import COUNT, INK, LOSS, Options, axis, base, bounds, labels, mark, mark_line
from nas import wording
from nas.side_by_side import Beside, SideBySide

COLOURS = ("#4c6ef5", "#f08c00", "#12b886", "#e64980", "#7950f2", "#1098ad", "#a0662c", "#868e96")
"""As many as searches are compared; each reads on the light and on the dark page."""
SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "circle")
"""So that colours are not all that tells searches apart."""
NOTHING = "No trial has completed yet"


def names_of(searches: Sequence[Beside]) -> list[str]:
    """Return what searches are called in a picture: no two the same, and none too long."""
    found = [each.view.search for each in searches]
    names = [search.spec.name[:40] or search.id for search in found]
    return [
        f"{name} {search.id[-5:]}" if names.count(name) > 1 else name
        for name, search in zip(names, found, strict=True)
    ]


def fronts_chart(found: SideBySide) -> Options:
    """Return loss against what the searches weigh: the front of each as steps, and each parent's loss."""
    searches = found.searches
    series: list[Options] = []
    marks: list[Options] = []
    sizes: list[float] = []
    losses: list[float] = []
    for number, (name, each) in enumerate(zip(names_of(searches), searches, strict=True)):
        points: list[Options] = []
        for cost, trial in zip(each.costs, each.front, strict=True):
            assert trial.measurement
            value = [cost, trial.measurement.loss]
            tip = (
                f"<b>{escape(name)}</b><br>trial {trial.number} · {escape(trial.architecture.name)}<br>"
                f"{cost:,} {escape(found.cost)}<br>loss <b>{wording.loss(value[1])}</b> after "
                f"{trial.measurement.num_tokens:,} tokens"
            )
            points.append({"value": value, "tip": tip})
            sizes.append(value[0])
            losses.append(value[1])
        # What fits a budget between two students of the front is the smaller one.
        series.append({**_line(name, number, points), "step": "end"})
    parents = (each.view.search.parent_loss for each in searches)
    for loss in sorted({loss for loss in parents if loss is not None}):
        marks.append(mark("yAxis", loss, "parent", INK))
        losses.append(loss)
    return {
        **base(empty="" if sizes else NOTHING),
        "legend": _legend(searches),
        "xAxis": {**axis(found.cost), **bounds(sizes), "axisLabel": labels(COUNT)},
        "yAxis": {**axis("held-out loss"), **bounds(losses), "axisLabel": labels(LOSS)},
        "series": [{"type": "line", "data": [], "markLine": mark_line(marks)}, *series],
    }


def curves_chart(searches: Sequence[Beside]) -> Options:
    """Return loss by tokens of the best trial of each search."""
    series, losses = [], []
    for number, (name, each) in enumerate(zip(names_of(searches), searches, strict=True)):
        points = [
            {
                "value": [point.num_tokens, point.loss],
                "tip": f"<b>{escape(name)}</b><br>loss <b>{wording.loss(point.loss)}</b> after "
                f"{point.num_tokens:,} tokens",
            }
            for point in each.curve
        ]
        # Pruned models begin far above where they end: the axis shows the end, the curves enter from above.
        losses += [point.loss for point in each.curve if point.num_tokens]
        series.append(_line(name, number, points))
    return {
        **base(empty="" if losses else NOTHING),
        "legend": _legend(searches),
        "xAxis": {**axis("tokens of retraining"), "min": 0, "axisLabel": labels(COUNT)},
        "yAxis": {**axis("held-out loss"), **bounds(losses), "axisLabel": labels(LOSS)},
        "series": series,
    }


def _line(name: str, number: int, points: Sequence[Options]) -> Options:
    colour = COLOURS[number]
    return {
        "type": "line",
        "name": name,
        "data": list(points),
        "symbol": SYMBOLS[number],
        "symbolSize": 9,
        "lineStyle": {"color": colour, "width": 2},
        "itemStyle": {"color": colour},
        "emphasis": {"focus": "series"},
    }


def _legend(searches: Sequence[Beside]) -> Options:
    return {
        "type": "scroll",
        "data": names_of(searches),
        "top": 0,
        "left": "center",
        "itemWidth": 18,
        "itemHeight": 9,
        "textStyle": {"color": INK, "fontSize": 11},
    }
