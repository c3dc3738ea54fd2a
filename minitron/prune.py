"""Cut a plan's indices out of a model, into a new one.

Knows neither scores nor search: a plan says what is kept. The parent is only read. What runs along which
dimension of which weight is the family's anatomy; a weight that is not in it is refused.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from minitron.anatomy import Along, Anatomy
from minitron.assemble import empty_model, put, put_buffers
from minitron.errors import ArtifactMismatch, UnsupportedModel
from minitron.families import family_named, read_architecture, student_config
from minitron.plan import PruningPlan
from minitron.selection import gain_of, terms_of


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
    put_buffers(student, model.device)
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


def _axes_of(name: str, plan: PruningPlan) -> tuple[Along, ...]:
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
    piece = weight
    for dimension, along in enumerate(_axes_of(name, plan)):
        wanted = rows if dimension == 0 else slice(None)
        terms = terms_of(along, layer, plan)
        if not terms:
            piece = piece[wanted]
            continue
        parts = []
        for index_C, factor_C in terms:
            part = piece.index_select(dimension, index_C[wanted].to(weight.device))
            if factor_C is not None:
                shape = [-1 if each == dimension else 1 for each in range(weight.ndim)]
                part = part.float() * factor_C[wanted].to(weight.device).view(shape)
            parts.append(part)
        piece = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0).to(weight.dtype)
    gain, offset = gain_of(name, plan)
    if gain != 1.0:
        piece = ((piece.double() + offset) * gain - offset).to(weight.dtype)
    is_view = piece.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    return piece.clone() if is_view else piece
