"""Cut a plan's indices out of a model, into a new one.

Knows neither scores nor search: a plan says what is kept. The parent is only read. Which dimension of
which weight is which axis is the family's anatomy; a weight that is not in it is refused.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from minitron.anatomy import Anatomy, Axis
from minitron.assemble import empty_model, put
from minitron.errors import ArtifactMismatch, UnsupportedModel
from minitron.families import family_named, read_architecture, student_config
from minitron.plan import Indices, PruningPlan


def prune(model: PreTrainedModel, plan: PruningPlan) -> PreTrainedModel:
    """Return a new model with the kept weights, in the dtype, on the device and in evaluation mode.

    Tied embeddings stay tied; generation settings are the parent's.

    Raises:
        ArtifactMismatch: The plan was made for another shape than the model's.
        UnsupportedModel: The model holds a weight whose axes are not known.
    """
    found = read_architecture(model.config.to_dict())
    if found != plan.source:
        raise ArtifactMismatch(f"model: found {found}, allowed for this plan: {plan.source}")
    weights = dict(model.named_parameters())
    for name in weights:
        _axes_of(name, plan)
    student = student_of(model.config, plan, dtype=model.dtype)
    with torch.no_grad():
        for name, _ in list(student.named_parameters()):
            source = in_parent(name, plan)
            put(student, name, nn.Parameter(kept_of(weights[source], name, plan)))
        for name, buffer in model.named_buffers():
            # Position tables: no axis of a plan runs through them.
            put(student, name, buffer.clone())
    student.tie_weights()
    student.generation_config = copy.deepcopy(model.generation_config)
    real = sum(parameter.numel() for parameter in student.parameters())
    assert real == plan.target.parameter_count, f"{real} parameters, not {plan.target.parameter_count}"
    student.eval()  # type: ignore[no-untyped-call]
    return student


def student_of(config: PretrainedConfig, plan: PruningPlan, *, dtype: torch.dtype) -> PreTrainedModel:
    """Return the student of a parent's config, without storage."""
    entries = student_config(config.to_dict(), plan.target, plan.layers)
    entries.pop("_name_or_path", None)
    attention = config._attn_implementation  # noqa: SLF001  # transformers has no public name for it
    return empty_model(AutoConfig.for_model(**entries), dtype=dtype, attention=attention)


def in_parent(name: str, plan: PruningPlan) -> str:
    """Return the parent's name of a student's weight."""
    anatomy = _anatomy_of(plan)
    inside = anatomy.layer_of(name)
    if inside is None:
        return name
    layer, rest = inside
    return f"{anatomy.layers}.{plan.layers[layer]}.{rest}"


def _anatomy_of(plan: PruningPlan) -> Anatomy:
    return family_named(plan.source.family).anatomy


def _axes_of(name: str, plan: PruningPlan) -> tuple[Axis | None, ...]:
    axes = _anatomy_of(plan).axes_of(name)
    if axes is None:
        known = ", ".join(_anatomy_of(plan).block)
        raise UnsupportedModel(f"{name}: found a weight of unknown axes, allowed in a block: {known}")
    return axes


def kept_of(weight: Tensor, name: str, plan: PruningPlan, rows: slice = slice(None)) -> Tensor:
    """Return what a plan keeps of a parent's weight, as a tensor of its own.

    Args:
        weight: Of the parent.
        name: Of the student's weight that it becomes.
        plan: What is kept.
        rows: Of the student's weight, where only some are wanted.
    """
    layer, _ = _anatomy_of(plan).layer_of(name) or (0, name)
    kept: dict[Axis, Indices] = {
        "hidden": plan.hidden,
        "neurons": plan.neurons[layer],
        "heads": plan.heads[layer],
    }
    piece = weight
    for dimension, axis in enumerate(_axes_of(name, plan)[: weight.ndim]):
        wanted = rows if dimension == 0 else slice(None)
        if axis is None or len(kept[axis]) == getattr(plan.source, _SIZES[axis]):
            piece = piece[wanted]
            continue
        index = torch.tensor(kept[axis], device=weight.device)
        if axis == "heads":
            channels_H = torch.arange(plan.source.head_dim, device=weight.device)
            index = (index[:, None] * plan.source.head_dim + channels_H).flatten()
        piece = piece.index_select(dimension, index[wanted])
    is_view = piece.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    return piece.clone() if is_view else piece


_SIZES: dict[Axis, str] = {
    "hidden": "hidden_size",
    "neurons": "intermediate_size",
    "heads": "num_attention_heads",
}
