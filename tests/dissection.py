"""Changes to real models by axis: units permuted, or made to do nothing.

Where an axis runs is what the anatomy says; that it is right shows when a permuted model computes the same.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of
from minitron.families import read_architecture


def shape_of(model: PreTrainedModel):
    """The shape of a model."""
    return read_architecture(model.config.to_dict())


def _pieces(model: PreTrainedModel, name: str, dimension: int, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """The parts of a weight along a dimension, each as (axis, view with units at ``dimension``)."""
    shape, along = shape_of(model), anatomy_of(model).axes_of(name)[dimension]
    axes = along if isinstance(along, tuple) else (along,)
    heads, kv_heads = shape.num_attention_heads, shape.num_key_value_heads
    units = {
        "hidden": shape.hidden_size, "neurons": shape.intermediate_size, "queries": heads, "heads": heads,
        "kv_heads": kv_heads, "whole_heads": heads, None: tensor.shape[dimension],
    }  # fmt: skip
    width = tensor.shape[dimension] // sum(units[axis] for axis in axes)
    parts = tensor.split([units[axis] * width for axis in axes], dim=dimension)
    return [
        (axis, part.unflatten(dimension, (units[axis], width)))
        for axis, part in zip(axes, parts, strict=True)
    ]


@torch.no_grad()
def permute(model: PreTrainedModel, orders: dict[str, Tensor]) -> PreTrainedModel:
    """Permute the units of axes in every weight, in place."""
    for name, parameter in model.named_parameters():
        for dimension in range(parameter.ndim):
            pieces = [
                (piece.index_select(dimension, orders[axis]) if axis in orders else piece).flatten(
                    dimension, dimension + 1
                )
                for axis, piece in _pieces(model, name, dimension, parameter.data)
            ]
            parameter.copy_(torch.cat(pieces, dim=dimension))
    return model


@torch.no_grad()
def silence(module: nn.Module, model: PreTrainedModel, name: str, axis: str, units: list[int]) -> None:
    """Set what belongs to units of an axis to 0, in the parameters of one module."""
    for leaf, parameter in module.named_parameters(recurse=False):
        for dimension in range(parameter.ndim):
            for found, piece in _pieces(model, f"{name}.{leaf}", dimension, parameter.data):
                if found == axis:
                    piece.index_fill_(dimension, torch.tensor(units, dtype=torch.long), 0.0)


@torch.no_grad()
def make_kv_heads_equal(model: PreTrainedModel) -> None:
    """Give every KV head the keys and values of the first."""
    for name, parameter in model.named_parameters():
        for dimension in range(parameter.ndim):
            for axis, piece in _pieces(model, name, dimension, parameter.data):
                if axis == "kv_heads":
                    piece.copy_(piece.narrow(dimension, 0, 1).expand_as(piece).clone())


def silence_heads(model: PreTrainedModel, heads: list[int]) -> None:
    """Make heads reach nothing."""
    anatomy = anatomy_of(model)
    for index, layer in enumerate(layers_of(model, anatomy)):
        name = f"{anatomy.layers}.{index}.{anatomy.attention_output}"
        silence(layer.get_submodule(anatomy.attention_output), model, name, "heads", heads)


def silence_neurons(model: PreTrainedModel, neurons: list[int]) -> None:
    """Make neurons never active; their way out stays."""
    anatomy = anatomy_of(model)
    for index, layer in enumerate(layers_of(model, anatomy)):
        for part in anatomy.block:
            if part != anatomy.mlp_output and "mlp" in part and has(layer, part):
                name = f"{anatomy.layers}.{index}.{part}"
                silence(layer.get_submodule(part), model, name, "neurons", neurons)


def has(layer: nn.Module, part: str) -> bool:
    """Whether a block has a part that others of its layout have."""
    return part in dict(layer.named_modules())


@torch.no_grad()
def silence_layer(model: PreTrainedModel, index: int) -> None:
    """Make a layer add nothing to the residual stream."""
    anatomy = anatomy_of(model)
    layer = layers_of(model, anatomy)[index]
    for part in (anatomy.attention_output, anatomy.mlp_output):
        for parameter in layer.get_submodule(part).parameters():
            parameter.zero_()


@torch.no_grad()
def silence_hidden(model: PreTrainedModel, channels: list[int]) -> None:
    """Let nothing be written to hidden channels, nor norms with a bias bring anything up in them.

    LayerNorm takes the mean off, which is of all channels: what is written to the others is centred, so that
    the mean is 0 with and without the silent ones.
    """
    anatomy, shape = anatomy_of(model), shape_of(model)
    live = torch.tensor([channel for channel in range(shape.hidden_size) if channel not in channels])
    writers = [anatomy.embedding, anatomy.positions] + [
        f"{anatomy.layers}.{index}.{part}"
        for index in range(shape.num_layers)
        for part in (anatomy.attention_output, anatomy.mlp_output)
    ]
    for name, module in model.named_modules():
        is_norm = name == anatomy.final_norm or name.rpartition(".")[2] in anatomy.hidden_norms
        if name in writers:
            silence(module, model, name, "hidden", channels)
        elif is_norm and shape.traits.norm_bias:
            module.bias[channels] = 0
        if name in writers and shape.traits.norm_bias:
            for leaf, parameter in module.named_parameters():
                dimension = anatomy.axes_of(f"{name}.{leaf}").index("hidden")
                mean = parameter.index_select(dimension, live).mean(dim=dimension, keepdim=True)
                parameter.index_copy_(dimension, live, parameter.index_select(dimension, live) - mean)
