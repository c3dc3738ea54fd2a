"""The students that were retrained for longer, which of them tie and who wins; and what asks for one more."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from api.dashboard.control_panel import Form
from api.dashboard.theme import BLUE, GREEN, GREY, STATE_COLOURS, panel
from nas import wording
from nas.patch import merge
from nas.promotion_asked import read_promotion
from nas.report_promotions import PromotedStudent, Promotions, promotion_words, standing_words
from nas.search import Search
from nas.service import SearchService
from nas.trial import Trial

COLUMNS = ("trial", "of", "parameters", "tokens", "loss before", "loss", "from the lowest", "")


class PromotionPanel:
    """Invisible where nothing is promoted; made anew when what it says changes."""

    def __init__(self) -> None:
        self._shown: Promotions | None = None
        self._body = ui.column().classes("w-full")
        self._body.visible = False

    def show(self, found: Promotions | None) -> None:
        """Bring the panel up to date."""
        if found == self._shown:
            return
        self._shown = found
        self._body.visible = found is not None
        self._body.clear()
        if found is None:
            return
        with self._body, panel("Promoted students"):
            for sentence in promotion_words(found):
                ui.label(sentence)
            if found.students:
                _table(found)
                ui.label(
                    "Plus or minus one standard error, over shards of held-out text. Of a difference it is far smaller "
                    "than of a loss, since a shard is easy or hard for both; below two of it a difference is a tie."
                ).classes("soft")


def _table(found: Promotions) -> None:
    with (
        ui.element("table").classes("beside").props('aria-label="Promoted students"'),
        ui.element("tbody"),
    ):
        with ui.element("tr"):
            for title in COLUMNS:
                with ui.element("th").props("scope=col"):
                    ui.label(title).classes("soft")
        for student in found.students:
            with ui.element("tr"):
                for cell in _cells(student):
                    with ui.element("td"):
                        ui.label(cell).classes("font-medium" if student.is_winner else "")
                with ui.element("td"):
                    colour = STATE_COLOURS[student.state]
                    if student.difference is not None:
                        colour = GREEN if student.is_winner else BLUE if student.is_tied else GREY
                    ui.label(standing_words(found, student)).classes("chip").style(f"--dot: {colour}")


def _cells(student: PromotedStudent) -> tuple[str, ...]:
    tokens = wording.count(student.num_tokens)
    if student.num_tokens < student.of_tokens:
        tokens += f" of {wording.count(student.of_tokens)}"
    difference = "" if student.difference is None else f"{student.difference:+.4f}"
    return (
        str(student.trial_number),
        f"trial {student.promoted_from}, {student.architecture}",
        wording.count(student.num_parameters),
        tokens,
        wording.loss(student.loss_before),
        wording.with_error(wording.loss(student.loss), student.shard_error),
        wording.with_error(difference, student.difference_error or None),
    )


async def ask_to_promote(
    service: SearchService, search: Search, trial: Trial, changed: Callable[[], Awaitable[None]]
) -> None:
    """Ask for how long, and by which recipe, a trial's student is to be retrained, and order that."""
    own = search.spec.promotion
    with Form(
        f"Promote trial {trial.number}",
        "Its student is retrained for longer, with a schedule that begins anew, and competes to be the winner. "
        "A search that is over is queued again for that.",
    ) as form:
        tokens = form.number(
            "Tokens to train on", own.training.num_tokens if own else 4 * search.spec.training.num_tokens
        )
        recipe = (
            ui.textarea(
                "What is to be otherwise, in YAML", placeholder="training: {peak_learning_rate: 1e-4}"
            )
            .props("outlined dense autogrow")
            .classes("w-full mono")
        )

    def act() -> None:
        patch = merge(read_promotion(recipe.value or ""), {"training": {"num_tokens": tokens.value}})
        service.control.promote(search.id, trial.number, patch)

    if await form.answer("Promote", act, is_dangerous=False):
        await changed()
