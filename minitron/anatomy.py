"""Where the parts of a model are, by the names of its modules, and which axis runs along each weight: data.

Free of torch; what works on a real model asks it by name, with ``module.get_submodule``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Axis = Literal["hidden", "neurons", "queries", "heads", "kv_heads", "whole_heads"]
"""What is kept or dropped along a dimension. ``queries`` make a head's query and ``heads`` hold its output,
``kv_heads`` make a key or a value; ``whole_heads`` make query, key and value of one head, one after the other."""

Along = Axis | tuple[Axis, ...] | None
"""What runs along a dimension: an axis, several one after the other (fused projections), or nothing that is cut."""

LLAMA_BLOCK: Mapping[str, tuple[Along, ...]] = MappingProxyType(
    {
        "input_layernorm": ("hidden",),
        "post_attention_layernorm": ("hidden",),
        "self_attn.q_proj": ("queries", "hidden"),
        "self_attn.k_proj": ("kv_heads", "hidden"),
        "self_attn.v_proj": ("kv_heads", "hidden"),
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
    positions: str | None = None
    """Of a learned table of positions."""
    final_norm: str = "model.norm"
    head: str = "lm_head"
    """Makes logits of final hidden states; see ``minitron.head`` for what comes after."""
    block_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    """Whose output feeds the block's parts: where hidden channels are measured."""
    attention_output: str = "self_attn.o_proj"
    """Its input holds the channels of the heads."""
    mlp_output: str = "mlp.down_proj"
    """Its input holds the neurons."""
    block: Mapping[str, tuple[Along, ...]] = field(default_factory=lambda: LLAMA_BLOCK)
    """What runs along each dimension of a module's weight."""
    bias_along: int = 0
    """The dimension of a weight that its bias runs along; -1 where weights are stored transposed."""
    norm_offset: float = 0.0
    """What norms add to their weight before they multiply by it."""
    scales_embedding: bool = False
    """Embeddings are multiplied by the square root of the hidden size."""
    logit_divisor: str | None = None
    """The config entry by which logits are divided."""
    logit_cap: str | None = None
    """The config entry at which logits are capped, softly; it may be null."""
    file_names: tuple[tuple[str, str], ...] = ()
    """Beginnings of parameter names, and what published files have in their place."""

    @property
    def hidden_norms(self) -> tuple[str, ...]:
        """The norms of a block that run over the hidden channels."""
        return tuple(name for name, along in self.block.items() if along == ("hidden",))

    @property
    def fuses_attention(self) -> bool:
        """Whether queries, keys and values come from one matrix."""
        return any(
            along == "whole_heads" or (isinstance(along, tuple) and "queries" in along)
            for dimensions in self.block.values()
            for along in dimensions
        )

    def axes_of(self, name: str) -> tuple[Along, ...] | None:
        """Return what runs along each dimension of a parameter, or None where the name is not known."""
        module, _, leaf = name.rpartition(".")
        inside = self.layer_of(module)
        outside: dict[str | None, tuple[Along, ...]] = {
            self.embedding: (None, "hidden"),
            self.positions: (None, "hidden"),
            self.final_norm: ("hidden",),
            self.head: (None, "hidden"),
        }
        axes = outside.get(module) if inside is None else self.block.get(inside[1])
        return (axes[self.bias_along],) if axes and leaf == "bias" else axes

    def layer_of(self, name: str) -> tuple[int, str] | None:
        """Return the number of the block that a parameter or module is in, and its name there; None outside."""
        prefix = f"{self.layers}."
        if not name.startswith(prefix):
            return None
        index, _, rest = name.removeprefix(prefix).partition(".")
        return int(index), rest

    def names_in_files(self, name: str) -> tuple[str, ...]:
        """Return what a parameter may be called in the files of a checkpoint, its own name first."""
        others = [
            other + name.removeprefix(begin) for begin, other in self.file_names if name.startswith(begin)
        ]
        return (name, *others)
