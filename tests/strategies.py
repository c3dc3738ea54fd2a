"""Hypothesis strategies for architectures."""

from dataclasses import replace

from hypothesis import strategies as st

from minitron.architecture import Architecture, BlockTraits
from minitron.families import FAMILIES


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any small legal architecture of any family."""
    family = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))]
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    return Architecture(
        num_layers=draw(st.integers(1, 4)),
        hidden_size=heads * draw(st.integers(2, 6)),
        intermediate_size=draw(st.integers(1, 32)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=2 * draw(st.integers(2, 4)),
        vocab_size=draw(st.integers(8, 64)),
        tie_word_embeddings=draw(st.booleans()),
        family=family.name,
        traits=BlockTraits(
            mlp_matrices=family.mlp_matrices,
            qkv_bias=family.qkv_bias,
            qk_norm=family.qk_norm,
            norm_bias=family.norm_bias,
        ),
    )


@st.composite
def targets(draw: st.DrawFn, source: Architecture) -> Architecture:
    """Any legal architecture that ``source`` can be pruned to, itself included."""
    groups = draw(st.integers(1, source.num_attention_heads // source.num_key_value_heads))
    heads = groups * source.num_key_value_heads
    step = heads if FAMILIES[source.family].heads_divide_hidden else 1
    hidden_sizes = [size for size in range(step, source.hidden_size + 1, step) if size % step == 0]
    return replace(
        source,
        num_layers=draw(st.integers(1, source.num_layers)),
        hidden_size=draw(st.sampled_from(hidden_sizes)),
        intermediate_size=draw(st.integers(1, source.intermediate_size)),
        num_attention_heads=heads,
    )
