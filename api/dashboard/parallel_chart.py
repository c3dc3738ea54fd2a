"""Architectures side by side, a line through the axes for each, coloured by loss: pure functions of trials."""

from collections.abc import Sequence

from api.dashboard.chart_parts import FAINT, INK, LOSS, Options, base
from api.dashboard.theme import AMBER, BLUE, GREEN
from nas import wording
from nas.axes import AXIS_NAMES
from nas.leaderboard import Line
from nas.search import Search

WHOLE = "v => Number.isInteger(v) ? v : ''"
"""Of an axis of sizes: none lies between two of them."""
MIN_TRIALS = 3
MAX_LINES = 300
"""The best ones; more are no picture."""
_TIP = "p => p.name ? `<b>${p.name}</b><br>loss <b>${p.value[p.value.length - 1].toFixed(4)}</b>` : ''"


def parallel_lines(lines: Sequence[Line]) -> list[Line]:
    """Return the trials to draw: those measured at the most tokens that any has seen, which alone compare."""
    compared = [
        line for line in lines if line.loss is not None and line.record.trial.role.tells_of_architecture
    ]
    most = max((line.num_tokens for line in compared), default=0)
    drawn = [line for line in compared if most and line.num_tokens == most]
    return sorted(drawn, key=lambda line: line.loss or 0)[:MAX_LINES]


def parallel_chart(search: Search, lines: Sequence[Line]) -> Options:
    """Return searched axes, parameters and loss of the trials of equal tokens; the best are green and at the top.

    Fewer than MIN_TRIALS are not drawn.
    """
    drawn = parallel_lines(lines)
    shapes = [line.record.trial.architecture for line in drawn]
    searched = [name for name in AXIS_NAMES if getattr(search.spec.axes, name) is not None]
    columns = {
        **{wording.AXES[name]: [float(getattr(shape, name)) for shape in shapes] for name in searched},
        "parameters, M": [search.spec.budget.count(shape) / 1e6 for shape in shapes],
        "held-out loss": [round(line.loss or 0.0, 5) for line in drawn],
    }
    if len(drawn) < MIN_TRIALS:
        return {**base(), "series": []}
    losses = columns["held-out loss"]
    rows = list(zip(*columns.values(), strict=True))
    # The best last, so that they are drawn on top.
    data = [
        {"value": list(row), "name": f"#{line.record.trial.number} {line.record.trial.architecture.name}"}
        for line, row in reversed(list(zip(drawn, rows, strict=True)))
    ]
    return {
        **base(tip=_TIP),
        "parallel": {"left": 60, "right": 90, "top": 40, "bottom": 24},
        "parallelAxis": [
            _axis(number, name, values) for number, (name, values) in enumerate(columns.items())
        ],
        "visualMap": {
            "show": False,
            "dimension": len(columns) - 1,
            "min": min(losses),
            "max": max(losses),
            "inRange": {"color": [GREEN, BLUE, AMBER]},
        },
        "series": [
            {
                "type": "parallel",
                "data": data,
                "lineStyle": {"width": 2, "opacity": 0.65},
                "emphasis": {"lineStyle": {"width": 4, "opacity": 1}},
                "smooth": False,
            }
        ],
    }


def _axis(number: int, name: str, values: Sequence[float]) -> Options:
    least, most = min(values), max(values)
    margin = (most - least) * 0.04 or abs(least) * 0.04 or 1
    is_loss, is_whole = name == "held-out loss", all(value.is_integer() for value in values)
    return {
        "dim": number,
        "name": name,
        "min": least - margin,
        "max": most + margin,
        "inverse": is_loss,
        "nameLocation": "start" if is_loss else "end",
        "minInterval": 1 if is_whole else 0,
        "nameTextStyle": {"color": INK, "fontSize": 11},
        "axisLine": {"lineStyle": {"color": INK}},
        "axisTick": {"lineStyle": {"color": FAINT}},
        "axisLabel": {
            "color": INK, "fontSize": 11, ":formatter": WHOLE if is_whole else LOSS, "showMinLabel": False,
            "showMaxLabel": False,
        },
        "splitNumber": 4,
    }  # fmt: skip
