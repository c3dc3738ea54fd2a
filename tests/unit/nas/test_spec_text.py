"""A change to a text says what was meant and nothing else; what was written around it stays."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.recipe import TrainingRecipe
from nas.errors import InvalidSpec
from nas.patch import merge
from nas.promotion import Promotion
from nas.service import SearchService
from nas.spec import parse_spec, spec_to_json
from nas.spec_text import brief_text, patched_text
from nas.storage.memory import InMemoryStore
from nas.templates import templates
from nas.text import read_text, yaml_of
from tests import searches

names = st.sampled_from(["name", "parent", "budget", "axes", "data", "training", "num_trials", "x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    | st.sampled_from(["1e-3", "yes", "0x10", "2024-01-01", "a: b", "# c", "- d", "'", "1_000", "~", " e "])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(names, values, max_size=4)


@given(mappings, mappings)
def test_a_patched_text_says_what_a_merge_patch_makes(content, patch):
    text = yaml_of(content)
    assert read_text(patched_text(text, patch)) == merge(read_text(text), patch)


@given(searches.specs, mappings)
@settings(max_examples=30)
def test_so_it_does_with_whole_specs(spec, patch):
    text = yaml_of(spec_to_json(spec))
    assert read_text(patched_text(text, patch)) == merge(read_text(text), patch)


@given(searches.specs)
@settings(max_examples=30)
def test_a_brief_text_is_the_same_spec(spec):
    assert parse_spec(brief_text(spec)) == spec


def test_a_brief_text_holds_what_was_chosen():
    spec = parse_spec(templates()[0].text)
    assert (
        brief_text(spec)
        == """\
name: tiny, to 60 percent
parent: builtin:tiny
budget: {max_parameters: 640_000, min_parameters: 520_000}
axes:
  num_layers: [4, 5, 6]
  hidden_size: {start: 80, stop: 128, step: 8}
  intermediate_size: {start: 96, stop: 256, step: 16}
data: {sequence_length: 128, validation_tokens: 16_384}
training: {num_tokens: 98_304, peak_learning_rate: 0.002}
num_trials: 16
"""
    )


def test_comments_order_and_notation_stay():
    text = """\
# whole line
parent: builtin:tiny          # beside
budget: {max_parameters: 640_000, min_parameters: 520_000}
axes:
  # of the axes
  num_layers: [4, 5, 6]
training:
  peak_learning_rate: 2.0e-3
"""
    patch = {
        "budget": {"max_parameters": 700_000, "min_parameters": None},
        "axes": {"num_layers": {"start": 2, "stop": 6, "step": 2}},
        "num_trials": 12,
    }
    assert (
        patched_text(text, patch)
        == """\
# whole line
parent: builtin:tiny          # beside
budget: {max_parameters: 700_000}
axes:
  # of the axes
  num_layers: {start: 2, stop: 6, step: 2}
training:
  peak_learning_rate: 2.0e-3
num_trials: 12
"""
    )


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_field_of_nothing_begins_a_text(text):
    assert read_text(patched_text(text, {"parent": "builtin:tiny"})) == {"parent": "builtin:tiny"}


@pytest.mark.parametrize("text", ["[1]", "a: b: c", "&a [*a]"])
def test_what_cannot_be_read_cannot_be_changed(text):
    with pytest.raises(InvalidSpec):
        patched_text(text, {"name": "x"})


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.name)
def test_every_template_can_be_planned(template, tmp_path):
    service = SearchService(InMemoryStore(), artifact_root=tmp_path)
    spec = parse_spec(template.text)
    assert service.plan(spec).num_feasible >= spec.num_trials
    assert not template.text.startswith("#")
    assert len(template.title) < 100


def test_a_promotion_is_trained_as_the_trials_but_where_it_says_otherwise():
    text = """parent: builtin:tiny
budget: {max_parameters: 640_000}
axes: {num_layers: [4, 5]}
training: {num_tokens: 98_304, peak_learning_rate: 2.0e-3, batch_tokens: 4_096}
promotion:
  training: {num_tokens: 1_000_000, batch_tokens: 2_048}
"""
    spec = parse_spec(text)
    longer = replace(spec.training, num_tokens=1_000_000, batch_tokens=2_048)
    assert spec.promotion.training == longer
    brief = read_text(brief_text(spec))
    assert brief["promotion"] == {"training": {"num_tokens": 1_000_000, "batch_tokens": 2_048}}
    as_by_default = replace(spec, promotion=Promotion(training=TrainingRecipe(num_tokens=200_000)))
    for whole in (spec, as_by_default):
        assert parse_spec(brief_text(whole)) == parse_spec(spec_to_json(whole)) == whole
