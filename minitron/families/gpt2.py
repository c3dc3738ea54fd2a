"""GPT-2: learned positions, transposed weights, and a config with names of its own."""

from minitron.anatomy import Anatomy
from minitron.families.family import Family

GPT_2 = Family(
    name="gpt2",
    anatomy=Anatomy(
        decoder="transformer",
        layers="transformer.h",
        embedding="transformer.wte",
        positions="transformer.wpe",
        final_norm="transformer.ln_f",
        block_norms=("ln_1", "ln_2"),
        attention_output="attn.c_proj",
        mlp_output="mlp.c_proj",
        block={
            "ln_1": ("hidden",),
            "ln_2": ("hidden",),
            "attn.c_attn": ("hidden", ("queries", "kv_heads", "kv_heads")),
            "attn.c_proj": ("heads", "hidden"),
            "mlp.c_fc": ("hidden", "neurons"),
            "mlp.c_proj": ("neurons", "hidden"),
        },
        bias_along=-1,
        file_names=(("transformer.", ""),),
    ),
    mlp_matrices=2,
    activations_kept=5,
    neurons_per_channel=4,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    norm_bias=True,
    names={
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "intermediate_size": "n_inner",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    lacks=frozenset({"num_key_value_heads", "head_dim"}),
    defaults={"tie_word_embeddings": True, "max_position_embeddings": 1024},
    # Attention that is scaled by the number of its layer does not outlive the renumbering of layers.
    refuses=("add_cross_attention", "scale_attn_by_inverse_layer_idx"),
)
