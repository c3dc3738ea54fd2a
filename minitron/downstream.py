"""Layers chosen by a score of whatever matters downstream, for example the accuracy on a task.

Knows no task: the score is a function of a model. It gets students without the layers in question, which are
models like any other, with a cache that works, so that it may also generate.
"""

import math
from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from minitron.depth import LayerScores, choose_layers
from minitron.families import read_architecture
from minitron.plan import depth_plan
from minitron.progress import Progress, Report, silent
from minitron.prune import prune
from minitron.recipe import DepthSelection


class DownstreamCost:
    """What layers cost by a score: the more it falls without them, the more.

    Args:
        model: The whole model; only read.
        score: Of a model; larger is better. One that is not a number is the worst there is.
        report: Told of each student that was scored.
    """

    def __init__(
        self, model: PreTrainedModel, score: Callable[[PreTrainedModel], float], report: Report = silent
    ) -> None:
        self._model = model
        self._score = score
        self._report = report
        self._source = read_architecture(model.config.to_dict())
        self._whole = score(model)

    @property
    def num_layers(self) -> int:
        """Of the whole model."""
        return self._source.num_layers

    def __call__(self, kept: Sequence[int], lengths: Sequence[int]) -> list[list[float]]:
        """Return the costs; see ``minitron.depth.Cost``."""
        total = sum(len(kept) + 1 - length for length in lengths)
        costs: list[list[float]] = []
        for length in lengths:
            costs.append([])
            for start in range(len(kept) + 1 - length):
                costs[-1].append(self._without([*kept[:start], *kept[start + length :]]))
                done = sum(map(len, costs))
                self._report(Progress(stage="layers, downstream", done=done, total=total, unit="students"))
        return costs

    def _without(self, layers: Sequence[int]) -> float:
        if not layers:
            return math.inf
        cost = self._whole - self._score(prune(self._model, depth_plan(self._source, layers)))
        return cost if math.isfinite(cost) else math.inf


def layers_by_score(
    model: PreTrainedModel,
    score: Callable[[PreTrainedModel], float],
    selection: DepthSelection = "contiguous",
    *,
    report: Report = silent,
) -> LayerScores:
    """Choose layers by a score; ``ImportanceScores.by_layers`` takes what this returns.

    A contiguous or iterative selection scores about half of the square of the number of layers of students.
    """
    cost = DownstreamCost(model, score, report)
    return choose_layers(cost, cost.num_layers, selection)
