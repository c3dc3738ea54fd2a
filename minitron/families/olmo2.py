"""OLMo 2: norms after each part instead of before it, and over all queries and all keys at once."""

from minitron.anatomy import LLAMA_BLOCK, Anatomy
from minitron.families.family import Family

_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")

OLMO_2 = Family(
    name="olmo2",
    anatomy=Anatomy(
        block_norms=_NORMS,
        block={
            **{name: along for name, along in LLAMA_BLOCK.items() if not name.endswith("norm")},
            **dict.fromkeys(_NORMS, ("hidden",)),
            "self_attn.q_norm": ("heads",),
            "self_attn.k_norm": ("kv_heads",),
        },
    ),
    reads_attention_bias=True,
    qk_norm=True,
    qk_norm_spans_heads=True,
    wide_norms=True,
)
