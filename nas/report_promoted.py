"""The figure of the students that were promoted, and its numbers. Pure."""

from nas import wording
from nas.report import SearchReport
from nas.report_marks import BLUE, GREEN, GREY, INK, NAMES, Figure, Options, axis, line, note
from nas.report_promotions import PromotedStudent, Promotions, promotion_words, standing_words
from nas.report_tables import Table

HEIGHT, ROW_HEIGHT = 150, 34


def promotions_figure(report: SearchReport) -> Figure:
    """Return the losses of promoted students beside the lowest, with the errors of the differences."""
    found = report.promotions
    assert found is not None
    compared = [student for student in found.students if student.difference is not None]
    data: list[Options] = [
        {
            "type": "scatter", "mode": "markers", "showlegend": False,
            "x": [student.difference for student in compared], "y": list(map(_name, compared)),
            "error_x": {
                "array": [student.difference_error or 0.0 for student in compared], "color": GREY, "thickness": 1.5,
            },
            "marker": {"size": 10, "color": list(map(_colour, compared))},
            "text": [
                wording.with_error(wording.loss(student.loss), student.shard_error) for student in compared
            ],
            "hovertemplate": "%{y}<br>loss %{text}<extra></extra>",
        }
    ]  # fmt: skip
    return Figure(
        name="promotions",
        title="Promoted students",
        reading="How much more each student loses than the one that loses least, after its longer retraining; bars are one "
        "standard error of the difference over shards of held-out text. Green wins, blue ties with the lowest, grey is behind.",
        caption=" ".join(promotion_words(found)),
        table=_table(found),
        data=data if compared else [],
        layout={
            "xaxis": axis("loss above the lowest, nats per token"),
            "yaxis": {**NAMES, "autorange": "reversed"},
            "shapes": [line("x", 0.0, INK)],
            "annotations": [note(x=0.0, text="lowest", color=INK)],
        },
        height=HEIGHT + ROW_HEIGHT * len(compared),
    )


def _name(student: PromotedStudent) -> str:
    return f"trial {student.trial_number}, of {student.promoted_from}"


def _colour(student: PromotedStudent) -> str:
    return GREEN if student.is_winner else BLUE if student.is_tied else GREY


def _table(found: Promotions) -> Table:
    return Table(
        columns=(
            ">trial", ">of", "architecture", ">parameters", ">tokens", ">loss before", ">loss", ">above the lowest",
            "verdict",
        ),
        rows=tuple(
            (
                str(student.trial_number),
                str(student.promoted_from),
                student.architecture,
                f"{student.num_parameters:,}",
                f"{student.num_tokens:,}",
                wording.loss(student.loss_before),
                wording.with_error(wording.loss(student.loss), student.shard_error),
                wording.with_error(wording.loss(student.difference), student.difference_error or None),
                standing_words(found, student),
            )
            for student in found.students
        ),
    )  # fmt: skip
