"""The stages that a compression may have beside pruning and distillation: complete, and checked when made.

Free of torch. Knows neither the models nor how the stages are done.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from minitron.errors import InvalidRecipe
from minitron.recipe import TrainingRecipe

MOST_SEED = 2**32 - 1
"""That NumPy's global generator, which TRL seeds, takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionRecipe:
    """How the parent is fine-tuned on the distillation data, by the label loss, before it answers as the teacher.

    Batch, optimiser and the form of the schedule are those of the students' training.
    """

    num_tokens: int | None = None
    """Length; None: that of the students' training."""
    learning_rate_ratio: float = 0.2
    """The peak rate, as a fraction of the students'."""
    mode: Literal["before", "alongside"] = "before"
    """``before``: students learn from what the parent becomes. ``alongside``: they are trained meanwhile, and learn
    from what the parent has become by then."""
    stages: int = 8
    """Of ``alongside``: in so many equal parts of its own training the parent answers as it was when each began."""

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise InvalidRecipe("correction.stages", f"found {self.stages}, allowed: at least 1")
        if self.num_tokens is not None and self.num_tokens < 1:
            raise InvalidRecipe("correction.num_tokens", f"found {self.num_tokens}, allowed: at least 1")
        if not 0 < self.learning_rate_ratio <= 1:
            found = self.learning_rate_ratio
            raise InvalidRecipe(
                "correction.learning_rate_ratio", f"found {found}, allowed: above 0, at most 1"
            )

    def training(self, students: TrainingRecipe) -> TrainingRecipe:
        """Return how the parent is trained where the students are trained by ``students``.

        Raises:
            InvalidRecipe: Fewer tokens than one step.
        """
        num_tokens = students.num_tokens if self.num_tokens is None else self.num_tokens
        if num_tokens < students.batch_tokens:
            raise InvalidRecipe(
                "correction.num_tokens", f"found {num_tokens}, allowed: at least one step of batch_tokens"
            )
        if self.mode == "alongside":
            self._require_alongside(num_tokens, students)
        return replace(
            students,
            num_tokens=num_tokens,
            warmup_tokens=students.warmup_tokens * num_tokens // students.num_tokens,
            peak_learning_rate=students.peak_learning_rate * self.learning_rate_ratio,
        )

    def _require_alongside(self, num_tokens: int, students: TrainingRecipe) -> None:
        """Raise InvalidRecipe for a correction that cannot keep step with the students."""
        if num_tokens > students.num_tokens:
            raise InvalidRecipe(
                "correction.num_tokens",
                f"found {num_tokens}, allowed with mode alongside: at most the students' {students.num_tokens}",
            )
        num_steps = num_tokens // students.batch_tokens
        if self.stages > num_steps:
            raise InvalidRecipe(
                "correction.stages", f"found {self.stages}, allowed: at most {num_steps}, the steps of it"
            )

    def num_kept(self, *, keeps_stages: bool) -> int:
        """Return how many checkpoints of the parent are kept at most, where those that answer on the way are or are not."""
        return self.stages if self.mode == "alongside" and keeps_stages else 1

    def stage_starts(self, num_steps: int) -> tuple[int, ...]:
        """Return after how many of its ``num_steps`` steps the parent answers anew, from 0 to its end.

        What it becomes at its end answers where students are trained for longer.
        """
        return tuple(sorted({num_steps * stage // self.stages for stage in range(self.stages + 1)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentRecipe:
    """How a student learns from chats, or from preferences; needs the extra ``[align]``."""

    learning_rate: float
    """Peak of a cosine, after a warm-up over a tenth of the steps."""
    num_epochs: float = 1.0
    batch_size: int = 8
    """Rows of an optimiser step."""
    max_length: int = 1024
    """Tokens of a row; longer ones are cut at their end."""
    beta: float = 0.1
    """Of preferences: how near the student is held to what it was; more is nearer."""
    seed: int = 0
    """Shuffles the rows."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "num_epochs", "beta"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidRecipe(f"alignment.{name}", f"found {value}, allowed: above 0, and finite")
        for name, least in (("batch_size", 1), ("max_length", 8)):
            value = getattr(self, name)
            if value < least:
                raise InvalidRecipe(f"alignment.{name}", f"found {value}, allowed: at least {least}")
        if not 0 <= self.seed <= MOST_SEED:
            raise InvalidRecipe("alignment.seed", f"found {self.seed}, allowed: 0 to {MOST_SEED}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecipe:
    """Tasks of the lm-evaluation-harness and how models are asked; needs the extra ``[eval]``."""

    tasks: tuple[str, ...] = ()
    """Names of tasks, groups or tags, or patterns of names such as ``mmlu_*``."""
    task_path: str | None = None
    """A directory of further tasks, as YAML files in the harness's form."""
    num_fewshot: int | None = None
    """Examples that come before a question; None: as each task says, else none."""
    limit: int | None = None
    """Questions of each task that are asked, from the first; None: all."""
    chat: bool = False
    """Ask through the tokenizer's chat template, as instruct models are meant to be asked."""
    batch_size: int = 8
    """Rows per forward pass; changes speed and memory, and scores by rounding alone."""

    def __post_init__(self) -> None:
        for name, least in (("num_fewshot", 0), ("limit", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidRecipe(f"evaluation.{name}", f"found {value}, allowed: at least {least}")
        if not all(self.tasks):
            raise InvalidRecipe("evaluation.tasks", "found an empty name, allowed: names of tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One number that a model reached at one task."""

    task: str
    metric: str
    """As the harness calls it, for example ``acc_norm``; behind a comma the filter of answers, where there is one."""
    value: float
    stderr: float | None = None
    """Standard error over the questions; None where the metric has none."""
    higher_is_better: bool = True
    num_samples: int
    num_fewshot: int = 0

    @property
    def name(self) -> str:
        """Task and metric together."""
        return f"{self.task} {self.metric}"
