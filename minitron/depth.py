"""What it costs to do without layers, and which of them go.

A ``Cost`` says what dropping neighbours among the kept layers costs; ``choose_layers`` asks it for single
layers, for blocks of neighbours, or again and again as layers go. The costs are block influence, ``1 -
E[cos(input, output)]`` (ShortGPT, Minitron; of blocks: Gromov et al.), and what the model answers without
the layers: LM loss, KL from the whole model (Minitron-SSM), normalised error of the logits (Nemotron
Nano 2). An answer begins at the hidden states before the first dropped layer, which the batch's one whole
pass left behind, so that the layers before it are not run again: about half the work of a naive sweep.

Knows no plan and no target.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of
from minitron.calibration import Batch, batches
from minitron.device import inference
from minitron.errors import UnreadableCheckpoint
from minitron.progress import Progress, Report, silent
from minitron.recipe import DepthMetric, DepthSelection

# L layers, R lengths of blocks of layers, B blocks, T tokens of a block, D hidden channels, C tokens compared at once, V vocabulary

_TINY = 1e-12
"""Keeps the cosine of a zero vector at 0."""

_COMPARED_AT_ONCE = 128
"""Tokens whose logits are widened to float32 at a time."""

_NOT_PREDICTED = -100


def influences(states: Sequence[Tensor], valid_BT: Tensor | None = None) -> Tensor:
    """Return, for each pair of hidden states (B, T, D), the sum of ``1 - cos`` over tokens that count: (S, S), float64."""
    count, device = states[0][..., 0].numel(), states[0].device
    valid_X = torch.ones(count, dtype=torch.bool, device=device) if valid_BT is None else valid_BT.flatten()
    flat_XD = [state.flatten(0, 1) for state in states]
    total_SS = torch.zeros(len(states), len(states), dtype=torch.float64, device=device)
    for start in range(0, count, _COMPARED_AT_ONCE):
        taken = slice(start, start + _COMPARED_AT_ONCE)
        state_CSD = torch.stack([state_XD[taken].float() for state_XD in flat_XD], dim=1)[valid_X[taken]]
        length_CS1 = torch.linalg.vector_norm(state_CSD, dim=-1, keepdim=True)
        unit_CSD = state_CSD / length_CS1.clamp_min(_TINY)
        total_SS += (1.0 - (unit_CSD @ unit_CSD.mT).double()).sum(dim=0)
    return total_SS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerScores:
    """What was measured of the layers, float32 on the CPU; larger means keep."""

    layers_L: Tensor
    """What each layer costs alone; of an iterative selection, how many layers went before it, infinity where it
    never went."""
    blocks_RL: Tensor | None = None
    """Of a contiguous selection: row n - 1 holds what n neighbours cost that begin at each layer, infinity
    where there are not so many. As many rows as layers may go."""


class Cost(Protocol):
    """What it costs to do without layers."""

    def __call__(self, kept: Sequence[int], lengths: Sequence[int]) -> list[list[float]]:
        """Return the cost of dropping ``length`` neighbours among the ``kept``, beginning at each, for each length.

        Infinity where an answer is not finite, so that such layers stay.
        """


def choose_layers(cost: Cost, num_layers: int, selection: DepthSelection, *, fewest: int = 1) -> LayerScores:
    """Ask for the costs that a selection goes by.

    Args:
        cost: Of dropping layers.
        num_layers: Of the whole model.
        selection: How they are chosen.
        fewest: Layers below which nobody will ask: what depends on the depth is told down to there.

    Raises:
        UnreadableCheckpoint: No layer can go, because no answer is finite.
    """
    everything = range(num_layers)
    match selection:
        case "independent":
            (costs,) = cost(everything, [1])
            return LayerScores(layers_L=torch.tensor(_some_finite(costs)))
        case "contiguous":
            lengths = range(1, num_layers + 1 - fewest)
            blocks_RL = torch.full((len(lengths), num_layers), math.inf)
            for row_L, costs in zip(blocks_RL, cost(everything, lengths), strict=True):
                row_L[: len(costs)] = torch.tensor(_some_finite(costs))
            layers_L = blocks_RL[0].clone() if lengths else torch.zeros(num_layers)
            return LayerScores(layers_L=layers_L, blocks_RL=blocks_RL)
        case "iterative":
            kept = list(everything)
            went_L = torch.full((num_layers,), math.inf)
            for step in range(num_layers - fewest):
                (costs,) = cost(kept, [1])
                went_L[kept.pop(int(np.argmin(_some_finite(costs))))] = step
            return LayerScores(layers_L=went_L)


def _some_finite(costs: list[float]) -> list[float]:
    if not any(map(math.isfinite, costs)):
        raise UnreadableCheckpoint("model: its activations are not finite; its weights are damaged")
    return costs


@contextmanager
def only(layers: nn.ModuleList, kept: Sequence[int], *, state: Tensor | None = None) -> Iterator[None]:
    """Let a model run only some of its layers; the others hand on what they are given.

    Each layer keeps its place, since families choose masks and positions by it.

    Args:
        layers: Of the model.
        kept: Indices of the layers that run.
        state: Hidden states that stand in for all that comes before the first kept layer.
    """
    first = min(kept, default=len(layers))
    skipped = [layer for index, layer in enumerate(layers) if index not in set(kept)]
    before = layers[first - 1] if first else None
    assert state is None or before is not None, "nothing comes before the first layer"
    try:
        for layer in skipped:
            vars(layer)["forward"] = _handed_on
        if state is not None and before is not None:
            vars(before)["forward"] = lambda *_args, **_kwargs: state
        yield
    finally:
        for layer in skipped:
            vars(layer).pop("forward", None)


def _handed_on(hidden_BTD: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_BTD


class InfluenceTaps:
    """Tells the block influence of each layer, or of each block of neighbours, in passes that are made anyway.

    Args:
        model: The whole model.
        num_layers: Of it.
        selection: ``independent`` or ``contiguous``; for the latter all hidden states of a batch are held.
    """

    def __init__(self, model: PreTrainedModel, num_layers: int, selection: DepthSelection) -> None:
        assert selection != "iterative", "each removal takes passes of its own"
        self._layers = layers_of(model, anatomy_of(model))
        self._selection = selection
        self._states: list[Tensor] = []
        sizes = (num_layers + 1, num_layers + 1)
        self._turned_SS = torch.zeros(sizes, dtype=torch.float64, device=model.device)
        self._seen = torch.zeros((), dtype=torch.float64, device=model.device)
        self.valid_BT: Tensor | None = None
        """Which tokens of the batch at hand count; None: all."""

    @contextmanager
    def on(self) -> Iterator[None]:
        """Hook every layer; every hook is gone at the end, also after an exception."""
        handles: list[Any] = []
        try:
            for index, layer in enumerate(self._layers):
                handles.append(layer.register_forward_hook(partial(self._take, index)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _take(self, index: int, _module: nn.Module, args: tuple[Tensor, ...], output_BTD: Tensor) -> None:
        if self._selection == "independent":
            self._turned_SS[index, index + 1] += influences((args[0], output_BTD), self.valid_BT)[0, 1]
        else:
            self._states.append(args[0])
        if index + 1 == len(self._layers):
            self._seen += output_BTD[..., 0].numel() if self.valid_BT is None else self.valid_BT.sum()
            if self._states:
                self._turned_SS += influences((*self._states, output_BTD), self.valid_BT)
                self._states = []

    def scores(self) -> LayerScores:
        """Return what has been seen, for each token."""

        def cost(kept: Sequence[int], lengths: Sequence[int]) -> list[list[float]]:
            turned_SS = self._turned_SS / self._seen
            return [
                [float(turned_SS[first, first + length]) for first in range(len(kept) + 1 - length)]
                for length in lengths
            ]

        return choose_layers(cost, len(self._layers), self._selection)


class ModelCost:
    """The cost by one of the metrics of a recipe, over calibration blocks.

    Args:
        model: The whole model; left as it was.
        blocks_NT: What it reads.
        metric: What is compared.
        valid_NT: False for padding.
        batch_size: Blocks per forward pass; hidden states before each layer are held for so many.
        report: Told of each run of the rest of the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        blocks_NT: npt.NDArray[np.int32],
        metric: DepthMetric,
        *,
        valid_NT: npt.NDArray[np.bool_] | None = None,
        batch_size: int = 8,
        report: Report = silent,
    ) -> None:
        self._model = model
        self._anatomy = anatomy_of(model)
        self._layers = layers_of(model, self._anatomy)
        self._blocks_NT = blocks_NT
        self._valid_NT = valid_NT
        self._batch_size = batch_size
        self._metric = metric
        self._report = report

    def __call__(self, kept: Sequence[int], lengths: Sequence[int]) -> list[list[float]]:
        """Return the costs; see ``Cost``."""
        totals = [
            torch.zeros(len(kept) + 1 - length, 2, dtype=torch.float64, device=self._model.device)
            for length in lengths
        ]
        measure = self._turned if self._metric == "block_influence" else self._answered
        num_blocks = len(self._blocks_NT)
        with inference(self._model):
            for number, batch in enumerate(self._batches(), start=1):
                measure(batch, kept, lengths, totals)
                done = min(number * self._batch_size, num_blocks)
                stage = f"layers, of {len(kept)}"
                self._report(Progress(stage=stage, done=done, total=num_blocks, unit="blocks"))
        costs = [(total[:, 0] / total[:, 1]).nan_to_num(nan=math.inf, posinf=math.inf) for total in totals]
        return [cost.tolist() for cost in costs]

    def _batches(self) -> Iterator[Batch]:
        return batches(
            self._blocks_NT, self._valid_NT, batch_size=self._batch_size, device=self._model.device
        )

    def _turned(
        self, batch: Batch, kept: Sequence[int], lengths: Sequence[int], totals: Sequence[Tensor]
    ) -> None:
        states, _ = self._recorded(batch, kept, self._decode)
        turned_SS = influences(states, batch.valid_BT)
        count = batch.valid().sum()
        for length, total in zip(lengths, totals, strict=True):
            total[:, 0] += turned_SS.diagonal(offset=length)
            total[:, 1] += count

    def _answered(
        self, batch: Batch, kept: Sequence[int], lengths: Sequence[int], totals: Sequence[Tensor]
    ) -> None:
        if len(kept) == len(self._layers):
            states, whole_BTV = self._recorded(batch, kept, self._logits)
        else:
            states, _ = self._recorded(batch, kept, self._decode)
            whole_BTV = self._logits(batch)
        for length, total in zip(lengths, totals, strict=True):
            for start in range(len(kept) + 1 - length):
                with only(self._layers, kept[start + length :], state=states[start]):
                    logits_BTV = self._logits(batch)
                total[start] += _compared(self._metric, logits_BTV, whole_BTV, batch)

    def _recorded(
        self, batch: Batch, kept: Sequence[int], run: Callable[[Batch], Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """Run some layers; return the hidden states before each and after the last, and what ``run`` returns."""
        states: list[Tensor] = []

        def before(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            states.append(args[0])

        def after(_module: nn.Module, _args: tuple[Tensor, ...], output_BTD: Tensor) -> None:
            states.append(output_BTD)

        handles = [self._layers[index].register_forward_pre_hook(before) for index in kept]
        handles.append(self._layers[kept[-1]].register_forward_hook(after))
        try:
            with only(self._layers, kept):
                return states, run(batch)
        finally:
            for handle in handles:
                handle.remove()

    def _decode(self, batch: Batch) -> Tensor:
        """Run without the output head, which costs most of a small model."""
        decoder = self._model.get_submodule(self._anatomy.decoder)
        final_BTD: Tensor = decoder(**batch.inputs).last_hidden_state
        return final_BTD

    def _logits(self, batch: Batch) -> Tensor:
        logits_BTV: Tensor = self._model(**batch.inputs).logits
        return logits_BTV


def _compared(metric: DepthMetric, logits_BTV: Tensor, whole_BTV: Tensor, batch: Batch) -> Tensor:
    """Return the numerator and the denominator of a metric, summed over the tokens of a batch, in float64."""
    valid_BT = batch.valid()
    labels_BT = functional.pad(batch.input_ids_BT[:, 1:], (0, 1), value=_NOT_PREDICTED)
    labels_BT[~valid_BT | ~functional.pad(valid_BT[:, 1:], (0, 1), value=False)] = _NOT_PREDICTED
    total = torch.zeros(2, dtype=torch.float64, device=logits_BTV.device)
    flat = [tensor.flatten(0, 1) for tensor in (logits_BTV, whole_BTV, labels_BT, valid_BT)]
    for start in range(0, valid_BT.numel(), _COMPARED_AT_ONCE):
        found_CV, expected_CV, labels_C, valid_C = (
            tensor[start : start + _COMPARED_AT_ONCE] for tensor in flat
        )
        found_CV, expected_CV = found_CV[valid_C].float(), expected_CV[valid_C].float()
        labels_C = labels_C[valid_C]
        match metric:
            case "lm_loss":
                count = (labels_C != _NOT_PREDICTED).sum()
                total += torch.stack(
                    [_label_sum(found_CV, labels_C) - _label_sum(expected_CV, labels_C), count]
                )
            case "kl":
                kl = functional.kl_div(
                    found_CV.log_softmax(dim=-1),
                    expected_CV.log_softmax(dim=-1),
                    reduction="sum",
                    log_target=True,
                )
                total += torch.stack([kl.double(), valid_C.sum()])
            case "logit_error":
                error = (found_CV - expected_CV).square().sum(dtype=torch.float64)
                total += torch.stack([error, expected_CV.square().sum(dtype=torch.float64)])
            case "block_influence":
                raise AssertionError("block influence is told by hidden states")
    return total


def _label_sum(logits_CV: Tensor, labels_C: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits_CV, labels_C, ignore_index=_NOT_PREDICTED, reduction="sum"
    ).double()
