"""The figures of what a search teaches: whether early rankings hold, which sizes go together, which axis decides, and
where nothing works. Pure.
"""

from collections.abc import Sequence

from nas import wording
from nas.agreement import MIN_TRIALS
from nas.report import SearchReport
from nas.report_marks import (
    AMBER,
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    NAMES,
    RED,
    Figure,
    Options,
    axis,
    kind_of,
    label,
    line,
    note,
)
from nas.report_tables import agreement_table, importance_table, trials_table, zones_table
from nas.report_words import listed, trials_words, zone_words
from nas.report_zones import LEAST_TRIALS, Zone
from nas.search import LEAST_TO_WEIGH
from nas.trial import TrialRole

MOST_LINES = 200
"""Of parallel coordinates."""


def agreement_figure(report: SearchReport) -> Figure:
    """Return how far early rankings are late ones."""
    found = {(each.earlier, each.later): each for each in report.agreement if each.tau is not None}
    rows = sorted({earlier for earlier, _ in found})
    columns = sorted({later for _, later in found})
    cells = [[found.get((row, column)) for column in columns] for row in rows]
    last = [each for (_, later), each in found.items() if columns and later == columns[-1]]
    told = "; ".join(f"after {wording.count(each.earlier)} tokens {each.tau:.2f}" for each in last)
    return Figure(
        name="agreement",
        title="Do trials rank early as they rank late?",
        reading="Kendall's tau between the order of the same trials at two token counts: 1 is the same order, 0 "
        "unrelated, -1 reversed. A rung is safe where its row is near 1 in the last column; 0 tokens is only pruned.",
        caption=f"Agreement with the order at the end: {told}."
        if told
        else f"Too few: told once {MIN_TRIALS} trials are measured at two token counts.",
        table=agreement_table(report),
        data=[
            {
                "type": "heatmap", "zmin": -1, "zmax": 1, "xgap": 2, "ygap": 2,
                "colorscale": [[0, RED], [0.5, "#f8f9fa"], [1, GREEN]],
                "x": [wording.count(column) for column in columns],
                "y": [wording.count(row) for row in rows],
                "z": [[each.tau if each else None for each in row] for row in cells],
                "textfont": {"color": "#212529"},
                "text": [[f"{each.tau:.2f}<br>n = {each.num_trials}" if each else "" for each in row] for row in cells],
                "texttemplate": "%{text}", "hoverongaps": False,
                "hovertemplate": "after %{y} and after %{x} tokens: tau %{z:.2f}<extra></extra>",
                "colorbar": {"title": {"text": "tau"}, "thickness": 12},
            }
        ]
        if rows
        else [],
        layout={
            "xaxis": {**axis("later, tokens"), "type": "category"},
            "yaxis": {**axis("earlier, tokens"), "type": "category", "autorange": "reversed"},
        },
        height=max(240, 130 + 55 * len(rows)),
    )  # fmt: skip


def parallel_figure(report: SearchReport) -> Figure:
    """Return sizes, parameters and loss of the trials of equal tokens."""
    compared = [trial for trial in report.trials if kind_of(trial) and trial.role.tells_of_architecture]
    most = max((trial.num_tokens for trial in compared), default=0)
    drawn = [trial for trial in compared if trial.num_tokens == most]
    drawn = sorted(drawn, key=lambda trial: trial.loss or 0.0)[:MOST_LINES]
    columns = {wording.AXES[name]: [float(trial.sizes[name]) for trial in drawn] for name in report.axes}
    columns["parameters"] = [float(trial.num_parameters) for trial in drawn]
    columns["loss"] = [trial.loss or 0.0 for trial in drawn]
    few = len(drawn) < MIN_TRIALS
    data: list[Options] = []
    for place, trial in reversed(list(enumerate(drawn))):
        is_best = trial == report.compared
        dash = "solid" if trial.role is TrialRole.SEARCH else "dot"
        colour = GREEN if is_best else _between(place / max(1, len(drawn) - 1))
        data.append({
            "type": "scatter", "mode": "lines+markers", "showlegend": False, "name": f"trial {trial.number}",
            "x": list(range(len(columns))),
            "y": [
                _height(values[place], values, is_reversed=name == "loss") for name, values in columns.items()
            ],
            "line": {"color": colour, "width": 3 if is_best else 1.3, "dash": dash},
            "opacity": 1 if is_best else 0.6, "marker": {"size": 4},
            "hovertemplate": f"{label(trial)}<br>loss {wording.loss(trial.loss)}<extra></extra>",
        })  # fmt: skip
    data.sort(key=lambda trace: trace["line"]["width"])
    best = report.compared
    sizes = (
        listed(f"{wording.AXES[name]} {size:,}" for name, size in best.sizes.items())
        if best and best.sizes
        else ""
    )
    told = f"; the best, trial {best.number}, has {sizes}" if best and sizes else ""
    return Figure(
        name="parallel",
        title="Architectures side by side",
        reading="Each line is a trial through its sizes, parameters and loss, all after equal tokens. Lines that "
        "end at the top right lose least: from blue to orange the loss rises, green is the best, dotted are baselines.",
        caption=f"Too few: told once {MIN_TRIALS} trials are measured at equal tokens."
        if few
        else f"{trials_words(len(drawn))} after {most:,} tokens{told}.",
        table=trials_table(report),
        data=[] if few else data,
        layout={
            "xaxis": {
                "automargin": True,
                "tickvals": list(range(len(columns))), "ticktext": list(columns), "gridcolor": GREY,
                "zeroline": False, "range": [-0.15, len(columns) - 0.6], "fixedrange": True,
            },
            "yaxis": {"visible": False, "range": [-0.1, 1.1], "fixedrange": True},
            "annotations": [
                _end(number, at, ends[at if name != "loss" else 1 - at], is_loss=name == "loss")
                for number, (name, values) in enumerate(columns.items())
                if values
                for ends in [(min(values), max(values))]
                for at in (0, 1)
            ],
        },
        height=400,
    )  # fmt: skip


def importance_figure(report: SearchReport) -> Figure:
    """Return which share of the differences each axis explains."""
    found = report.importance
    shares = sorted(found.shares.items(), key=lambda each: each[1]) if found else []
    shares = [(wording.AXES[name], share) for name, share in shares if name in wording.AXES]
    told = ", ".join(f"{name} {share:.0%}" for name, share in reversed(shares))
    return Figure(
        name="importance",
        title="Which axis decides?",
        reading="The share of the differences in loss that each searched axis explains, by fANOVA (Hutter et al., "
        "2014): a next "
        "search may try more sizes where the bar is long, and fix the axis where it is short.",
        caption=f"{told}; over {trials_words(found.num_trials)} trained to the end."
        if found
        else f"Not told: {LEAST_TO_WEIGH} trials trained to the last rung, with losses that differ, are needed.",
        table=importance_table(report),
        data=[
            {
                "type": "bar", "orientation": "h", "y": [name for name, _ in shares],
                "x": [share for _, share in shares], "text": [f"{share:.0%}" for _, share in shares],
                "textposition": "auto", "textangle": 0, "marker": {"color": BLUE}, "hoverinfo": "skip",
            }
        ]
        if shares
        else [],
        layout={
            "xaxis": axis("share of the differences in loss", tickformat=".0%", rangemode="tozero"),
            "yaxis": NAMES,
        },
        height=110 + 40 * max(2, len(shares)),
    )  # fmt: skip


def zones_figure(report: SearchReport) -> Figure:
    """Return the losses of each size, and where nothing works."""
    zones = report.zones
    told = [zone for zone in (*zones.choices, *(pair for pair in zones.pairs)) if zone.best_loss is not None]
    names = [f"{zone_words(zone)} (n = {zone.num_trials})" for zone in told]
    colours = [_zone_colour(zone) for zone in told]
    dead = [zone_words(zone) for zone in zones.dead]
    spans = [
        {
            "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
            "x": [zone.best_loss, zone.median_loss], "y": [name, name], "line": {"color": colour, "width": 2},
        }
        for zone, name, colour in zip(told, names, colours, strict=True)
    ]  # fmt: skip
    marks = [
        {
            "type": "scatter", "mode": "markers", "name": title, "y": names, "x": losses,
            "marker": {"symbol": symbol, "size": 9, "color": colours, "line": {"width": 1.5, "color": colours}},
            "hovertemplate": f"%{{y}}: {title} loss %{{x:.4f}}<extra></extra>",
        }
        for title, symbol, losses in (
            ("best", "circle", [zone.best_loss for zone in told]),
            ("median", "circle-open", [zone.median_loss for zone in told]),
        )
    ]  # fmt: skip
    if zones.median_loss is None or not told:
        caption = "Nothing can be told before trials with different sizes have come to the first rung."
    elif dead:
        caption = f"Never worked: {'; '.join(dead)}."
    else:
        caption = "None that never works could be told from chance."
    return Figure(
        name="zones",
        title="Zones that never work",
        reading="Losses of the trials with each size where the first rung stands: from their best (dot) to their median "
        "(ring), beside the median of all (dashed). A zone is red, and never works, where all its trials are clearly "
        "behind that median, none recovered, and chance alone would show such a zone in one of twenty reports at most; "
        f"grey ones hold fewer than {LEAST_TRIALS} trials, too few to judge.",
        caption=caption,
        table=zones_table(report),
        data=[*spans, *marks] if told else [],
        layout={
            "xaxis": axis("loss at the first rung"),
            "yaxis": {
                **NAMES,
                "autorange": "reversed",
                "type": "category",
                "gridcolor": FAINT,
                "tickfont": {"size": 12},
            },
            "shapes": [] if zones.median_loss is None else [line("x", zones.median_loss, INK)],
            "annotations": []
            if zones.median_loss is None
            else [note(x=zones.median_loss, text="median of all", color=INK, xanchor="left")],
            "showlegend": False,
        },
        height=120 + 26 * max(3, len(told)),
    )


def _zone_colour(zone: Zone) -> str:
    if zone.never_works:
        return RED
    return GREY if zone.num_trials < LEAST_TRIALS else BLUE


def _height(value: float, values: Sequence[float], *, is_reversed: bool) -> float:
    """Return where a value lies between the least and the greatest of its axis: 0 to 1."""
    least, most = min(values), max(values)
    share = 0.5 if least == most else (value - least) / (most - least)
    return round(1 - share if is_reversed else share, 4)


def _end(number: int, at: int, value: float, *, is_loss: bool) -> Options:
    """Return the number at the lower or the upper end of a parallel axis."""
    text = wording.loss(value) if is_loss else f"{value:,.0f}" if value < 100_000 else wording.count(value)
    return {
        "x": number, "y": at, "text": text, "showarrow": False, "font": {"size": 11, "color": INK},
        "yanchor": "bottom" if at else "top", "yshift": 6 if at else -6, "bgcolor": "rgba(255,255,255,.8)",
    }  # fmt: skip


def _between(share: float) -> str:
    """Return a colour between blue and amber."""
    pairs = [(int(BLUE[at : at + 2], 16), int(AMBER[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(one + (other - one) * share):02x}" for one, other in pairs)
