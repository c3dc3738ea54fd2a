"""Merge patches as the RFC has them, and assignments that say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.axes import Range
from nas.errors import InvalidSpec
from nas.patch import merge, patch_of, patched_spec, refilled
from tests import searches
from tests.searches import make_spec

OBJECTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.none() | st.integers(0, 2),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    ),
)


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_cases_of_the_rfc(original, patch, result):
    assert merge(original, patch) == result


@given(searches.specs.filter(lambda spec: "\0" not in spec.name))
def test_nothing_changes_nothing(spec):
    assert patched_spec(spec, {}) == spec


def test_a_field_a_section_and_a_default():
    spec = make_spec(seed=7, num_trials=3)
    patch = {"seed": None, "budget": {"max_parameters": 650_000}, "axes": {"num_layers": [3, 4]}}
    changed = patched_spec(spec, patch)
    assert (changed.seed, changed.num_trials) == (0, 3)
    assert (changed.budget.max_parameters, changed.budget.min_parameters) == (650_000, 300_000)
    assert changed.axes.num_layers == (3, 4)
    assert changed.axes.hidden_size == Range(start=96, stop=128, step=8)


@pytest.mark.parametrize(
    ("patch", "field", "reason"),
    [
        ({"sead": 1}, "sead", "unknown, allowed: parent, "),
        ({"budget": None}, "budget", "missing"),
        ({"budget": {"max_parameters": "many"}}, "budget.max_parameters", 'found "many"'),
        ([], "spec", "found a patch that is list, allowed: a mapping"),
        ("parent: builtin:tiny", "spec", "found a patch that is str"),
        (None, "spec", "found a patch that is NoneType"),
    ],
)
def test_what_makes_no_spec_is_told_as_of_any_spec(patch, field, reason):
    with pytest.raises(InvalidSpec) as caught:
        patched_spec(make_spec(), patch)
    assert dict(caught.value.problems)[field].startswith(reason)


def test_another_parent_takes_nothing_along_of_the_first():
    spec = make_spec(parent="hub:a/b@0", parent_config={"model_type": "llama"})
    assert patched_spec(spec, {"seed": 1}).parent_config == {"model_type": "llama"}
    assert patched_spec(spec, {"parent": "builtin:tiny"}).parent_config is None
    both = {"parent": "hub:c/d@0", "parent_config": {"model_type": "mistral"}}
    assert patched_spec(spec, both).parent_config == {"model_type": "mistral"}


def test_assignments_are_a_patch():
    assignments = [
        "seed=1", "name=a = b", "training.num_tokens=2e6", "training.precision=float32", "rungs=null",
        "axes.hidden_size=[96, 128]", "axes.intermediate_size={of_hidden: [1.5, 2]}", "comparisons.random_indices=",
    ]  # fmt: skip
    assert patch_of(assignments) == {
        "seed": 1, "name": "a = b", "training": {"num_tokens": 2e6, "precision": "float32"}, "rungs": None,
        "axes": {"hidden_size": [96, 128], "intermediate_size": {"of_hidden": [1.5, 2]}},
        "comparisons": {"random_indices": None},
    }  # fmt: skip
    assert patch_of([]) == {}


@pytest.mark.parametrize(
    ("assignments", "field"),
    [
        (["seed"], "set"), (["=1"], "set"), (["a..b=1"], "set"), (["a.=1"], "set"), (["a=[", "b=1"], "a"),
        (["training=1", "training.num_tokens=2"], "training.num_tokens"), (['a.b="\\0"'], "a.b"),
    ],
)  # fmt: skip
def test_what_is_no_assignment(assignments, field):
    with pytest.raises(InvalidSpec) as caught:
        patch_of(assignments)
    assert [name for name, _ in caught.value.problems] == [field]


@given(OBJECTS, OBJECTS)
def test_a_patch_refilled_from_what_it_makes_makes_the_same(value, patch):
    whole = merge(value, patch)
    assert merge(value, refilled(patch, whole)) == whole


def test_a_refilled_patch_names_the_same_fields():
    values = {"a": "/here/x", "b": {"c": 1, "d": 2}, "e": 5, "f": [1]}
    patch = {"a": "x", "b": {"c": 0}, "e": None, "f": {"g": 1}, "gone": 3}
    assert refilled(patch, values) == {"a": "/here/x", "b": {"c": 1}, "e": None, "f": [1], "gone": None}
