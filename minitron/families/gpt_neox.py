"""GPT-NeoX and Pythia: one matrix holds query, key and value head by head; attention and MLP side by side."""

from minitron.anatomy import Anatomy
from minitron.families.family import Family

GPT_NEOX = Family(
    name="gpt_neox",
    anatomy=Anatomy(
        decoder="gpt_neox",
        layers="gpt_neox.layers",
        embedding="gpt_neox.embed_in",
        final_norm="gpt_neox.final_layer_norm",
        attention_output="attention.dense",
        mlp_output="mlp.dense_4h_to_h",
        block={
            "input_layernorm": ("hidden",),
            "post_attention_layernorm": ("hidden",),
            "attention.query_key_value": ("whole_heads", "hidden"),
            "attention.dense": ("hidden", "heads"),
            "mlp.dense_h_to_4h": ("neurons", "hidden"),
            "mlp.dense_4h_to_h": ("hidden", "neurons"),
        },
        file_names=(("lm_head.", "embed_out."),),
    ),
    mlp_matrices=2,
    mlp_bias=True,
    norm_bias=True,
    reads_attention_bias=True,
    lacks=frozenset({"num_key_value_heads", "head_dim"}),
    defaults={"attention_bias": True},
)
