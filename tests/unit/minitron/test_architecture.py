"""What an architecture costs, by arithmetic alone."""

from dataclasses import replace

import pytest
from hypothesis import given

from minitron.architecture import Architecture, BlockTraits
from minitron.errors import InvalidArchitecture
from tests.strategies import architectures

SMALL = Architecture(
    num_layers=2, hidden_size=8, intermediate_size=12, num_attention_heads=4, num_key_value_heads=2,
    head_dim=4, vocab_size=10, tie_word_embeddings=True, family="mistral",
)  # fmt: skip


def test_parameters_counted_by_hand():
    attention = 8 * 16 + 2 * 8 * 8 + 16 * 8
    mlp = 3 * 8 * 12
    norms = 2 * 8
    assert SMALL.layer_parameters == attention + mlp + norms
    assert SMALL.parameter_count == 10 * 8 + 2 * (attention + mlp + norms) + 8
    assert replace(SMALL, tie_word_embeddings=False).parameter_count == SMALL.parameter_count + 10 * 8


def test_every_trait_adds_its_parameters():
    def extra(**traits: object) -> int:
        traits_on = replace(SMALL, traits=BlockTraits(**traits))
        return traits_on.layer_parameters - SMALL.layer_parameters

    assert extra(qkv_bias=True) == 16 + 8 + 8
    assert extra(output_bias=True) == 8
    assert extra(mlp_bias=True) == 12 + 12 + 8
    assert extra(qk_norm=True) == 2 * 4
    assert extra(norm_bias=True) == 2 * 8
    assert extra(mlp_matrices=2) == -8 * 12


def test_bytes():
    assert SMALL.weight_bytes("float32") == 2 * SMALL.weight_bytes("bfloat16") == 4 * SMALL.parameter_count
    assert SMALL.training_bytes() == 16 * SMALL.parameter_count
    # keys and values, layers, KV heads, head size, bytes of bfloat16
    assert SMALL.kv_cache_bytes(batch=3, context=5) == 3 * 5 * 2 * 2 * 2 * 4 * 2


def test_flops_are_two_for_each_weight_of_a_matrix_product_plus_attention():
    matrices = SMALL.non_embedding_parameters - SMALL.num_layers * 2 * 8 - 8
    assert SMALL.flops_per_token(context=0) == 2 * (matrices + 10 * 8)
    # scores and weighted values of 2 layers x 16 channels, over half of 6 positions on average
    assert SMALL.flops_per_token(context=6) - SMALL.flops_per_token(context=0) == 2 * 2 * 2 * 16 * 3


def test_name_is_the_shape():
    assert SMALL.name == "L2-D8-F12-N4-K2"


@given(architecture=architectures())
def test_every_axis_costs(architecture):
    """Fewer layers, channels or neurons always means fewer parameters."""
    for name in ("num_layers", "hidden_size", "intermediate_size"):
        size = getattr(architecture, name)
        if size > 1:
            assert replace(architecture, **{name: size - 1}).parameter_count < architecture.parameter_count


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"hidden_size": -8}, "hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
    ],
)
def test_impossible_shapes_name_their_field(changes, field):
    with pytest.raises(InvalidArchitecture) as error:
        replace(SMALL, **changes)
    assert error.value.field == field
    assert "allowed" in str(error.value)
