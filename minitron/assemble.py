"""Models and their parts: made without storage, filled and found by name.

Knows neither files nor plans.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from minitron.anatomy import Anatomy
from minitron.families import family_named


def empty_model(
    config: PretrainedConfig, *, dtype: torch.dtype, attention: str | None = None
) -> PreTrainedModel:
    """Return a model without storage, so that no weight is initialised only to be replaced."""
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, **options
        )
    return model


def put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Set a parameter or a buffer of a model by its dotted name."""
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, tensor)


def put_buffers(model: PreTrainedModel, device: torch.device) -> None:
    """Make from the config what no checkpoint holds: tables of rotary positions, the scale of embeddings."""
    anatomy = anatomy_of(model)
    decoder = model.get_submodule(anatomy.decoder)
    if hasattr(decoder, "rotary_emb"):
        made: Any = type(decoder.rotary_emb)
        decoder.rotary_emb = made(config=model.config).to(device)
    if anatomy.scales_embedding:
        embedding: Any = model.get_submodule(anatomy.embedding)
        embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale, device=device)
    lacking = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    assert not lacking, f"buffers that nobody makes: {lacking}"


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Return where the parts of a model are; raise UnsupportedModel for a family that is not known."""
    return family_named(model.config.model_type).anatomy


def layers_of(model: PreTrainedModel, anatomy: Anatomy) -> nn.ModuleList:
    """Return the blocks of a model, in order."""
    layers = model.get_submodule(anatomy.layers)
    assert isinstance(layers, nn.ModuleList)
    return layers
