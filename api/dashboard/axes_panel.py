"""Which axis decides: the share of the differences in loss that each explains, as the search's worker weighed it."""

from nicegui import ui

from api.dashboard.snapshot import Snapshot
from api.dashboard.theme import panel
from nas import wording
from nas.frontier import trained_architectures
from nas.search import LEAST_TO_WEIGH, AxisImportance

WHY = "Share of the differences in loss, by fANOVA (Hutter et al., 2014), over {count} trials trained to the last rung."


class AxesPanel:
    """Bars; made anew when they change."""

    def __init__(self) -> None:
        self._shown: object = None
        with panel("Which axis decides?"):
            self._body = ui.column().classes("w-full gap-2")

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panel up to date."""
        search = snapshot.search
        found = search.importance
        trained = len(trained_architectures(line.record.trial for line in snapshot.lines))
        shown = (found, trained, search.state)
        if shown == self._shown:
            return
        self._shown = shown
        self._body.clear()
        with self._body:
            if found is not None:
                ui.html(bars(found), sanitize=False).classes("w-full")
                ui.label(WHY.format(count=found.num_trials)).classes("soft")
            elif trained < LEAST_TO_WEIGH:
                ended = "" if search.state.is_final else " so far"
                ui.label(
                    f"Too few to tell: {LEAST_TO_WEIGH} trials trained to the last rung are needed, "
                    f"{trained} {'is' if trained == 1 else 'are'}{ended}."
                ).classes("soft")
            elif search.state.is_final:
                ui.label(
                    "Not weighed: all trials lose the same, or its worker was of an older version."
                ).classes("soft")
            else:
                ui.label("Being weighed.").classes("soft")


def bars(found: AxisImportance) -> str:
    """Return a bar for each axis, the one that matters most first."""
    rows = "".join(
        f'<div class="shape-name">{wording.AXES[name]}</div>'
        f'<div class="shape-bar"><i style="width: {share:.2%}"></i></div>'
        f'<div class="shape-words">{wording.percent(share)}</div>'
        for name, share in sorted(found.shares.items(), key=lambda each: -each[1])
        if name in wording.AXES
    )
    return f'<div class="shape">{rows}</div>'
