"""The figures of a report: what the search found and what that cost, and after them what it teaches.

Each is Plotly's JSON with how it is read, what it shows and its numbers. Pure; draws nothing and loads no library.
"""

from nas import wording
from nas.report import SearchReport
from nas.report_lessons import agreement_figure, importance_figure, parallel_figure, zones_figure
from nas.report_marks import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    KINDS,
    NAMES,
    PALE,
    PINK,
    RED,
    Figure,
    Options,
    axis,
    kind_of,
    label,
    line,
    note,
    tokens_and_hours,
    value_range,
)
from nas.report_promoted import promotions_figure
from nas.report_tables import curves_table, spending_table, trials_table
from nas.report_words import SPENT_ON, cost_words, listed, trials_words


def figures(report: SearchReport) -> list[Figure]:
    """Return the figures of a report in reading order."""
    return [
        _front(report),
        _cost(report),
        _spent(report),
        _curves(report),
        *([promotions_figure(report)] if report.promotions else []),
        agreement_figure(report),
        parallel_figure(report),
        importance_figure(report),
        zones_figure(report),
    ]


def _front(report: SearchReport) -> Figure:
    drawn = [trial for trial in report.trials if kind_of(trial)]
    data: list[Options] = [
        {
            "type": "scatter", "mode": "markers", "name": kind, "marker": {**marker, "line": {"width": 1.5}},
            "x": [trial.cost for trial in own],
            "y": [trial.loss for trial in own],
            "text": [label(trial) for trial in own],
            "hovertemplate": f"%{{text}}<br>loss %{{y:.4f}}, %{{x:,}} {report.cost}<extra></extra>",
        }
        for kind, marker in KINDS.items()
        if (own := [trial for trial in drawn if kind_of(trial) == kind])
    ]  # fmt: skip
    if len(report.front) > 1:
        data.insert(0, {
            "type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
            "x": [trial.cost for trial in report.front], "y": [trial.loss for trial in report.front],
            "line": {"shape": "hv", "color": GREEN, "width": 1.5},
        })  # fmt: skip
    shapes, notes = [], []
    is_budgeted = report.cost == wording.COUNTED[report.counting]
    if is_budgeted and report.max_parameters is not None:
        shapes.append(line("x", report.max_parameters, RED))
        notes.append(note(x=report.max_parameters, text="budget", color=RED, xanchor="right"))
    if report.parent_loss is not None:
        shapes.append(line("y", report.parent_loss, INK))
        text = f"parent, {wording.count(report.parent_parameters)} parameters"
        notes.append(note(y=report.parent_loss, text=text, color=INK))
    best = report.compared
    caption = (
        f"{trials_words(len(report.front))} on the front; the best, trial {best.number}, loses "
        f"{wording.loss(best.loss)} at {wording.count(best.cost)} {report.cost}."
        if best
        else "No trial has been trained to the end yet."
    )
    return Figure(
        name="front",
        title=f"Loss against {report.cost}",
        reading="Each mark is a student: lower is better, further left costs less; hollow marks were measured after "
        "fewer tokens and look worse for that. The step line is the front, students that none beats at the same cost or less.",
        caption=f"{caption} {_left_out(len(report.trials), report)}".rstrip(),
        table=trials_table(report),
        data=data,
        layout={
            "xaxis": axis(report.cost, exponentformat="B"),
            "yaxis": axis("held-out loss, nats per token"),
            "shapes": shapes,
            "annotations": notes,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        },
        height=430,
    )


def _cost(report: SearchReport) -> Figure:
    spent = report.spending
    tokens = [spent.num_tokens, spent.exhaustive_tokens]
    names = [
        f"this search<br>{tokens_and_hours(spent.num_tokens, spent.compute_seconds)}",
        f"all that fit<br>{tokens_and_hours(spent.exhaustive_tokens, spent.exhaustive_seconds)}",
    ]
    bars = {
        "type": "bar", "orientation": "h", "y": names, "x": tokens, "marker": {"color": [GREEN, PALE]},
        "hoverinfo": "skip",
    }  # fmt: skip
    more = "" if report.state.is_final else " It has not ended, so its bar still grows."
    return Figure(
        name="saved",
        title="Saved against exhaustive search",
        reading="How many tokens students were trained on, beside training each architecture that fits the budget "
        "once to the last rung, as the Minitron papers do; hours of the latter are at this search's pace.",
        caption=cost_words(spent, report.num_feasible) + more,
        table=spending_table(report),
        data=[bars] if spent.num_tokens else [],
        layout={
            "xaxis": axis("tokens of retraining", exponentformat="B", rangemode="tozero"),
            "yaxis": {**NAMES, "autorange": "reversed"},
            "showlegend": False,
        },
        height=210,
    )


def _spent(report: SearchReport) -> Figure:
    spent = report.spending
    parts = [part for part in spent.parts if part.num_tokens or part.compute_seconds]
    colours = [BLUE, PALE, RED, AMBER, "#74c0fc", PINK, GREEN]
    by_part = dict(zip(SPENT_ON, colours, strict=True))
    tokens, seconds = max(spent.num_tokens, 1), spent.compute_seconds or 1.0
    data = [
        {
            "type": "bar", "orientation": "h", "name": SPENT_ON[part.on], "y": ["tokens", "hours"],
            "x": [part.num_tokens / tokens, part.compute_seconds / seconds],
            "text": [wording.count(part.num_tokens), wording.hours(part.compute_seconds)],
            "textposition": "inside", "insidetextanchor": "middle", "marker": {"color": by_part[part.on]},
            "hovertemplate": f"{SPENT_ON[part.on]}: %{{text}}, %{{x:.1%}} of the %{{y}}<extra></extra>",
        }
        for part in parts
    ]  # fmt: skip
    told = [
        f"{SPENT_ON[part.on]} {tokens_and_hours(part.num_tokens, part.compute_seconds)} "
        f"({trials_words(part.num_trials)})"
        for part in spent.parts
    ]
    whole = tokens_and_hours(spent.num_tokens, spent.compute_seconds)
    return Figure(
        name="spent",
        title="What tokens and hours went into",
        reading="The upper bar shares out the tokens of retraining, the lower one the worker hours, by what became of "
        "the trials; what was spent on stopped trials is the price of comparing early.",
        caption=f"In all {whole}: {'; '.join(told)}." if told else "No trial has begun yet.",
        table=spending_table(report),
        data=data,
        layout={
            "barmode": "stack",
            "xaxis": axis("share", tickformat=".0%", range=[0, 1]),
            "yaxis": {**NAMES, "autorange": "reversed"},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        },
        height=230,
    )


def _curves(report: SearchReport) -> Figure:
    kinds = {trial.number: kind_of(trial) for trial in report.trials}
    data: list[Options] = []
    ends: list[float] = []
    for curve in report.curves:
        kind = kinds.get(curve.trial_number) or "failed"
        colour = KINDS[kind]["color"] if kind in KINDS else RED
        is_best = kind == wording.BEST_AT_EQUAL_TOKENS
        ends += [point.loss for point in curve.points if point.num_tokens]
        data.append({
            "type": "scatter", "mode": "lines+markers", "showlegend": False,
            "name": f"trial {curve.trial_number}, {kind}",
            "x": [point.num_tokens for point in curve.points], "y": [point.loss for point in curve.points],
            "line": {"color": colour, "width": 3 if is_best else 1.3}, "opacity": 1 if is_best else 0.6,
            "marker": {"size": 5 if is_best else 3},
            "hovertemplate": f"trial {curve.trial_number}, {curve.architecture}, {kind}"
            "<br>loss %{y:.4f} after %{x:,} tokens<extra></extra>",
        })  # fmt: skip
    shapes = [line("x", rung, GREY) for rung in report.rungs[:-1]]
    notes = [note(x=rung, text="rung", color=GREY, xanchor="left") for rung in report.rungs[:-1]]
    if report.parent_loss is not None:
        ends.append(report.parent_loss)
        shapes.append(line("y", report.parent_loss, INK))
        notes.append(note(y=report.parent_loss, text="parent", color=INK))
    shown = f"{trials_words(len(report.curves))} drawn, of {sum(report.counts.values()):,}."
    rungs = listed(f"{rung:,}" for rung in report.rungs)
    return Figure(
        name="curves",
        title="Learning curves",
        reading="Held-out loss on the way: green is the best of equal tokens, blue others trained to the end, grey those "
        "stopped at a rung, orange and pink baselines. Just-pruned students begin far above and enter the picture from its top.",
        caption=f"{shown} Trials are compared after {rungs} tokens." if data else "Nothing is measured yet.",
        table=curves_table(report),
        # The best last, so that it is drawn on top.
        data=sorted(data, key=lambda trace: trace["line"]["width"]),
        layout={
            "xaxis": axis("tokens of retraining", exponentformat="B", rangemode="tozero"),
            "yaxis": axis("held-out loss, nats per token", **value_range(ends)),
            "shapes": shapes,
            "annotations": notes,
        },
        height=400,
    )


def _left_out(shown: int, report: SearchReport) -> str:
    there = sum(report.counts.values())
    return (
        f"{there - shown:,} of {there:,} trials are left out, those that lead are not."
        if there > shown
        else ""
    )
