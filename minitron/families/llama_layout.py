"""The families whose blocks are laid out as Llama's."""

from minitron.anatomy import Anatomy
from minitron.families.family import Family

LLAMA_LAYOUT = (
    Family(name="llama", reads_attention_bias=True, reads_mlp_bias=True, heads_divide_hidden=True),
    Family(name="mistral"),
    Family(name="qwen2", qkv_bias=True),
    Family(name="qwen3", reads_attention_bias=True, qk_norm=True),
    Family(
        name="smollm3",
        reads_attention_bias=True,
        reads_mlp_bias=True,
        defaults={"num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    Family(
        name="granite",
        anatomy=Anatomy(logit_divisor="logits_scaling"),
        reads_attention_bias=True,
        reads_mlp_bias=True,
    ),
    Family(
        name="nemotron",
        anatomy=Anatomy(norm_offset=1.0),
        mlp_matrices=2,
        norm_bias=True,
        reads_attention_bias=True,
        reads_mlp_bias=True,
    ),
)
