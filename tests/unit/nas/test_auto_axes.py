"""Automatic axes: legal, friendly to hardware, no deeper than asked, and the same for a parent for ever."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import IntDistribution

from minitron.architecture import Architecture
from minitron.families import family_named, read_architecture, resized
from minitron.parents import parent_architecture
from nas.auto_axes import is_auto, resolved
from nas.axes import AXIS_NAMES, Auto, Axes, Range
from nas.budget import Budget
from nas.errors import InvalidSpec
from nas.space import SearchSpace
from nas.spec import parse_spec, spec_to_json
from nas.study import study_trials
from tests.fakes import small_spec
from tests.parity.configs import CONFIGS
from tests.searches import make_search, make_trial
from tests.strategies import architectures

ALL = Axes(**dict.fromkeys(AXIS_NAMES, "auto"))
PARENTS = {
    "builtin:tiny": parent_architecture("builtin:tiny"),
    "builtin:smollm2-135m": parent_architecture("builtin:smollm2-135m"),
    **{name: read_architecture(CONFIGS[name]) for name in ("Llama-3.1-8B", "GPT-2", "Pythia-160M")},
}
GOLDEN = {
    "builtin:tiny": "layers 3-6/1, hidden 64-128/8, MLP 128-256/16, heads 4-8/4, KV (2, 4)",
    "builtin:smollm2-135m": "layers 15-30/1, hidden 288-576/36, MLP 768-1536/64, heads 6-9/3, KV (3,)",
    "Llama-3.1-8B": "layers 16-32/1, hidden 2048-4096/256, MLP 7168-14336/256, heads 16-32/8, KV (4, 8)",
    "GPT-2": "layers 6-12/1, hidden 384-768/64, MLP 1536-3072/128, heads 6-12/1, KV (6, 12)",
    "Pythia-160M": "layers 6-12/1, hidden 384-768/64, MLP 1536-3072/128, heads 6-12/1, KV (6, 12)",
}


def shown(choices):
    return f"{choices.start}-{choices.stop}/{choices.step}" if isinstance(choices, Range) else f"{choices}"


@pytest.mark.parametrize("name", GOLDEN)
def test_what_auto_means_for_a_parent_never_changes(name):
    """Stored searches say ``auto``: with another meaning their trials would fall out of their spaces."""
    axes = resolved(replace(ALL, num_key_value_heads=None), PARENTS[name])
    kv_heads = resolved(Axes(num_key_value_heads="auto"), PARENTS[name]).num_key_value_heads
    words = zip(("layers", "hidden", "MLP", "heads"), AXIS_NAMES, strict=False)
    told = [f"{word} {shown(getattr(axes, axis))}" for word, axis in words]
    assert ", ".join([*told, f"KV {kv_heads}"]) == GOLDEN[name]


@given(architectures(), st.floats(0.01, 1), st.sampled_from(AXIS_NAMES))
def test_sizes_reach_from_the_parents_down_to_the_share_and_no_deeper(parent, share, name):
    sizes = resolved(Axes(**{name: Auto(auto_from=share)}), parent).sizes(name, parent, hidden_size=0)
    whole = getattr(parent, name)
    assert sizes[-1] == whole
    assert share * whole <= sizes[0]


@given(
    architectures(),
    st.sampled_from(("num_layers", "hidden_size", "intermediate_size", "num_attention_heads")),
)
def test_every_size_of_one_axis_is_legal_with_the_parents_other_sizes(parent, name):
    """And cuts no KV group unevenly."""
    for size in resolved(Axes(**{name: "auto"}), parent).sizes(name, parent, hidden_size=0):
        shape = resized(parent, {name: size})
        if name == "num_attention_heads" and family_named(parent.family).heads_divide_hidden:
            assert shape.num_attention_heads % shape.num_key_value_heads == 0
            continue
        family_named(parent.family).check(shape)


@given(architectures())
def test_a_space_of_nothing_but_auto_is_not_empty(parent):
    assert parent in SearchSpace(parent, ALL, Budget(max_parameters=2**40))


def test_query_heads_follow_where_each_has_a_key_and_value_of_its_own():
    mha = replace(PARENTS["Llama-3.1-8B"], num_key_value_heads=32)
    assert isinstance(mha, Architecture)
    alone = resolved(Axes(num_attention_heads="auto"), mha)
    assert alone.sizes("num_attention_heads", mha, hidden_size=0) == (32,)
    both = resolved(Axes(num_attention_heads="auto", num_key_value_heads="auto"), mha)
    assert both.sizes("num_attention_heads", mha, hidden_size=0) == (16, 32)


def test_deep_parents_lose_layers_by_two():
    deep = replace(PARENTS["Llama-3.1-8B"], num_layers=80)
    axes = resolved(Axes(num_layers=Auto(auto_from=0.75)), deep)
    assert axes.num_layers == Range(start=60, stop=80, step=2)


def test_a_spec_says_auto_by_word_or_with_a_share():
    text = """
    parent: builtin:tiny
    budget: {max_parameters: 640_000}
    axes: {num_layers: auto, hidden_size: {auto_from: 0.75}}
    """
    spec = parse_spec(text)
    assert spec.axes == Axes(num_layers="auto", hidden_size=Auto(auto_from=0.75))
    assert parse_spec(spec_to_json(spec)) == spec
    assert spec_to_json(spec)["axes"]["num_layers"] == "auto"
    assert [name for name in AXIS_NAMES if is_auto(getattr(spec.axes, name))] == ["num_layers", "hidden_size"]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (
            "most",
            r'axes.num_layers: found "most", allowed: a list of whole numbers, .* or auto, or \{auto_from',
        ),
        ("{auto_from: 0}", "axes.num_layers: found auto_from 0.*, allowed: above 0, at most 1"),
        ("{auto_from: 1.5}", "axes.num_layers: found auto_from 1.5, allowed: above 0, at most 1"),
        ("{auto_from: half}", 'axes.num_layers.auto_from: found "half", allowed: a number'),
        ("{auto_from: 0.5, step: 2}", "axes.num_layers"),
    ],
)
def test_what_auto_cannot_mean_is_refused(written, reason):
    with pytest.raises(InvalidSpec, match=reason):
        parse_spec(f"parent: builtin:tiny\nbudget: {{max_parameters: 1}}\naxes: {{num_layers: {written}}}")


def test_optunas_tools_are_told_the_sizes():
    search = make_search(spec=small_spec(axes=Axes(num_layers="auto", num_key_value_heads="auto")))
    (told,) = study_trials(search, [make_trial()], [])
    assert told.params == {"num_layers": 4, "num_key_value_heads": 4}
    assert told.distributions["num_layers"] == IntDistribution(3, 6)
    assert told.distributions["num_key_value_heads"] == IntDistribution(2, 4, step=2)
