"""Promotion: how the best students of a search are retrained for longer, by a recipe of its own. Values only.

A promotion is run as a trial of its search, with the role PROMOTION; ``nas.choice`` says which of them wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from minitron.errors import InvalidRecipe
from minitron.recipe import DataRecipe, DistillationRecipe, TrainingRecipe
from nas.counts import out_of_range
from nas.errors import InvalidSpec, Problem
from nas.resources import Resources, not_together

Start = Literal["student", "pruned"]
LEAST_SHARDS = 2
"""From which a standard error can be told."""
MOST = {"top_k": 1000, "num_points": 1000, "num_shards": 1000}


def uncounted(values: Mapping[str, object]) -> list[Problem]:
    """Return which counts among the fields of a promotion are out of range."""
    return out_of_range(values, MOST, {"num_shards": LEAST_SHARDS}, section="promotion.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """How students are retrained for longer, and measured.

    Raises:
        InvalidSpec: A count out of range.
    """

    training: TrainingRecipe
    """The whole of it: how long, and by which schedule, which begins anew. A spec need only say how long, and what is to
    be otherwise than in the training of its trials."""
    top_k: int = 3
    """Completed trials, the best by their loss, that are promoted at the end of the search."""
    distillation: DistillationRecipe | None = None
    """None: as the search's own trials."""
    resources: Resources | None = None
    """What each gets, also several processes; None: as the search's own trials."""
    num_points: int = 4
    """Held-out evaluations on the way, evenly spaced in tokens, the last included."""
    num_shards: int = 8
    """Equal parts of the held-out tokens that the finished student is measured on one by one, so that a difference
    can be told from noise."""
    start: Start = "student"
    """``student``: from what the trial's own retraining made of it, with a fresh optimiser, as the papers retrain the
    candidate that they choose. ``pruned``: from the parent, pruned anew."""

    def __post_init__(self) -> None:
        problems = uncounted({name: getattr(self, name) for name in MOST})
        if problems:
            raise InvalidSpec(problems)

    def refusals(
        self, data: DataRecipe, distillation: DistillationRecipe, resources: Resources
    ) -> Sequence[Problem]:
        """Return what cannot be done of it by a search of these data, whose own trials are taught and run so."""
        problems: list[Problem] = []
        if data.validation_blocks < self.num_shards:
            reason = (
                f"found {self.num_shards}, allowed: at most {data.validation_blocks}, the held-out blocks, "
                "data.validation_tokens / data.sequence_length"
            )
            problems.append(("num_shards", reason))
        try:
            self.training.require_a_step(data.sequence_length)
        except InvalidRecipe as error:
            problems.append((error.field, error.reason))
        problems += not_together(
            self.resources or resources,
            self.training,
            self.distillation or distillation,
            sequence_length=data.sequence_length,
        )
        return [(f"promotion.{field}", reason) for field, reason in problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """A trial that somebody wants promoted, and how."""

    trial_number: int
    promotion: Promotion
    by: str = ""
    """Who wants that; empty: not known."""
    repeats: int | None = None
    """The number of the promotion of the same that failed or was cancelled, in place of which this one is; None: none."""
