"""Whether early rankings are worth anything: Kendall's tau between losses at each pair of token counts."""

from collections.abc import Sequence

from nicegui import ui

from api.dashboard.theme import panel
from nas import wording
from nas.agreement import MIN_TRIALS, Agreement

WHY = (
    "Kendall's tau between the order of the same trials at two token counts: 1 the same order, 0 unrelated, -1 reversed. "
    "A rung is safe where its row is near 1 at the last column. 0 tokens: only pruned."
)


class RankingPanel:
    """A small heat map; made anew when it changes."""

    def __init__(self) -> None:
        self._shown: Sequence[Agreement] | None = None
        with panel("Do trials rank early as they rank late?"):
            self._body = ui.column().classes("w-full gap-2")

    def show(self, agreement: Sequence[Agreement]) -> None:
        """Bring the panel up to date."""
        if agreement == self._shown:
            return
        self._shown = list(agreement)
        self._body.clear()
        with self._body:
            if any(each.num_trials >= MIN_TRIALS for each in agreement):
                ui.html(heat_map(agreement), sanitize=False).classes("w-full").style("overflow-x: auto")
                ui.label(WHY).classes("soft")
            else:
                ui.label(f"Too few: told once {MIN_TRIALS} trials are measured at two token counts.").classes(
                    "soft"
                )


def heat_map(agreement: Sequence[Agreement]) -> str:
    """Return a table with a row for each earlier and a column for each later token count, coloured by tau."""
    found = {(each.earlier, each.later): each for each in agreement}
    earlier = sorted({each.earlier for each in agreement})
    later = sorted({each.later for each in agreement})
    head = "".join(f'<th scope="col">{wording.count(count)}</th>' for count in later)
    rows = "".join(
        f'<tr><th scope="row">{wording.count(row)}</th>'
        + "".join(_cell(found.get((row, column))) for column in later)
        + "</tr>"
        for row in earlier
    )
    corner = '<td class="soft">tokens</td>'
    return f'<table class="heat"><thead><tr>{corner}{head}</tr></thead><tbody>{rows}</tbody></table>'


def _cell(each: Agreement | None) -> str:
    if each is None:
        return "<td></td>"
    number = f'<span class="soft">n = {each.num_trials}</span>'
    if each.tau is None:
        words = "too few" if each.num_trials < MIN_TRIALS else "all tie"
        return f'<td><span class="soft">{words}</span><br>{number}</td>'
    # Green agrees, red disagrees; how strongly is how solid it is.
    colour = "18, 184, 134" if each.tau >= 0 else "224, 49, 49"
    shade = f"background: rgba({colour}, {abs(each.tau) * 0.55:.2f})"
    return f'<td style="{shade}"><b>{each.tau:.2f}</b><br>{number}</td>'
