"""Gemma 2 and the text models of Gemma 3: norms before and after each part, scaled embeddings, capped logits."""

from dataclasses import replace

from minitron.anatomy import LLAMA_BLOCK, Anatomy
from minitron.families.family import Family

GEMMA_2 = Family(
    name="gemma2",
    anatomy=Anatomy(
        block_norms=("input_layernorm", "pre_feedforward_layernorm"),
        block={
            **LLAMA_BLOCK,
            "pre_feedforward_layernorm": ("hidden",),
            "post_feedforward_layernorm": ("hidden",),
        },
        norm_offset=1.0,
        scales_embedding=True,
        logit_cap="final_logit_softcapping",
    ),
    reads_attention_bias=True,
    wide_norms=True,
    attends_eagerly=True,
    heads_divide_hidden=True,
    defaults={"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True},
    refuses=("use_bidirectional_attention",),
)
GEMMA_3 = replace(GEMMA_2, name="gemma3_text", qk_norm=True, attends_eagerly=False)
