"""Cut a plan's indices out of a model, into a new one.

Knows neither scores nor search: a plan says what is kept. The parent is only read. Which dimension of
which weight is which axis stands in one table; a weight that is not in it is refused.
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from minitron.errors import ArtifactMismatch, UnsupportedModel
from minitron.families import read_architecture, student_config
from minitron.plan import Indices, PruningPlan

Axis = Literal["hidden", "neurons", "heads"]

AXES: dict[str, tuple[Axis | None, ...]] = {
    "model.embed_tokens": (None, "hidden"),
    "model.norm": ("hidden",),
    "lm_head": (None, "hidden"),
    "input_layernorm": ("hidden",),
    "post_attention_layernorm": ("hidden",),
    "self_attn.q_proj": ("heads", "hidden"),
    "self_attn.k_proj": (None, "hidden"),
    "self_attn.v_proj": (None, "hidden"),
    "self_attn.q_norm": (None,),
    "self_attn.k_norm": (None,),
    "self_attn.o_proj": ("hidden", "heads"),
    "mlp.gate_proj": ("neurons", "hidden"),
    "mlp.up_proj": ("neurons", "hidden"),
    "mlp.down_proj": ("hidden", "neurons"),
}
"""The axis of each dimension of a module's weight; a bias runs along the first. None is kept whole."""

_LAYERS = "model.layers."


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
    axes = {name: _axes_of(name) for name in weights}
    student = _empty_student(model, plan)
    with torch.no_grad():
        for name, _ in list(student.named_parameters()):
            source, layer = _in_parent(name, plan)
            _put(student, name, nn.Parameter(_slice(weights[source], axes[source], plan, layer)))
        for name, buffer in model.named_buffers():
            # Position tables: no axis of a plan runs through them.
            _put(student, name, buffer.clone())
    student.tie_weights()
    student.generation_config = copy.deepcopy(model.generation_config)
    real = sum(parameter.numel() for parameter in student.parameters())
    assert real == plan.target.parameter_count, f"{real} parameters, not {plan.target.parameter_count}"
    student.eval()  # type: ignore[no-untyped-call]
    return student


def _empty_student(model: PreTrainedModel, plan: PruningPlan) -> PreTrainedModel:
    """Return a student without storage, so that no weight is initialised only to be replaced."""
    entries = student_config(model.config.to_dict(), plan.target, plan.layers)
    entries.pop("_name_or_path", None)
    config = AutoConfig.for_model(**entries)
    attention = model.config._attn_implementation  # noqa: SLF001  # transformers has no public name for it
    with torch.device("meta"):
        student: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=model.dtype, attn_implementation=attention
        )
    return student


def _in_parent(name: str, plan: PruningPlan) -> tuple[str, int]:
    """Return the parent's name of a student's weight, and the student's layer (0 outside of layers)."""
    if not name.startswith(_LAYERS):
        return name, 0
    layer, rest = name.removeprefix(_LAYERS).split(".", 1)
    return f"{_LAYERS}{plan.layers[int(layer)]}.{rest}", int(layer)


def _axes_of(name: str) -> tuple[Axis | None, ...]:
    module = name.rpartition(".")[0]
    if module.startswith(_LAYERS):
        module = module.removeprefix(_LAYERS).split(".", 1)[1]
    if module not in AXES:
        raise UnsupportedModel(f"{name}: found a weight of unknown axes, allowed: {', '.join(AXES)}")
    return AXES[module]


def _slice(weight: Tensor, axes: tuple[Axis | None, ...], plan: PruningPlan, layer: int) -> Tensor:
    kept: dict[Axis, Indices] = {
        "hidden": plan.hidden,
        "neurons": plan.neurons[layer],
        "heads": plan.heads[layer],
    }
    piece = weight
    for dimension, axis in enumerate(axes[: weight.ndim]):
        if axis is None or len(kept[axis]) == getattr(plan.source, _SIZES[axis]):
            continue
        index = torch.tensor(kept[axis], device=weight.device)
        if axis == "heads":
            channels_H = torch.arange(plan.source.head_dim, device=weight.device)
            index = (index[:, None] * plan.source.head_dim + channels_H).flatten()
        piece = piece.index_select(dimension, index)
    return piece.clone() if piece is weight else piece


_SIZES: dict[Axis, str] = {
    "hidden": "hidden_size",
    "neurons": "intermediate_size",
    "heads": "num_attention_heads",
}


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, tensor)
