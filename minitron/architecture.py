"""The shape of a decoder-only transformer, and what it costs, by arithmetic alone.

Knows no weights and no framework. Field names follow Hugging Face configs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minitron.errors import InvalidArchitecture

BYTES_PER_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTraits:
    """What the blocks of a family hold besides the matrices that every family has."""

    mlp_matrices: int = 3
    """3 for gated MLPs (gate, up, down), 2 for plain ones (up, down)."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """One norm of ``head_dim`` weights for the queries and one for the keys of each layer."""
    qk_norm_spans_heads: bool = False
    """These norms have weights for every head instead of one head's for all."""
    norm_bias: bool = False
    """LayerNorm (weight and bias) in place of RMSNorm (weight only)."""
    block_norms: int = 2
    """Norms over the hidden channels in each block."""
    learned_positions: int = 0
    """Rows of a table of position embeddings."""
    heads_span_hidden: bool = False
    """Hidden size is heads times head size: the config gives the head size in no other way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that fixes the parameter count of a decoder-only transformer with equal layers.

    Raises:
        InvalidArchitecture: A size below one, or query heads that do not divide among KV heads.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    """Neurons of each MLP."""
    num_attention_heads: int
    """Query heads; a multiple of ``num_key_value_heads``."""
    num_key_value_heads: int
    head_dim: int
    """The parent's; never searched."""
    vocab_size: int
    tie_word_embeddings: bool
    family: str
    """The Hugging Face ``model_type``."""
    traits: BlockTraits = field(default_factory=BlockTraits)

    def __post_init__(self) -> None:
        for name in (
            "num_layers", "hidden_size", "intermediate_size", "num_attention_heads",
            "num_key_value_heads", "head_dim", "vocab_size",
        ):  # fmt: skip
            value = getattr(self, name)
            if value < 1:
                raise InvalidArchitecture(name, f"found {value}, allowed: at least 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise InvalidArchitecture(
                "num_attention_heads",
                f"found {self.num_attention_heads}, allowed: a multiple of the "
                f"{self.num_key_value_heads} key-value heads",
            )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Architecture":
        """Return the architecture of which ``dataclasses.asdict`` made this JSON value."""
        return cls(**{**value, "traits": BlockTraits(**value["traits"])})

    @property
    def name(self) -> str:
        """The identity used in logs, files and de-duplication, for example L24-D2048-F5632-N16-K8."""
        return (
            f"L{self.num_layers}-D{self.hidden_size}-F{self.intermediate_size}"
            f"-N{self.num_attention_heads}-K{self.num_key_value_heads}"
        )

    @property
    def embedding_parameters(self) -> int:
        """Input, position and output embeddings; a tied table counts once."""
        tables = self.vocab_size * (1 if self.tie_word_embeddings else 2) + self.traits.learned_positions
        return tables * self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one block."""
        d, f = self.hidden_size, self.intermediate_size
        query = self.num_attention_heads * self.head_dim
        key_value = 2 * self.num_key_value_heads * self.head_dim
        traits = self.traits
        attention = d * (query + key_value) + query * d
        attention += (query + key_value) * traits.qkv_bias + d * traits.output_bias
        mlp = traits.mlp_matrices * d * f
        mlp += ((traits.mlp_matrices - 1) * f + d) * traits.mlp_bias
        heads = self.num_attention_heads + self.num_key_value_heads if traits.qk_norm_spans_heads else 2
        norms = traits.block_norms * self._norm_parameters + heads * self.head_dim * traits.qk_norm
        return attention + mlp + norms

    @property
    def parameter_count(self) -> int:
        """Every parameter of the model, embeddings included."""
        return self.embedding_parameters + self.non_embedding_parameters

    @property
    def non_embedding_parameters(self) -> int:
        """Every parameter but the embeddings."""
        return self.num_layers * self.layer_parameters + self._norm_parameters

    @property
    def _norm_parameters(self) -> int:
        return self.hidden_size * (2 if self.traits.norm_bias else 1)

    @property
    def matrix_parameters(self) -> int:
        """Weights of all matrix products of a forward pass; the output head counts even when tied."""
        attention = 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        mlp = self.traits.mlp_matrices * self.intermediate_size
        return self.hidden_size * (self.num_layers * (attention + mlp) + self.vocab_size)

    def weight_bytes(self, dtype: str = "bfloat16") -> int:
        """Bytes of the weights when stored in ``dtype``."""
        return self.parameter_count * BYTES_PER_ELEMENT[dtype]

    def kv_cache_bytes(self, *, batch: int, context: int, dtype: str = "bfloat16") -> int:
        """Bytes of keys and values for ``batch`` sequences of ``context`` tokens."""
        per_token = 2 * self.num_layers * self.num_key_value_heads * self.head_dim
        return batch * context * per_token * BYTES_PER_ELEMENT[dtype]

    def training_bytes(self) -> int:
        """Bytes of float32 weights, gradients and the two AdamW moments; activations excluded."""
        return 4 * self.weight_bytes("float32")

    def flops_per_token(self, *, context: int) -> int:
        """Floating-point operations of one forward pass, per token of a ``context``-token sequence.

        Two for each weight of a matrix product (the output head counts even when tied, the input
        look-up never does), and causal attention at half of the full square. Training costs about
        three times as much.
        """
        attention = self.num_layers * self.num_attention_heads * self.head_dim * context
        return 2 * self.matrix_parameters + 2 * attention
