"""What neurons, heads and hidden channels matter: from their activations in forward passes, or from weights alone.

By ``activation``, as in the Minitron papers: neurons at the input of the down projection, heads at the input of
the output projection, as the norm of a head's channels, hidden channels at the output of the norms of blocks.
By ``weighted``, as what each adds to the residual stream: a neuron times the norm of its column of the down
projection (Puzzle's channel contribution), a head mapped through its slice of the output projection, and a hidden
channel by what stands in the stream itself. Hooks live as long as ``WidthTaps.on``.

Knows no blocks and no target.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.aggregation import OverBatches, over_sequence
from minitron.anatomy import Axis
from minitron.architecture import Architecture
from minitron.assemble import anatomy_of, layers_of
from minitron.recipe import CalibrationRecipe

# L layers, D hidden channels, F neurons of an MLP, N query heads, H channels of a head, B blocks of a batch,
# T tokens of a block, C channels of any kind

WidthScores = dict[str, Tensor]
"""``hidden_D``, ``neurons_LF`` and ``heads_LN``, float32 on the CPU."""

_Transform = Callable[[Tensor], Tensor]


class _Tap:
    """What has been seen of some channels."""

    def __init__(self, num_channels: int, taps: "WidthTaps", *, is_hidden: bool = False) -> None:
        self._taps = taps
        self._over_sequence = taps.recipe.over_sequence(is_hidden=is_hidden)
        self._seen = OverBatches(num_channels, taps.device)

    def add(self, activation_BTC: Tensor) -> None:
        self._seen.add(over_sequence(activation_BTC, self._over_sequence, self._taps.valid_BT))

    def value(self) -> Tensor:
        return self._seen.value(self._taps.recipe.batch_aggregation)


class WidthTaps:
    """The taps of one calibration pass, and the hooks that feed them."""

    def __init__(self, model: PreTrainedModel, shape: Architecture, recipe: CalibrationRecipe) -> None:
        self._model = model
        self._shape = shape
        self._anatomy = anatomy_of(model)
        self.recipe = recipe
        self.device = model.device
        self.valid_BT: Tensor | None = None
        """Which tokens of the batch at hand count; None: all."""
        layers = range(shape.num_layers)
        self._neurons = [_Tap(shape.intermediate_size, self) for _ in layers]
        self._heads = [_Tap(shape.num_attention_heads, self) for _ in layers]
        self._hidden: list[_Tap] = []

    @contextmanager
    def on(self) -> Iterator[None]:
        """Hook every tap; every hook is gone at the end, also after an exception."""
        handles: list[Any] = []
        try:
            for index, layer in enumerate(layers_of(self._model, self._anatomy)):
                neurons, heads = self._anatomy.mlp_output, self._anatomy.attention_output
                handles += [
                    _tap_input(layer.get_submodule(neurons), self._neurons[index], self._of_neurons(layer)),
                    _tap_input(layer.get_submodule(heads), self._heads[index], self._of_heads(layer)),
                ]
            for module, tap_on in self._where_hidden():
                self._hidden.append(_Tap(self._shape.hidden_size, self, is_hidden=True))
                handles.append(tap_on(module, self._hidden[-1]))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def scores(self) -> WidthScores:
        """Return what has been seen, aggregated; hidden channels summed over their taps."""
        return _narrowed(
            hidden_D=torch.stack([tap.value() for tap in self._hidden]).sum(dim=0),
            neurons_LF=torch.stack([tap.value() for tap in self._neurons]),
            heads_LN=torch.stack([tap.value() for tap in self._heads]),
        )

    @property
    def _is_weighted(self) -> bool:
        return self.recipe.metric == "weighted"

    def _where_hidden(self) -> list[tuple[nn.Module, Callable[[nn.Module, _Tap], Any]]]:
        """Return where hidden channels are tapped: the residual stream where blocks and head read it, or norms."""
        layers = layers_of(self._model, self._anatomy)
        if self._is_weighted:
            final = self._model.get_submodule(self._anatomy.final_norm)
            return [(module, _tap_input) for module in (*layers, final)]
        return [
            (layer.get_submodule(name), _tap_output) for layer in layers for name in self._anatomy.block_norms
        ]

    def _of_neurons(self, layer: nn.Module) -> _Transform:
        if not self._is_weighted:
            return _unchanged
        norm_F = _norms(self._read_by(layer, self._anatomy.mlp_output, "neurons").T)
        return lambda activation_BTF: activation_BTF.float() * norm_F

    def _of_heads(self, layer: nn.Module) -> _Transform:
        by_head = (self._shape.num_attention_heads, self._shape.head_dim)
        if not self._is_weighted:
            return lambda activation_BTC: _norms(
                activation_BTC.float().reshape(*activation_BTC.shape[:2], *by_head)
            )
        weight_DC = self._read_by(layer, self._anatomy.attention_output, "heads")
        # |W x| = |R x| where W = Q R, and R is small.
        triangle_NKH = torch.linalg.qr(weight_DC.reshape(-1, *by_head).transpose(0, 1), mode="r").R

        def mapped(activation_BTC: Tensor) -> Tensor:
            activation_BTNH = activation_BTC.float().reshape(*activation_BTC.shape[:2], *by_head)
            return _norms(torch.einsum("btnh,nkh->btnk", activation_BTNH, triangle_NKH))

        return mapped

    def _read_by(self, layer: nn.Module, name: str, axis: Axis) -> Tensor:
        """Return the weight of a projection, float32, the axis that it reads last."""
        weight = layer.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        return weight.detach().float().movedim(self._anatomy.block[name].index(axis), -1)


def weight_scores(model: PreTrainedModel, shape: Architecture) -> WidthScores:
    """Return the norm of all weights of each neuron, query head and hidden channel; no head owns keys and values."""
    anatomy = anatomy_of(model)
    squares = {
        "hidden": torch.zeros(1, shape.hidden_size, dtype=torch.float64),
        "neurons": torch.zeros(shape.num_layers, shape.intermediate_size, dtype=torch.float64),
        "heads": torch.zeros(shape.num_layers, shape.num_attention_heads, dtype=torch.float64),
    }
    for name, weight in model.named_parameters():
        layer, _ = anatomy.layer_of(name.rpartition(".")[0]) or (0, "")
        for dimension, along in enumerate(anatomy.axes_of(name) or ()):
            others = [other for other in range(weight.ndim) if other != dimension]
            square = weight.detach().double().square()
            total_C = (square.sum(dim=others) if others else square).cpu()
            axes = along if isinstance(along, tuple) else (along,)
            sizes = [_channels(axis, shape) for axis in axes if axis is not None]
            for axis, part_C in zip(axes, torch.split(total_C, sizes), strict=False) if sizes else ():
                if axis == "hidden":
                    squares["hidden"][0] += part_C
                elif axis == "neurons":
                    squares["neurons"][layer] += part_C
                elif axis != "kv_heads":  # which belong to several query heads
                    squares["heads"][layer] += part_C.view(shape.num_attention_heads, -1).sum(dim=-1)
    return _narrowed(
        hidden_D=squares["hidden"][0].sqrt(),
        neurons_LF=squares["neurons"].sqrt(),
        heads_LN=squares["heads"].sqrt(),
    )


def _channels(axis: Axis, shape: Architecture) -> int:
    """Return how many channels of a dimension an axis takes."""
    sizes = {"hidden": shape.hidden_size, "neurons": shape.intermediate_size}
    heads = shape.num_key_value_heads if axis == "kv_heads" else shape.num_attention_heads
    return sizes.get(axis, heads * shape.head_dim * (3 if axis == "whole_heads" else 1))


def random_scores(shape: Architecture, *, seed: int) -> WidthScores:
    """Return scores that say nothing, evenly drawn."""
    generator = torch.Generator().manual_seed(seed)
    return _narrowed(
        hidden_D=torch.rand(shape.hidden_size, generator=generator),
        neurons_LF=torch.rand(shape.num_layers, shape.intermediate_size, generator=generator),
        heads_LN=torch.rand(shape.num_layers, shape.num_attention_heads, generator=generator),
    )


def _norms(vectors: Tensor) -> Tensor:
    """Return the length of each vector of the last dimension."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms


def _narrowed(**scores: Tensor) -> WidthScores:
    return {name: score.float().cpu() for name, score in scores.items()}


def _unchanged(activation_BTC: Tensor) -> Tensor:
    return activation_BTC


def _tap_input(module: nn.Module, tap: _Tap, transform: _Transform = _unchanged) -> Any:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        tap.add(transform(args[0]))

    return module.register_forward_pre_hook(hook)


def _tap_output(module: nn.Module, tap: _Tap) -> Any:
    def hook(_module: nn.Module, _args: tuple[Tensor, ...], output_BTC: Tensor) -> None:
        tap.add(output_BTC)

    return module.register_forward_hook(hook)
