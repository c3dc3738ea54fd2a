"""Phi-3 and Phi-4: queries, keys and values in one matrix, gate and up in another, partial rotary positions."""

from minitron.anatomy import Anatomy
from minitron.families.family import Family

PHI_3 = Family(
    name="phi3",
    anatomy=Anatomy(
        block={
            "input_layernorm": ("hidden",),
            "post_attention_layernorm": ("hidden",),
            "self_attn.qkv_proj": (("queries", "kv_heads", "kv_heads"), "hidden"),
            "self_attn.o_proj": ("hidden", "heads"),
            "mlp.gate_up_proj": (("neurons", "neurons"), "hidden"),
            "mlp.down_proj": ("hidden", "neurons"),
        }
    ),
    # transformers holds the number of these factors against hidden size over heads.
    couples_where=("short_factor", "long_factor"),
)
