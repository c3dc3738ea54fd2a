"""What a plan makes of one dimension of a weight: which channels of the parent each of the student's is a sum of.

One of them where it is only kept, two where a head takes up another, several where KV heads are pooled. Knows no
weights; speaks of indices and factors alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from minitron.anatomy import Along, Axis
from minitron.families import family_named
from minitron.plan import PruningPlan

# P terms of a sum, U kept units (hidden channels, neurons, heads), C kept channels along a dimension

Term = tuple[Tensor, Tensor | None]
"""The parent's channels (C,), and a factor for each (C,); None where all are 1."""


def terms_of(along: Along, layer: int, plan: PruningPlan) -> list[Term]:
    """Return the terms whose sum the student's channels are; none where all are kept as they are.

    Args:
        along: What runs along the dimension.
        layer: The student's number of the block that the weight is in.
        plan: What is kept.
    """
    axes = along if isinstance(along, tuple) else (along,)
    units = [(axis, *_units(axis, layer, plan)) for axis in axes if axis is not None]
    if all(index_PU.shape[1] == _size(axis, plan) for axis, index_PU, _ in units):
        return []
    num_terms = max(len(index_PU) for _, index_PU, _ in units)
    indices, factors, start = [], [], 0
    for axis, index_PU, factor_PU in units:
        width = _width(axis, plan)
        missing = num_terms - len(index_PU)  # of an axis whose sums are shorter: terms that are nothing
        index_PU = torch.cat([index_PU, index_PU[:1].expand(missing, -1)])  # noqa: PLW2901  # its full form
        factor_PU = functional.pad(factor_PU, (0, 0, 0, missing))  # noqa: PLW2901
        indices.append((index_PU[:, :, None] * width + torch.arange(width)).flatten(1) + start)
        factors.append(factor_PU.repeat_interleave(width, dim=1))
        start += _size(axis, plan) * width
    index_PC, factor_PC = torch.cat(indices, dim=1), torch.cat(factors, dim=1)
    return [(index_PC[0], None)] if num_terms == 1 else list(zip(index_PC, factor_PC, strict=True))


def gain_of(name: str, plan: PruningPlan) -> tuple[float, float]:
    """Return by what a student's parameter is multiplied, and what is added to it before and taken off after.

    Norms get the plan's gains. Where embeddings are scaled by the root of the hidden size, which is another for
    the student, the table makes up for it, and the final norm for the output head that shares the table.
    """
    family = family_named(plan.source.family)
    anatomy, offset = family.anatomy, family.anatomy.norm_offset
    module, _, leaf = name.rpartition(".")
    inside = anatomy.layer_of(module)
    growth = math.sqrt(plan.source.hidden_size / plan.target.hidden_size) if anatomy.scales_embedding else 1.0
    if leaf != "weight":
        return 1.0, 0.0
    if module == anatomy.embedding:
        return growth, 0.0
    if module == anatomy.final_norm:
        gain = plan.norm_gains[-1] if plan.norm_gains else 1.0
        return (gain / growth if plan.source.tie_word_embeddings else gain), offset
    if inside is not None and inside[1] in anatomy.hidden_norms and plan.norm_gains:
        layer, norm = inside
        norms = anatomy.hidden_norms
        return plan.norm_gains[layer * len(norms) + norms.index(norm)], offset
    return 1.0, 0.0


def _units(axis: Axis, layer: int, plan: PruningPlan) -> tuple[Tensor, Tensor]:
    """Return the units of the parent that each of the student's is a sum of (P, U), and their factors (P, U)."""
    if axis == "kv_heads":
        index_PU = torch.tensor(plan.kv_heads[layer]).T
        return index_PU, torch.full(index_PU.shape, 1 / len(index_PU))
    kept = {"hidden": plan.hidden, "neurons": plan.neurons[layer]}.get(axis, plan.heads[layer])
    index_PU = torch.tensor([kept])
    factor_PU = torch.ones(index_PU.shape)
    if axis != "queries" or not plan.merged_heads:
        return index_PU, factor_PU
    others = dict(plan.merged_heads[layer])
    takes_U = torch.tensor([head in others for head in kept]).float()
    other_U = torch.tensor([others.get(head, head) for head in kept])
    return torch.stack([index_PU[0], other_U]), torch.stack([1 + takes_U, -takes_U])


_SIZES = {"hidden": "hidden_size", "neurons": "intermediate_size", "kv_heads": "num_key_value_heads"}


def _size(axis: Axis, plan: PruningPlan) -> int:
    """Return how many units of an axis the parent has."""
    size: int = getattr(plan.source, _SIZES.get(axis, "num_attention_heads"))
    return size


def _width(axis: Axis, plan: PruningPlan) -> int:
    """Return how many channels a unit of an axis has."""
    if axis in ("hidden", "neurons"):
        return 1
    return plan.source.head_dim * (3 if axis == "whole_heads" else 1)
