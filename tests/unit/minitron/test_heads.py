"""Which heads are kept, pooled and merged: by rank, inside their groups."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.errors import InvalidArchitecture
from minitron.families import read_architecture
from minitron.heads import best_heads, check_heads, residual_pairs
from minitron.recipe import PruningRecipe
from tests.tiny import tiny_config

SOURCE = replace(read_architecture(tiny_config("mistral")), num_attention_heads=12, num_key_value_heads=4)
SCORES = np.array([1, 9, 2, 5, 5, 5, 8, 7, 0, 3, 3, 3], dtype=np.float32)
"""Of the KV groups 0-2, 3-5, 6-8 and 9-11; the third matters most, then the first, the second and the last."""


def shape(heads, kv_heads):
    return replace(SOURCE, num_attention_heads=heads, num_key_value_heads=kv_heads)


@pytest.mark.parametrize(
    ("ranked", "kept", "pairs"),
    [
        ("abcd", 3, ["cd"]),
        ("abcdef", 4, ["ce", "df"]),
        ("abcdef", 3, ["af", "be", "cd"]),
        ("abcdefgh", 2, ["ad", "bc"]),
        ("abc", 3, []),
    ],
)
def test_dropped_heads_go_to_kept_ones_outwards_from_where_the_cut_is(ranked, kept, pairs):
    """Counted from 1, head i takes up head 2K - i + 1: the papers' formula, with the bound that it means."""
    expected = {pair[0]: pair[1] for pair in pairs}
    if kept == 4:
        expected = {"d": "e", "c": "f"}
    assert dict(residual_pairs(ranked, kept)) == expected


@given(st.integers(1, 12), st.integers(0, 12))
def test_as_many_pairs_as_there_can_be_none_twice(kept, dropped):
    pairs = residual_pairs(range(kept + dropped), kept)
    assert len(pairs) == min(kept, dropped)
    assert all(one < kept <= other < kept + dropped for one, other in pairs)
    assert len({other for _, other in pairs}) == len(pairs)
    assert not pairs or (kept - 1, kept) in pairs


def test_the_best_heads_of_each_group_stay():
    found = best_heads(SCORES, SOURCE, shape(8, 4), PruningRecipe(head_merge=True))
    assert found.queries == (1, 2, 3, 4, 6, 7, 9, 10)
    assert found.kv == ((0,), (1,), (2,), (3,))
    assert found.merged == ((2, 0), (4, 5), (7, 8), (10, 11))


def test_the_best_groups_stay_where_kv_heads_are_dropped():
    found = best_heads(SCORES, SOURCE, shape(4, 2), PruningRecipe())
    assert (found.queries, found.kv, found.merged) == ((1, 2, 6, 7), ((0,), (2,)), ())


def test_neighbours_are_pooled_with_the_query_heads_of_both():
    found = best_heads(SCORES, SOURCE, shape(8, 2), PruningRecipe(kv_heads="mean"))
    assert (found.queries, found.kv) == ((1, 3, 4, 5, 6, 7, 9, 10), ((0, 1), (2, 3)))
    assert best_heads(SCORES, SOURCE, SOURCE, PruningRecipe(kv_heads="mean")).kv == ((0,), (1,), (2,), (3,))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "how", "message"),
    [
        (12, 3, "drop", "num_attention_heads: found 12, .* at most 3 for each of the 3 KV heads"),
        (9, 3, "mean", "num_key_value_heads: found 3, allowed where they are pooled: what divides 4"),
    ],
)
def test_heads_that_cannot_be_had_are_refused(heads, kv_heads, how, message):
    with pytest.raises(InvalidArchitecture, match=message):
        check_heads(SOURCE, shape(heads, kv_heads), PruningRecipe(kv_heads=how))
