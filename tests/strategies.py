"""Hypothesis strategies for architectures, and for what was measured of them."""

from dataclasses import replace

from hypothesis import strategies as st

from minitron.architecture import Architecture, BlockTraits
from minitron.families import FAMILIES
from nas.latency_table import BlockRow, EndsLatency, LatencySetting, LatencyTable, Machine


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any small legal architecture of any family."""
    family = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))]
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    head_dim = 2 * draw(st.integers(2, 4))
    spans = "head_dim" in family.lacks
    return Architecture(
        num_layers=draw(st.integers(1, 4)),
        hidden_size=heads * (head_dim if spans else draw(st.integers(2, 6))),
        intermediate_size=draw(st.integers(1, 32)),
        num_attention_heads=heads,
        num_key_value_heads=heads if family.pairs_heads else kv_heads,
        head_dim=head_dim,
        vocab_size=draw(st.integers(8, 64)),
        tie_word_embeddings=draw(st.booleans()),
        family=family.name,
        traits=BlockTraits(
            mlp_matrices=family.mlp_matrices,
            qkv_bias=family.qkv_bias or bool(family.defaults.get("attention_bias")),
            output_bias=family.output_bias or bool(family.defaults.get("attention_bias")),
            mlp_bias=family.mlp_bias,
            qk_norm=family.qk_norm,
            qk_norm_spans_heads=family.qk_norm_spans_heads,
            norm_bias=family.norm_bias,
            block_norms=len(family.anatomy.hidden_norms),
            learned_positions=64 if family.anatomy.positions else 0,
            heads_span_hidden=spans,
        ),
    )


@st.composite
def targets(draw: st.DrawFn, source: Architecture) -> Architecture:
    """Any legal architecture that ``source`` can be pruned to, itself included, with fewer KV heads too."""
    family = FAMILIES[source.family]
    kv_heads = draw(st.integers(1, source.num_key_value_heads))
    groups = draw(st.integers(1, source.num_attention_heads // source.num_key_value_heads))
    heads = groups * kv_heads
    step = heads if family.heads_divide_hidden else 1
    hidden_sizes = range(step, source.hidden_size + 1, step)
    return replace(
        source,
        num_layers=draw(st.integers(1, source.num_layers)),
        hidden_size=heads * source.head_dim
        if source.traits.heads_span_hidden
        else draw(st.sampled_from(hidden_sizes)),
        intermediate_size=draw(st.integers(1, source.intermediate_size)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )


@st.composite
def latency_tables(draw: st.DrawFn, parent: Architecture) -> LatencyTable:
    """Any table of sizes up to the parent's, whose times need not grow with sizes, and may lack heads."""
    most = parent.num_attention_heads, parent.num_key_value_heads
    heads = draw(st.sets(st.tuples(*(st.integers(1, each) for each in most)), min_size=1, max_size=3))
    neurons = draw(st.sets(st.integers(1, parent.intermediate_size), min_size=1, max_size=4))
    hidden = st.sets(st.integers(1, parent.hidden_size), min_size=1, max_size=3)
    times = st.integers(1, 2000)
    return LatencyTable(
        setting=LatencySetting(
            phase=draw(st.sampled_from(("prefill", "decode"))),
            context=draw(st.integers(1, 64)),
            batch=draw(st.integers(1, 4)),
            dtype="float32",
        ),
        machine=Machine(device="drawn", threads=1, software="none"),
        neurons=tuple(sorted(neurons)),
        rows=tuple(
            BlockRow(
                num_attention_heads=pair[0],
                num_key_value_heads=pair[1],
                hidden_size=size,
                nanoseconds=tuple(draw(times) for _ in neurons),
            )
            for pair in sorted(heads)
            for size in sorted(draw(hidden))
        ),
        ends=tuple(EndsLatency(hidden_size=size, nanoseconds=draw(times)) for size in sorted(draw(hidden))),
    )
