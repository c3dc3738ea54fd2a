"""Where the parts of a model are, by the names of its modules, and which axis runs along each weight: data.

Free of torch; what works on a real model asks it by name, with ``module.get_submodule``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Axis = Literal["hidden", "neurons", "heads"]

LLAMA_BLOCK: Mapping[str, tuple[Axis | None, ...]] = MappingProxyType(
    {
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Names of modules; those of a block are relative to it."""

    decoder: str = "model"
    """What makes final hidden states of tokens."""
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    """Makes logits of final hidden states."""
    block_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    """Whose output feeds the block's parts: where hidden channels are measured."""
    attention_output: str = "self_attn.o_proj"
    """Its input holds the channels of the heads."""
    mlp_output: str = "mlp.down_proj"
    """Its input holds the neurons."""
    block: Mapping[str, tuple[Axis | None, ...]] = field(default_factory=lambda: LLAMA_BLOCK)
    """The axis of each dimension of a module's weight; a bias runs along the first. None is kept whole."""

    def axes_of(self, name: str) -> tuple[Axis | None, ...] | None:
        """Return the axes of a parameter, or None where the name is not known."""
        module = name.rpartition(".")[0]
        inside = self.layer_of(module)
        if inside is not None:
            return self.block.get(inside[1])
        outside: dict[str, tuple[Axis | None, ...]] = {
            self.embedding: (None, "hidden"),
            self.final_norm: ("hidden",),
            self.head: (None, "hidden"),
        }
        return outside.get(module)

    def layer_of(self, name: str) -> tuple[int, str] | None:
        """Return the number of the block that a parameter or module is in, and its name there; None outside."""
        prefix = f"{self.layers}."
        if not name.startswith(prefix):
            return None
        index, _, rest = name.removeprefix(prefix).partition(".")
        return int(index), rest
