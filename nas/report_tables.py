"""The numbers of a report as tables of words: under its figures, and on the terminal. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from nas import wording
from nas.report import SearchReport
from nas.report_words import SPENT_ON, zone_words

MOST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading; columns whose names begin with > are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_left_out: int = 0
    """Rows beyond MOST_ROWS."""


def trials_table(report: SearchReport) -> Table:
    """Return the trials that lead, the best first."""
    rows = [
        (
            str(trial.rank or wording.NOTHING),
            str(trial.number),
            trial.architecture,
            f"{trial.num_parameters:,}",
            wording.loss(trial.loss_before),
            wording.loss(trial.loss),
            f"{trial.num_tokens:,}",
            wording.ROLES[trial.role],
            trial.state.lower(),
        )
        for trial in report.trials
    ]
    columns = (
        ">rank", ">trial", "architecture", ">parameters", ">loss before", ">loss", ">tokens", "role", "state",
    )  # fmt: skip
    left_out = sum(report.counts.values()) - len(report.trials)
    return _table(columns, rows, left_out)


def spending_table(report: SearchReport) -> Table:
    """Return what was spent, by what became of the trials, in all, and by an exhaustive search."""
    spent = report.spending
    whole = max(spent.num_tokens, 1)
    rows = [
        (
            SPENT_ON[part.on],
            f"{part.num_trials:,}",
            f"{part.num_tokens:,}",
            f"{part.num_tokens / whole:.1%}",
            wording.hours(part.compute_seconds),
        )
        for part in spent.parts
    ]
    num_trials = sum(part.num_trials for part in spent.parts)
    in_all = f"{spent.num_tokens / whole:.0%}"
    rows.append(
        ("in all", f"{num_trials:,}", f"{spent.num_tokens:,}", in_all, wording.hours(spent.compute_seconds))
    )
    hours = wording.NOTHING if spent.exhaustive_seconds is None else wording.hours(spent.exhaustive_seconds)
    tokens = f"{spent.exhaustive_tokens:,}"
    rows.append(("every architecture that fits", f"{report.num_feasible:,}", tokens, wording.NOTHING, hours))
    return _table(("trials that", ">trials", ">tokens", ">share", ">worker hours"), rows)


def curves_table(report: SearchReport) -> Table:
    """Return the losses at which each drawn trial began and ended."""
    rows = [
        (
            str(curve.trial_number),
            curve.architecture,
            curve.state.lower(),
            wording.loss(curve.points[0].loss),
            wording.loss(curve.points[-1].loss),
            f"{curve.points[-1].num_tokens:,}",
        )
        for curve in report.curves
    ]
    return _table((">trial", "architecture", "state", ">first loss", ">last loss", ">tokens"), rows)


def agreement_table(report: SearchReport) -> Table:
    """Return Kendall's tau of each pair of token counts."""
    rows = [
        (
            f"{each.earlier:,}",
            f"{each.later:,}",
            str(each.num_trials),
            wording.NOTHING if each.tau is None else f"{each.tau:.3f}",
        )
        for each in report.agreement
    ]
    return _table((">earlier, tokens", ">later, tokens", ">trials", ">tau"), rows)


def importance_table(report: SearchReport) -> Table:
    """Return the share of each axis, the greatest first."""
    shares = report.importance.shares.items() if report.importance else ()
    ordered = sorted(shares, key=lambda each: -each[1])
    return _table(
        ("axis", ">share"), [(wording.AXES.get(name, name), f"{share:.1%}") for name, share in ordered]
    )


def zones_table(report: SearchReport) -> Table:
    """Return the zones: how many trials, how many of them behind, and whether it never works."""
    rows = [
        (
            zone_words(zone),
            str(zone.num_trials),
            str(zone.num_behind),
            wording.loss(zone.best_loss),
            wording.loss(zone.median_loss),
            wording.NOTHING if zone.chance is None else f"{zone.chance:.2g}",
            "never works" if zone.never_works else "",
        )
        for zone in (*report.zones.choices, *report.zones.pairs)
    ]
    return _table(("zone", ">trials", ">behind", ">best loss", ">median", ">by chance", "verdict"), rows)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], left_out: int = 0) -> Table:
    return Table(
        columns=columns,
        rows=tuple(rows[:MOST_ROWS]),
        num_left_out=left_out + max(0, len(rows) - MOST_ROWS),
    )
