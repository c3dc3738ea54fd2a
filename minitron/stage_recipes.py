"""The stages that a compression may have beside pruning and distillation: complete, and checked when made.

Free of torch. Knows neither the models nor how the stages are done.
"""

from dataclasses import dataclass

from minitron.errors import InvalidRecipe


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
