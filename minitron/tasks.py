"""What a model knows and can do: its scores at tasks of the lm-evaluation-harness.

Knows neither searches nor students. The only module that speaks lm-eval, the extra ``[eval]``. Tasks of a local
directory need no network, unless they name data of the hub.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minitron.checkpoint import one_line, require_chat_template
from minitron.device import inference
from minitron.errors import DivergedTraining, UnreadableTask
from minitron.progress import Progress, Report, silent
from minitron.quiet import quiet
from minitron.stage_recipes import EvaluationRecipe, TaskScore

FEWSHOT_SEED = 1234
"""The harness's own: the same examples come before the same question in every run."""
RESAMPLES = 1_000
"""Of the bootstrap, for the standard error of metrics that have no formula for it."""
MOST_NAMED = 4


class Tasks:
    """Tasks that were found and read, to be put to one model after another.

    Raises:
        UnreadableTask: A task that is not there, cannot be read, lacks its data, or would run code that a model
            writes.
    """

    def __init__(self, recipe: EvaluationRecipe, report: Report = silent) -> None:
        report(Progress(stage="reading tasks"))
        self._recipe = recipe
        with quiet("lm_eval"):
            manager, names = _found(recipe)
            self._loaded: dict[str, Any] = _loaded(manager, names)
        for name, task in self._loaded["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False):
                raise UnreadableTask(f"tasks: {name}: runs code that a model writes, allowed: others")
            _set_fewshot(task, recipe.num_fewshot)
            _require_examples(name, task)

    def put_to(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, report: Report = silent
    ) -> tuple[TaskScore, ...]:
        """Return what a model scores, by task and metric; the order does not depend on the model.

        Raises:
            InvalidRecipe: ``chat`` was asked for and the tokenizer has no chat template.
            DivergedTraining: A score is not finite.
        """
        if self._recipe.chat:
            require_chat_template(tokenizer, field="evaluation.chat")
        with quiet("lm_eval"), inference(model):
            results: Mapping[str, Any] = evaluate(
                lm=_Asked(model, tokenizer, self._recipe.batch_size, report),
                task_dict=self._loaded,
                limit=self._recipe.limit,
                bootstrap_iters=RESAMPLES,
                log_samples=False,
                apply_chat_template=self._recipe.chat,
                fewshot_as_multiturn=self._recipe.chat,
            )
        scores = tuple(_scores(results))
        for score in scores:
            if not torch.isfinite(torch.tensor(score.value)):
                raise DivergedTraining(f"{score.name}: found {score.value}, allowed: a finite number")
        return scores


class _Asked(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """A model as the harness asks it, which tells how far it is."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, report: Report
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._report = report
        self._done = self._total = 0

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
        with self._told(requests):
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
        with self._told(requests):
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
        with self._told(requests):
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

    @contextmanager
    def _told(self, requests: Sequence[Any]) -> Iterator[None]:
        self._done, self._total = 0, len(requests)
        yield
        self._tell(self._total)

    def _model_call(self, inps: torch.Tensor, *others: Any, **named: Any) -> Any:
        self._tell(len(inps))
        return super()._model_call(inps, *others, **named)

    def _model_generate(self, context: torch.Tensor, *others: Any, **named: Any) -> Any:
        self._tell(len(context))
        return super()._model_generate(context, *others, **named)

    def _tell(self, more: int) -> None:
        # Requests of one context are answered by one row, so there may be fewer rows than requests.
        self._done = min(self._total, self._done + more)
        self._report(Progress(stage="tasks", done=self._done, total=self._total, unit="requests"))


def _found(recipe: EvaluationRecipe) -> tuple[Any, list[str]]:
    """Return a manager of tasks, and the names of those that were asked for."""
    if recipe.task_path is not None:
        if not Path(recipe.task_path).is_dir():
            raise UnreadableTask(
                f"task_path: {recipe.task_path}: no such directory, allowed: one of task files"
            )
        # To read the harness's own thousands takes seconds, and local tasks may do without.
        local = TaskManager(include_path=recipe.task_path, include_defaults=False)
        if set(recipe.tasks) <= set(local.all_subtasks):
            return local, list(recipe.tasks)
    manager = TaskManager(include_path=recipe.task_path)
    names: list[str] = []
    for name in recipe.tasks:
        matching = manager.match_tasks([name])
        if not matching:
            near = get_close_matches(name, manager.all_tasks, n=MOST_NAMED)
            hint = f"near: {', '.join(near)}" if near else "a task of lm-eval or of task_path"
            raise UnreadableTask(f"tasks: found {name!r}, allowed: {hint}")
        names += [each for each in matching if each not in names]
    return manager, names


def _loaded(manager: Any, names: Iterable[str]) -> dict[str, Any]:
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in names:
        try:
            found = manager.load([name])
        except Exception as error:  # a task is the user's own code and data: it may raise anything
            reason = one_line(error) or type(error).__name__
            raise UnreadableTask(
                f"tasks: {name}: cannot be read: {type(error).__name__}: {reason}"
            ) from error
        for part, content in found.items():
            loaded[part] |= content
    return loaded


def _set_fewshot(task: Any, number: int | None) -> None:
    """Set how many examples a task shows, and which: the task's own word, if it says 0, stands."""
    own = task.get_config("num_fewshot")
    if own is None or (number is not None and own != 0):
        task.set_config(key="num_fewshot", value=number or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def _require_examples(name: str, task: Any) -> None:
    """Refuse a task that is to show more examples than it has, beside the question itself where both are of one split."""
    wanted = task.get_config("num_fewshot") or 0
    split = task.get_config("fewshot_split")
    is_shared = split is not None and split == (
        task.get_config("test_split") or task.get_config("validation_split")
    )
    sampler = getattr(task, "sampler", None)
    if not wanted or sampler is None:
        return
    most = len(sampler.fewshot_docs()) - is_shared
    if wanted > most:
        raise UnreadableTask(f"num_fewshot: found {wanted}, allowed for {name}: at most {most}")


def _scores(results: Mapping[str, Any]) -> Iterator[TaskScore]:
    """Read the scores of the harness, whose keys are ``metric,filter`` and ``metric_stderr,filter``."""
    for task, found in results["results"].items():
        better = results["higher_is_better"].get(task, {})
        for key, value in found.items():
            metric, comma, answer_filter = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            stderr = found.get(f"{metric}_stderr,{answer_filter}")
            yield TaskScore(
                task=task,
                metric=metric if answer_filter == "none" else key,
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, int | float) else None,
                higher_is_better=better.get(metric) is not False,
                num_samples=int(found.get("sample_len", 0)),
                num_fewshot=int(results["n-shot"].get(task, 0)),
            )
