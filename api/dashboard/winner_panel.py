"""The best student beside what it is judged by, and how to take it home."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nicegui import ui

from api.dashboard.theme import AMBER, BLUE, GREEN, PINK, code, heading, panel
from nas import wording
from nas.finals import Evaluated, overtaking, score_rows
from nas.frontier import Comparison
from nas.standing import SearchView
from nas.trial import Trial

HOW_TO_LOAD = """from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({path!r})"""


class WinnerPanel:
    """Invisible until a trial has completed; made anew when what it says changes."""

    def __init__(self) -> None:
        self._shown: object = None
        self._body = ui.column().classes("w-full")
        self._body.visible = False

    def show(self, view: SearchView, comparison: Comparison | None, directory: Path | None) -> None:
        """Bring the panel up to date."""
        search, best = view.search, view.best
        shown = (
            best,
            view.before_promotion,
            comparison,
            directory,
            search.state,
            search.evaluated,
            search.corrected_loss,
        )
        if shown == self._shown or comparison is None or best is None:
            return
        self._shown = shown
        self._body.visible = True
        self._body.clear()
        name = "Winner" if search.winner else "Best" if search.state.is_final else "Best so far"
        with self._body, panel(name):
            ui.label(_what(view, best)).classes("font-medium")
            teachers = (
                _Row("Parent", search.parent_loss),
                _Row(
                    "Corrected teacher",
                    search.corrected_loss,
                    "the parent, once it has learnt the training text",
                ),
            )
            winner = _Row(name, view.best_loss, f"after {wording.count(view.best_tokens or 0)} tokens", GREEN)
            random, indices = comparison.random_architectures, comparison.random_indices
            baselines = (
                _Row("Random architectures", wording.mean(random), _spread(random), AMBER),
                _Row("Random indices", wording.mean(indices), _spread(indices), PINK),
            )
            before = view.before_promotion
            if before is None:
                _versus(winner, *teachers, winner, *baselines)
            else:
                tokens = before.measurement.num_tokens if before.measurement else 0
                after = f"trial {before.number}, after {wording.count(tokens)} tokens"
                earlier = _Row("Best before promotion", comparison.winner_loss, after, BLUE)
                _versus(winner, *teachers, winner, earlier)
                if random or indices:
                    heading("Before promotion, at equal tokens", 3).classes("q-mt-sm")
                    _versus(earlier, earlier, *baselines)
            if search.evaluated:
                _scores(search.evaluated, best.number)
            if directory:
                _take_home(search.id, directory)


def _what(view: SearchView, best: Trial) -> str:
    """Return what the best student is, and what it costs."""
    promoted = f", the student of trial {best.promoted_from} retrained for longer" if best.promotion else ""
    share = best.architecture.parameter_count / view.search.parent_parameters
    costs = wording.costs(view.search.budget, best.architecture)
    return (
        f"Trial {best.number}, {best.architecture.name}{promoted}: {best.architecture.parameter_count:,} "
        f"parameters, {share:.1%} of the parent's" + "".join(f", {name} {number}" for name, number in costs)
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A model and its loss in nats per held-out token; None: not known, not shown."""

    name: str
    loss: float | None
    note: str = ""
    colour: str = "var(--soft)"


def _versus(reference: _Row, *rows: _Row) -> None:
    """Show models with their losses and how far these are from the reference's."""
    with ui.element("div").classes("versus"):
        for title in ("", "held-out loss", "difference"):
            ui.label(title).classes("soft")
        ui.label().classes("note")
        for row in rows:
            if row.loss is None or reference.loss is None:
                continue
            ui.label(row.name).classes("chip").style(f"--dot: {row.colour}")
            ui.label(wording.loss(row.loss)).classes("font-medium")
            ui.label("" if row is reference else f"{row.loss - reference.loss:+.4f}").classes("soft")
            ui.label(row.note).classes("soft note")


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
