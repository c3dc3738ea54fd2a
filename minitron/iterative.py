"""Importance in several steps: measure, prune a part of the way, measure what is left, and so on (Minitron, Table 12).

Every step cuts as much of each width as every other, through shapes that are legal for the family. The scores are
of the parent all the same, in its indices, so that ``plan_pruning`` decides by them as by any.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.families import read_architecture
from minitron.importance import ImportanceScores, measure_importance
from minitron.narrowing import shapes_between
from minitron.plan import PruningPlan, plan_pruning
from minitron.progress import Progress, Report, silent
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe

# N all blocks, T tokens of a block, C units of one kind


def measure_in_steps(
    model: PreTrainedModel,
    blocks_NT: npt.NDArray[np.int32],
    recipe: CalibrationRecipe,
    *,
    smallest: Architecture | None,
    fingerprint: str,
    valid_NT: npt.NDArray[np.bool_] | None = None,
    report: Report = silent,
) -> ImportanceScores:
    """Measure in ``recipe.steps`` steps; one is ``measure_importance`` itself.

    Layers are measured in the first step, of the whole model. What a step cut scores below zero, the later the
    higher, so whoever cuts less keeps the last that went; what was never cut scores as in the last step.

    Args:
        model: What is measured; left as it was.
        blocks_NT: Calibration blocks.
        recipe: How.
        smallest: The least of each width and of depth that is wanted; None is allowed with one step.
        fingerprint: Of all that the scores are made from.
        valid_NT: False for padding.
        report: Told of progress.

    Raises:
        InvalidRecipe: Several steps, and nowhere to go.
        ArtifactMismatch: A shape that is no smaller one of the model's.
        DatasetTooSmall, UnreadableCheckpoint: As ``measure_importance``.
    """
    source = read_architecture(model.config.to_dict())
    shapes = shapes_between(source, smallest, recipe.steps)
    first = replace(recipe, steps=1)
    scores = measure_importance(
        model,
        blocks_NT,
        first,
        fingerprint=fingerprint,
        valid_NT=valid_NT,
        fewest_layers=1 if smallest is None else smallest.num_layers,
        report=_step(report, 1, recipe),
    )
    # Layers are told already, and this way of telling them costs no pass of its own.
    later = replace(first, depth_metric="block_influence", depth_selection="independent")
    found, kept, student = scores, _Kept(source), model
    for number, shape in enumerate(shapes, start=1):
        plan = plan_pruning(found, shape)
        scores = kept.cut(scores, found, plan, level=number - recipe.steps)
        student = prune(student, plan)
        found = measure_importance(
            student,
            blocks_NT,
            later,
            fingerprint=fingerprint,
            valid_NT=valid_NT,
            report=_step(report, number + 1, recipe),
        )
        scores = kept.measured(scores, found)
    return scores


class _Kept:
    """Which of the parent's units the student of the step at hand still has."""

    def __init__(self, source: Architecture) -> None:
        def everything(size: int) -> list[Tensor]:
            return [torch.arange(size) for _ in range(source.num_layers)]

        self._hidden = torch.arange(source.hidden_size)
        self._neurons = everything(source.intermediate_size)
        self._heads = everything(source.num_attention_heads)

    def cut(
        self, scores: ImportanceScores, found: ImportanceScores, plan: PruningPlan, *, level: int
    ) -> ImportanceScores:
        """Return the parent's scores with what a plan cuts off the student ranked just below ``level``."""
        hidden_D, neurons_LF, heads_LN = _copies(scores)
        self._hidden = _cut(hidden_D, self._hidden, found.hidden_D, plan.hidden, level)
        for layer in range(len(self._neurons)):
            self._neurons[layer] = _cut(
                neurons_LF[layer], self._neurons[layer], found.neurons_LF[layer], plan.neurons[layer], level
            )
            self._heads[layer] = _cut(
                heads_LN[layer], self._heads[layer], found.heads_LN[layer], plan.heads[layer], level
            )
        return replace(scores, hidden_D=hidden_D, neurons_LF=neurons_LF, heads_LN=heads_LN)

    def measured(self, scores: ImportanceScores, found: ImportanceScores) -> ImportanceScores:
        """Return the parent's scores with those of the student in place of what it still has."""
        hidden_D, neurons_LF, heads_LN = _copies(scores)
        hidden_D[self._hidden] = found.hidden_D
        for layer in range(len(self._neurons)):
            neurons_LF[layer, self._neurons[layer]] = found.neurons_LF[layer]
            heads_LN[layer, self._heads[layer]] = found.heads_LN[layer]
        return replace(scores, hidden_D=hidden_D, neurons_LF=neurons_LF, heads_LN=heads_LN)


def _copies(scores: ImportanceScores) -> tuple[Tensor, Tensor, Tensor]:
    return scores.hidden_D.clone(), scores.neurons_LF.clone(), scores.heads_LN.clone()


def _cut(scores_C: Tensor, units: Tensor, found: Tensor, kept: tuple[int, ...], level: int) -> Tensor:
    """Rank what goes among itself, in the parent's scores, and return the units that are left."""
    goes = torch.ones(len(units), dtype=torch.bool)
    goes[list(kept)] = False
    order = found[goes].argsort(descending=True, stable=True)
    rank = torch.empty(len(order))
    rank[order] = torch.arange(len(order), 0, -1, dtype=torch.float32) / (len(order) + 1)
    scores_C[units[goes]] = rank + level - 1
    return units[~goes]


def _step(report: Report, number: int, recipe: CalibrationRecipe) -> Report:
    if recipe.steps == 1:
        return report

    def told(progress: Progress) -> None:
        report(replace(progress, stage=f"step {number} of {recipe.steps}: {progress.stage}"))

    return told
