"""A space holds the feasible architectures, all of them and nothing else."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.architecture import Architecture, BlockTraits
from minitron.errors import InvalidArchitecture, InvalidRecipe
from minitron.families import family_named, read_architecture
from minitron.heads import check_heads
from minitron.parents import parent_architecture
from minitron.recipe import PruningRecipe
from nas.axes import AXIS_NAMES, Axes, Multiples, Range
from nas.budget import Budget
from nas.errors import EmptySpace, InvalidSpec
from nas.space import SearchSpace, search_space
from nas.widths import MAX_COMBINATIONS
from tests.fakes import small_spec
from tests.parity.configs import CONFIGS
from tests.strategies import architectures

NEMOTRON_15B = Architecture(
    num_layers=32,
    hidden_size=6144,
    intermediate_size=24576,
    num_attention_heads=48,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=256_000,
    tie_word_embeddings=False,
    family="nemotron",
    traits=BlockTraits(mlp_matrices=2, norm_bias=True),
)
PAPER_MULTIPLES = Multiples(of_hidden=(2.5, 3, 3.5, 4))
PAPER_4B = Axes(
    num_layers=Range(start=29, stop=32),
    hidden_size=(2560, 3072, 3584, 4096, 4608),
    intermediate_size=PAPER_MULTIPLES,
    num_attention_heads=(24, 32, 48),
)
PAPER_8B = Axes(
    num_layers=Range(start=29, stop=32),
    hidden_size=(4096, 4608, 5120, 5632, 6144),
    intermediate_size=PAPER_MULTIPLES,
    num_attention_heads=(32, 48),
)
TABLE_19 = {
    (32, 32, 12800, 5120), (32, 32, 13824, 4608), (32, 48, 11520, 4608), (32, 48, 16384, 4096),
    (31, 32, 12800, 5120), (31, 32, 16128, 4608), (31, 48, 13824, 4608), (31, 48, 16384, 4096),
    (30, 32, 12800, 5120), (30, 32, 16128, 4608), (30, 48, 13824, 4608), (30, 48, 16384, 4096),
    (29, 32, 12800, 5120), (29, 32, 16128, 4608), (29, 48, 13824, 4608),
}  # fmt: skip
"""Layers, heads, neurons and hidden size of all candidates of the 8B search, as printed in the paper."""
TINY = parent_architecture("builtin:tiny")


def rows(space):
    return {
        (each.num_layers, each.num_attention_heads, each.intermediate_size, each.hidden_size)
        for each in space.architectures
    }


def window(low, high, **changes):
    return Budget(min_parameters=int(low), max_parameters=int(high), **changes)


# The papers' spaces


def test_the_papers_4b_space_has_its_18_architectures():
    space = SearchSpace(NEMOTRON_15B, PAPER_4B, window(3.8e9, 4.2e9))
    assert len(space) == len(space.architectures) == 18
    assert (32, 24, 9216, 3072) in rows(space)


def test_the_papers_8b_space_is_its_table_19():
    assert rows(SearchSpace(NEMOTRON_15B, PAPER_8B, window(7.87e9, 8.50e9))) == TABLE_19


def test_five_percent_taken_literally_gives_18_architectures_at_8b():
    found = rows(SearchSpace(NEMOTRON_15B, PAPER_8B, window(7.6e9, 8.4e9)))
    assert len(found) == 18
    assert len(found & TABLE_19) == 13


def test_counting_without_embeddings_gives_another_space():
    space = SearchSpace(NEMOTRON_15B, PAPER_8B, window(7.87e9, 8.50e9, counting="non_embedding"))
    assert rows(space) != TABLE_19


# Feasible means feasible


def _all(choices, axes, name, parent):
    """The choices of an axis; where heads span the hidden size, all sizes of what may follow from another."""
    follows = parent.traits.heads_span_hidden and any(
        choices is not None
        for choices in (axes.hidden_size, axes.num_attention_heads, axes.num_key_value_heads)
    )
    if choices is None and follows:
        return tuple(range(1, getattr(parent, name) + 1))
    return axes.sizes(name, parent, hidden_size=0)


def brute_force(parent, axes, budget):
    """Every combination, checked one by one by the family and the budget themselves."""
    feasible = []
    family = family_named(parent.family)
    for hidden in _all(axes.hidden_size, axes, "hidden_size", parent):
        sizes = [axes.sizes(name, parent, hidden_size=hidden) for name in AXIS_NAMES]
        sizes[1] = (hidden,)
        # What is not given may follow from what is; whatever is legal and says the same of the rest.
        sizes[3] = _all(axes.num_attention_heads, axes, "num_attention_heads", parent)
        sizes[4] = _all(axes.num_key_value_heads, axes, "num_key_value_heads", parent)
        for combination in product(*sizes):
            try:
                architecture = replace(parent, **dict(zip(AXIS_NAMES, combination, strict=True)))
                family.check(architecture)
                check_heads(parent, architecture, PruningRecipe())
            except InvalidArchitecture:
                continue
            if budget.admits(architecture) and architecture.intermediate_size <= parent.intermediate_size:
                feasible.append(architecture)
    return sorted(feasible, key=lambda each: tuple(getattr(each, name) for name in AXIS_NAMES))


def choices(size):
    listed = st.lists(st.integers(1, size), min_size=1, max_size=4).map(tuple)
    ranges = st.builds(
        lambda ends, step: Range(start=min(ends), stop=max(ends), step=step),
        st.tuples(st.integers(1, size), st.integers(1, size)),
        st.integers(1, 3),
    )
    return st.none() | listed | ranges


@given(st.data(), architectures())
def test_a_space_is_what_checking_each_combination_gives(data, parent):
    """Whatever the parent, the axes and the window: the same architectures in the same order."""
    multiples = st.lists(st.sampled_from((0.5, 1.0, 1.01)), min_size=1).map(
        lambda found: Multiples(of_hidden=tuple(found))
    )
    axes = Axes(
        **{
            name: data.draw(
                choices(getattr(parent, name)) | (multiples if name == "intermediate_size" else st.none())
            )
            for name in AXIS_NAMES
        }
    )
    low = data.draw(st.integers(0, parent.parameter_count))
    budget = Budget(
        min_parameters=low,
        max_parameters=data.draw(st.integers(low, parent.parameter_count)),
        counting=data.draw(st.sampled_from(("total", "non_embedding"))),
    )
    try:
        space = SearchSpace(parent, axes, budget)
    except EmptySpace:
        assert brute_force(parent, axes, budget) == []
        return
    except InvalidSpec:
        # Multiples that fit no hidden size of this parent.
        assert isinstance(axes.intermediate_size, Multiples)
        return
    feasible = brute_force(parent, axes, budget)
    assert list(space.architectures) == feasible
    assert budget.count(space.smallest) == min(map(budget.count, feasible))
    assert budget.count(space.largest) == max(map(budget.count, feasible))


def test_only_what_is_feasible_is_in_a_space():
    space = search_space(small_spec())
    assert all(architecture in space for architecture in space.architectures)
    assert TINY not in space
    feasible = space.architectures[0]
    assert replace(feasible, vocab_size=1) not in space
    assert replace(feasible, hidden_size=feasible.hidden_size + 4) not in space
    assert "L5-D104-F240-N4-K4" not in space


def test_every_combination_that_is_left_out_has_a_reason():
    smollm2 = parent_architecture("builtin:smollm2-135m")
    axes = Axes(
        num_layers=(28, 30),
        hidden_size=(500, 540, 576),
        intermediate_size=Multiples(of_hidden=(2, 2.75)),
        num_attention_heads=(6, 8, 9),
    )
    space = SearchSpace(smollm2, axes, window(100e6, 120e6))
    assert set(space.reasons) == {
        "intermediate_size above the parent's",
        "num_attention_heads, allowed: a multiple of the 3 key-value heads",
        "hidden_size, allowed for llama: a multiple of the 6 attention heads",
        "hidden_size, allowed for llama: a multiple of the 9 attention heads",
        "above max_parameters",
        "below min_parameters",
    }
    assert space.num_combinations == 36 == len(space) + sum(space.reasons.values())
    assert {each.hidden_size for each in space.architectures} == {540, 576}


# Refusals


@pytest.mark.parametrize(
    ("axes", "field"),
    [
        (Axes(num_layers=(6, 7)), "axes.num_layers"),
        (Axes(num_layers=(0, 6)), "axes.num_layers"),
        (Axes(hidden_size=Range(start=64, stop=10**15, step=1)), "axes.hidden_size"),
        (Axes(num_attention_heads=(16,)), "axes.num_attention_heads"),
        (Axes(intermediate_size=(257,)), "axes.intermediate_size"),
        (Axes(intermediate_size=Multiples(of_hidden=(1.0, 2.5))), "axes.intermediate_size"),
        (Axes(intermediate_size=Multiples(of_hidden=(-1.0,))), "axes.intermediate_size"),
    ],
)
def test_a_size_that_the_parent_cannot_be_pruned_to_is_refused(axes, field):
    with pytest.raises(InvalidSpec, match="allowed: 1 to the parent's") as caught:
        SearchSpace(TINY, axes, Budget(max_parameters=10**9))
    assert [name for name, _ in caught.value.problems] == [field]


def test_a_multiple_that_fits_only_small_hidden_sizes_is_no_mistake():
    axes = Axes(hidden_size=(96, 128), intermediate_size=Multiples(of_hidden=(2.5,)))
    space = SearchSpace(TINY, axes, Budget(max_parameters=10**9))
    assert [(each.hidden_size, each.intermediate_size) for each in space.architectures] == [(96, 240)]


def test_a_range_within_the_parent_may_stop_above_it():
    """As long as no step lands above."""
    axes = Axes(hidden_size=Range(start=80, stop=150, step=48))
    space = SearchSpace(TINY, axes, Budget(max_parameters=10**9))
    assert [each.hidden_size for each in space.architectures] == [80, 128]


def test_an_impossible_budget_says_how_near_the_axes_come():
    with pytest.raises(EmptySpace) as caught:
        SearchSpace(TINY, small_spec().axes, window(0, 100_000))
    ((field, reason),) = caught.value.problems
    assert field == "budget"
    space = SearchSpace(TINY, small_spec().axes, window(0, 10**9))
    assert f"{space.num_combinations} combinations" in reason
    assert f"from {space.smallest.parameter_count:,} to {space.largest.parameter_count:,}" in reason
    smallest = space.smallest
    assert reason.endswith(
        f"the nearest is {smallest.name} with {smallest.parameter_count:,} total parameters"
    )


def test_axes_without_a_legal_combination_say_why():
    with pytest.raises(EmptySpace) as caught:
        SearchSpace(TINY, Axes(num_attention_heads=(3, 5)), Budget(max_parameters=10**9))
    ((field, reason),) = caught.value.problems
    assert field == "axes"
    assert reason == (
        "found 2 combinations of the axes, none legal for llama: "
        "num_attention_heads, allowed: a multiple of the 4 key-value heads (2 refused)"
    )


def test_more_combinations_than_can_be_listed_are_refused_at_once():
    axes = Axes(hidden_size=Range(start=1, stop=6144), intermediate_size=Range(start=1, stop=24576))
    with pytest.raises(InvalidSpec, match=f"at most {MAX_COMBINATIONS:,}"):
        SearchSpace(NEMOTRON_15B, axes, Budget(max_parameters=10**12))


# Wishes and draws


def test_a_feasible_wish_is_granted():
    space = search_space(small_spec())
    for architecture in space.architectures:
        assert space.nearest(space.ordinals(architecture)) == architecture


def test_along_the_mlp_axis_multiples_are_neighbours():
    space = SearchSpace(NEMOTRON_15B, PAPER_8B, window(7.87e9, 8.50e9))
    ordinals = {each.name: space.ordinals(each) for each in space.architectures}
    assert ordinals["L32-D5120-F12800-N32-K8"]["intermediate_size"] == 0
    assert ordinals["L32-D4608-F11520-N48-K8"]["intermediate_size"] == 0
    assert ordinals["L32-D4096-F16384-N48-K8"]["intermediate_size"] == 3
    assert space.num_ordinals == {
        "num_layers": 4, "hidden_size": 3, "intermediate_size": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }  # fmt: skip


@given(st.data())
def test_what_is_nearest_is_nearest(data):
    """By a plain search over all that is not excluded, axes counting as equally long."""
    space = search_space(small_spec())
    spans = {name: max(1, num - 1) for name, num in space.num_ordinals.items()}
    wish = {name: data.draw(st.integers(0, num - 1)) for name, num in space.num_ordinals.items()}
    excluded = set(data.draw(st.lists(st.sampled_from(space.architectures), max_size=20)))

    def distance(architecture):
        there = space.ordinals(architecture)
        return sum(((there[name] - wish[name]) / spans[name]) ** 2 for name in AXIS_NAMES)

    found = space.nearest(wish, excluded)
    others = [each for each in space.architectures if each not in excluded]
    assert found == min(others, key=lambda each: (round(distance(each), 12), space.architectures.index(each)))


def test_draws_are_even_over_what_is_not_excluded():
    space = SearchSpace(NEMOTRON_15B, PAPER_4B, window(3.8e9, 4.2e9))
    excluded = space.architectures[::6]
    random = Random(0)
    drawn = Counter(space.draw(random, excluded) for _ in range(15 * 200))
    assert set(drawn) == set(space.architectures) - set(excluded)
    assert min(drawn.values()) > 150
    assert max(drawn.values()) < 250


def test_nothing_is_left_when_all_is_excluded():
    space = search_space(small_spec())
    excluded = set(space.architectures)
    assert space.draw(Random(0), excluded) is None
    assert space.nearest({}, excluded) is None
    last = excluded.pop()
    assert space.draw(Random(0), excluded) == space.nearest({}, excluded) == last


# Axes that a family derives, and KV heads


def test_where_heads_span_the_hidden_size_one_axis_is_enough():
    """And is no choice of its own for the sampler."""
    gpt2 = read_architecture(CONFIGS["GPT-2"])
    for axes in (Axes(hidden_size=(512, 640, 768, 700)), Axes(num_attention_heads=(8, 10, 12))):
        space = SearchSpace(gpt2, axes, Budget(max_parameters=10**9))
        assert [each.name for each in space.architectures] == [
            f"L12-D{heads * 64}-F3072-N{heads}-K{heads}" for heads in (8, 10, 12)
        ]
        assert sorted(space.num_ordinals.values()) == [1, 1, 1, 1, 3]
    both = SearchSpace(
        gpt2, Axes(hidden_size=(512, 768), num_attention_heads=(8, 10)), Budget(max_parameters=10**9)
    )
    assert [each.name for each in both.architectures] == ["L12-D512-F3072-N8-K8"]
    assert both.reasons["hidden_size, allowed for gpt2: 10 heads times 64"] == 2


def test_kv_heads_are_an_axis_where_it_is_asked_for():
    """Dropped with the query heads of their groups, or pooled among all of them."""
    llama = read_architecture(CONFIGS["Llama-3.1-8B"])
    axes = Axes(num_attention_heads=(16, 32), num_key_value_heads=(3, 4, 8))
    found = {
        how: {
            (each.num_attention_heads, each.num_key_value_heads)
            for each in SearchSpace(
                llama, axes, Budget(max_parameters=10**10), PruningRecipe(kv_heads=how)
            ).architectures
        }
        for how in ("drop", "mean")
    }
    assert found == {"drop": {(16, 4), (16, 8), (32, 8)}, "mean": {(16, 4), (16, 8), (32, 4), (32, 8)}}


@pytest.mark.parametrize(
    ("name", "recipe", "message"),
    [
        ("GPT-2", {"norm_rescaling": True}, "pruning.norm_rescaling: found true, allowed with LayerNorm"),
        (
            "Minitron-8B",
            {"norm_rescaling": True},
            "pruning.norm_rescaling: found true, allowed with LayerNorm",
        ),
        (
            "Pythia-160M",
            {"head_merge": True},
            "pruning.head_merge: found true, allowed for gpt_neox, .*false",
        ),
        ("GPT-2", {"kv_heads": "mean"}, "pruning.kv_heads: found 'mean', allowed for gpt2, .*'drop'"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused(name, recipe, message):
    with pytest.raises(InvalidRecipe, match=message):
        SearchSpace(
            read_architecture(CONFIGS[name]),
            Axes(num_layers=(2,)),
            Budget(max_parameters=10**10),
            PruningRecipe(**recipe),
        )


def test_half_a_million_combinations_take_no_time():
    """One that an engineer would write for a 15B parent; seconds are for slow machines."""
    axes = Axes(
        num_layers=Range(start=17, stop=32),
        hidden_size=Range(start=3072, stop=6144, step=128),
        intermediate_size=Range(start=8192, stop=24576, step=64),
        num_attention_heads=Range(start=16, stop=48, step=8),
    )
    space = SearchSpace(NEMOTRON_15B, axes, window(7.6e9, 8.4e9))
    assert space.num_combinations == 514_000
    assert space.nearest({"num_layers": 15}).num_layers == 32


def test_the_least_is_that_of_the_axes_whatever_the_budget():
    axes = Axes(
        num_layers=(4, 6), hidden_size=(96, 128), intermediate_size=Multiples(of_hidden=(1.5, 2)),
        num_attention_heads=(8, 4, 2),
    )  # fmt: skip
    tiny = parent_architecture("builtin:tiny")
    for budget in (Budget(max_parameters=10**9), Budget(max_parameters=10**9, min_parameters=500_000)):
        least = SearchSpace(tiny, axes, budget).least
        assert least == replace(
            tiny, num_layers=4, hidden_size=96, intermediate_size=144, num_attention_heads=4
        )
    assert SearchSpace(tiny, Axes(), Budget(max_parameters=10**9)).least == tiny
