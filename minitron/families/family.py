"""What a family is: all that differs between those that can be pruned, as data.

Knows no config in particular and no other family.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minitron.anatomy import Anatomy
from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture, InvalidRecipe
from minitron.recipe import PruningRecipe

Config = Mapping[str, Any]
"""The content of a ``config.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What differs between families; the defaults are those of the Llama layout."""

    name: str
    """The Hugging Face ``model_type``."""
    anatomy: Anatomy = field(default_factory=Anatomy)
    mlp_matrices: int = 3
    neurons_per_channel: int | None = None
    """Neurons of an MLP over hidden size, where the config may leave the neurons out."""
    qkv_bias: bool = False
    """Biases on query, key and value that the family always has."""
    output_bias: bool = False
    """A bias on the attention's output that the family always has."""
    mlp_bias: bool = False
    """Biases of the MLP that the family always has."""
    reads_attention_bias: bool = False
    """The config's ``attention_bias`` gives all four projections a bias; other families ignore it."""
    reads_mlp_bias: bool = False
    """The config's ``mlp_bias`` gives the MLP biases; other families ignore it."""
    qk_norm: bool = False
    qk_norm_spans_heads: bool = False
    """The norms of queries and keys run over all heads at once."""
    norm_bias: bool = False
    heads_divide_hidden: bool = False
    """transformers refuses ``hidden_size % num_attention_heads != 0`` (huggingface/transformers#46082)."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the config calls an entry, where that is not what others call it."""
    lacks: frozenset[str] = frozenset()
    """Sizes that the config has no entry for. Without ``num_key_value_heads`` each query head has a key and a
    value of its own, and is kept with them; without ``head_dim`` hidden size is heads times head size."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Entries that mean something where a config leaves them out."""
    refuses: tuple[str, ...] = ()
    """Entries that must not be set: what they ask for would not survive pruning."""
    couples_where: tuple[str, ...] = ()
    """Entries of the config's RoPE settings with which hidden size must stay heads times head size."""

    wide_norms: bool = False
    """RMSNorms multiply by their weight in float32. Tells, as do the next two, what a training step keeps."""
    attends_eagerly: bool = False
    """Attention keeps the scores of all pairs of tokens, since no kernel caps them."""
    activations_kept: int = 2
    """Of a plain MLP, for each neuron."""

    def entry(self, config: Config, name: str) -> Any:
        """Return what a config says under the name that other families use, None where it says nothing."""
        found = config.get(self.names.get(name, name))
        return self.defaults.get(name) if found is None else found

    def check(self, architecture: Architecture) -> None:
        """Raise InvalidArchitecture when stock transformers would refuse the shape."""
        heads, hidden_size = architecture.num_attention_heads, architecture.hidden_size
        if architecture.traits.heads_span_hidden and hidden_size != heads * architecture.head_dim:
            raise InvalidArchitecture(
                "hidden_size",
                f"found {hidden_size}, allowed for {self.name}: {heads} heads times {architecture.head_dim}",
            )
        if self.pairs_heads and architecture.num_key_value_heads != heads:
            raise InvalidArchitecture(
                "num_key_value_heads",
                f"found {architecture.num_key_value_heads}, allowed for {self.name}: as many as query heads",
            )
        if self.heads_divide_hidden and hidden_size % heads:
            raise InvalidArchitecture(
                "hidden_size",
                f"found {hidden_size}, allowed for {self.name}: a multiple of the {heads} attention heads",
            )

    def check_recipe(self, recipe: PruningRecipe) -> None:
        """Raise InvalidRecipe for what cannot be done to the weights of this family."""
        reason = None
        if recipe.norm_rescaling and self.norm_bias:
            field, reason = (
                "norm_rescaling",
                "found true, allowed with LayerNorm, whose mean shifts too: false",
            )
        elif self.pairs_heads and (recipe.head_merge or recipe.kv_heads == "mean"):
            field = "head_merge" if recipe.head_merge else "kv_heads"
            found, allowed = ("true", "false") if recipe.head_merge else ("'mean'", "'drop'")
            reason = f"found {found}, allowed for {self.name}, whose heads share no keys: {allowed}"
        if reason is not None:
            raise InvalidRecipe(f"pruning.{field}", reason)

    @property
    def pairs_heads(self) -> bool:
        """Whether each query head has a key-value head of its own."""
        return "num_key_value_heads" in self.lacks
