"""The finals of a search: its teacher and its best students put to tasks, in one run after the trials.

A second score beside the held-out loss: a student that lost whole layers may predict text well and have forgotten
what the layers knew. Values and pure decisions; knows no task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from minitron.errors import InvalidRecipe
from minitron.stage_recipes import EvaluationRecipe, TaskScore

MOST_FINALISTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(EvaluationRecipe):
    """Tasks that teacher and finalists are put to; needs the extra ``[eval]`` where trials run."""

    finalists: int = 3
    """Completed trials, the best by their loss."""

    def __post_init__(self) -> None:
        EvaluationRecipe.__post_init__(self)  # slots make a new class, which super() does not know
        if not self.tasks:
            raise InvalidRecipe("evaluation.tasks", "found none, allowed: at least one")
        if not 1 <= self.finalists <= MOST_FINALISTS:
            raise InvalidRecipe(
                "evaluation.finalists", f"found {self.finalists}, allowed: 1 to {MOST_FINALISTS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What one model scored."""

    trial_number: int | None
    """Of a student; None: the teacher, corrected where the search corrects it."""
    scores: tuple[TaskScore, ...]
    """By task and metric, the same for every model of a search."""

    @property
    def mean(self) -> float | None:
        """The mean of the scores of which more is better; None without such."""
        values = [score.value for score in self.scores if score.higher_is_better]
        return fmean(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One task and metric over all models that were asked."""

    name: str
    higher_is_better: bool
    values: tuple[float, ...]
    """In the order of the models."""


def score_rows(evaluated: Sequence[Evaluated]) -> list[ScoreRow]:
    """Return the scores of all models side by side."""
    return [
        ScoreRow(
            name=scores[0].name,
            higher_is_better=scores[0].higher_is_better,
            values=tuple(score.value for score in scores),
        )
        for scores in zip(*(each.scores for each in evaluated), strict=True)
    ]


def overtaking(evaluated: Sequence[Evaluated], best: int) -> str | None:
    """Return, for people, which finalist does better at the tasks than the trial ``best`` of the lowest loss.

    None where none does, or nothing was asked.
    """
    means = {
        each.trial_number: each.mean
        for each in evaluated
        if each.trial_number is not None and each.mean is not None
    }
    if best not in means:
        return None
    number = max(means, key=lambda number: means[number])
    if means[number] <= means[best]:
        return None
    return (
        f"trial {number} scores higher at the tasks than trial {best}, whose loss is lowest: "
        f"{means[number]:.4f} against {means[best]:.4f} on average"
    )
