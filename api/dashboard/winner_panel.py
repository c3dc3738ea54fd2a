"""The best student beside what it is judged by, and how to take it home."""

from collections.abc import Sequence
from pathlib import Path

from nicegui import ui

from api.dashboard.theme import AMBER, GREEN, PINK, code, heading, panel
from nas import wording
from nas.finals import Evaluated, overtaking, score_rows
from nas.frontier import Comparison
from nas.leaderboard import Line
from nas.standing import SearchView

HOW_TO_LOAD = """from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({path!r})"""


class WinnerPanel:
    """Invisible until a trial has completed; made anew when what it says changes."""

    def __init__(self) -> None:
        self._shown: object = None
        self._body = ui.column().classes("w-full")
        self._body.visible = False

    def show(
        self, view: SearchView, comparison: Comparison | None, directory: Path | None, promoted: Line | None
    ) -> None:
        """Bring the panel up to date; ``promoted`` is the winner where that was retrained for longer."""
        search = view.search
        shown = (
            view.best,
            comparison,
            directory,
            search.state,
            search.evaluated,
            search.corrected_loss,
            promoted,
        )
        if shown == self._shown or comparison is None or view.best is None:
            return
        self._shown = shown
        self._body.visible = True
        self._body.clear()
        best = view.best
        name = "Winner" if directory else "Best" if view.search.state.is_final else "Best so far"
        with self._body, panel(name):
            if promoted is not None:
                trial, name = promoted.record.trial, "Best before promotion"
                ui.label(
                    f"Trial {trial.number}, the student of trial {trial.promoted_from} retrained for longer, "
                    f"{trial.architecture.name}: held-out loss {wording.loss(promoted.loss)} after "
                    f"{wording.count(promoted.num_tokens)} tokens more"
                ).classes("font-medium")
                heading("Before promotion, at equal tokens", 3).classes("q-mt-sm")
            share = best.architecture.parameter_count / view.search.parent_parameters
            costs = wording.costs(view.search.budget, best.architecture)
            ui.label(
                f"Trial {best.number}, {best.architecture.name}: {best.architecture.parameter_count:,} "
                f"parameters, {share:.1%} of the parent's"
                + "".join(f", {name} {number}" for name, number in costs)
            ).classes("font-medium")
            _comparison(comparison, name, corrected=view.search.corrected_loss)
            if view.search.evaluated:
                _scores(view.search.evaluated, promoted.record.trial.number if promoted else best.number)
            if directory:
                _take_home(view.search.id, directory)


def _comparison(comparison: Comparison, winner: str, *, corrected: float | None) -> None:
    random = comparison.random_architectures
    rows = [
        ("Parent", comparison.parent_loss, "", "var(--soft)"),
        ("Corrected teacher", corrected, "the parent, once it has learnt the training text", "var(--soft)"),
        (winner, comparison.winner_loss, "", GREEN),
        ("Random architectures", wording.mean(random), _spread(random), AMBER),
        ("Random indices", wording.mean(comparison.random_indices), _spread(comparison.random_indices), PINK),
    ]
    with ui.element("div").classes("versus"):
        for title in ("", "held-out loss", "difference"):
            ui.label(title).classes("soft")
        ui.label().classes("note")
        for name, loss, note, colour in rows:
            if loss is None:
                continue
            ui.label(name).classes("chip").style(f"--dot: {colour}")
            ui.label(wording.loss(loss)).classes("font-medium")
            ahead = loss - comparison.winner_loss
            ui.label("" if name == winner else f"{ahead:+.4f}").classes("soft")
            ui.label(note).classes("soft note")


def _spread(losses: tuple[float, ...]) -> str:
    if not losses:
        return ""
    if len(losses) == 1:
        return "one, at equal tokens"
    return f"mean of {len(losses)} at equal tokens, best {min(losses):.4f}, worst {max(losses):.4f}"


def _scores(evaluated: Sequence[Evaluated], best: int) -> None:
    """Show teacher and finalists side by side, and say when another than the best by loss does better."""
    heading("Scores at tasks", 3).classes("q-mt-sm")
    with ui.element("div").style(
        f"display: grid; grid-template-columns: repeat({1 + len(evaluated)}, max-content); gap: 4px 20px; "
        "align-items: baseline; overflow-x: auto"
    ):
        for title in ("", *(wording.model(each.trial_number) for each in evaluated)):
            ui.label(title).classes("soft")
        for row in score_rows(evaluated):
            ui.label(wording.score_name(row)).classes("chip")
            for value in row.values:
                ui.label(f"{value:.4f}").style("font-variant-numeric: tabular-nums")
    higher = overtaking(evaluated, best)
    if higher:
        ui.label(f"{higher[:1].upper()}{higher[1:]}.").style("color: var(--warn)")


def _take_home(search_id: str, directory: Path) -> None:
    heading("Checkpoint", 3).classes("q-mt-sm")
    code(HOW_TO_LOAD.format(path=str(directory)), "python").classes("w-full")
    with ui.row().classes("items-center gap-3"):
        ui.button("Download", icon="download").props(
            f'no-caps unelevated href="/api/v1/searches/{search_id}/winner"'
        )
        ui.label(f"or: nas download {search_id}").classes("soft mono")
