"""The codec: what people may write, how they are told what is wrong, and that nothing is lost."""

import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.recipe import DataSource
from nas.axes import Multiples, Range
from nas.errors import InvalidSpec
from nas.search import Search, SearchSpec
from nas.spec import SPEC_ADAPTER, dump, load, load_spec, parse_spec, spec_to_json
from nas.text import MAX_LENGTH, read_text, yaml_of
from nas.trial import Attempt, Point, Trial
from tests import searches

MINIMAL = {"parent": "builtin:tiny", "budget": {"max_parameters": 1000}, "axes": {}}


def problems(data) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(data)
    assert "\n" not in str(caught.value)
    return dict(caught.value.problems)


@settings(max_examples=30)
@given(searches.specs)
def test_spec_survives_json_and_yaml(spec):
    content = spec_to_json(spec)
    assert parse_spec(content) == spec
    assert parse_spec(json.dumps(content)) == spec
    assert parse_spec(yaml_of(content)) == spec
    assert load(SearchSpec, content) == spec


def test_text_that_yaml_could_take_for_something_else_stays_text():
    for text in ("1e5", "-1E3", "12", "1.5", "2020-01-01", "yes", "null", "\x85", "a\u2028 b", "\u00fc"):
        assert read_text(yaml_of({"name": text})) == {"name": text}


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Search, searches.searches),
        (Trial, searches.trials),
        (Point, searches.points),
        (Attempt, searches.attempts),
    ],
)
def test_what_is_dumped_is_json_and_loads_equal(cls, values):
    @settings(max_examples=25)
    @given(values)
    def holds(value):
        assert load(cls, json.loads(json.dumps(dump(value), allow_nan=False))) == value

    holds()


def test_defaults_are_those_of_the_domain():
    spec = parse_spec(MINIMAL)
    assert spec == SearchSpec(parent="builtin:tiny", budget=spec.budget, axes=spec.axes)


def test_numbers_are_taken_as_they_are_meant():
    """YAML knows 1e-3 and 4e9 as text and 4.5e9 as a float; people mean numbers."""
    spec = parse_spec(
        """
        parent: ./x
        budget: {max_parameters: 4.5e9, min_parameters: 4e9}
        axes: {num_layers: [24.0, 3_2], intermediate_size: {of_hidden: [2, 2.5]}}
        training: {peak_learning_rate: 1e-3, num_tokens: 1_000_000, weight_decay: 0}
        """
    )
    assert spec.budget.max_parameters == 4_500_000_000
    assert spec.budget.min_parameters == 4_000_000_000
    assert spec.axes.num_layers == (24, 32)
    assert spec.axes.intermediate_size == Multiples(of_hidden=(2.0, 2.5))
    assert spec.training.peak_learning_rate == 1e-3
    assert type(spec.training.weight_decay) is float
    assert type(spec.budget.max_parameters) is int


def test_axis_may_be_a_range():
    spec = parse_spec(MINIMAL | {"axes": {"hidden_size": {"start": 64, "stop": 128, "step": 32}}})
    assert spec.axes.hidden_size == Range(start=64, stop=128, step=32)


def test_all_problems_are_told_at_once_with_their_paths():
    """Unknown, missing, of another type, out of range and refused by the domain, at any depth."""
    found = problems(
        """
        parent: 3
        budget: {min_parameters: yes, max_params: 1}
        axes: {num_layers: [1, x], depth: [1]}
        data: text
        calibration: {num_tokens: 0}
        distillation: {temperature: 2.0}
        training: {precision: int8, batch_tokens: "64", num_tokens: 1.5}
        rungs: {fractions: [0.5, .inf]}
        sampler: grid
        """
    )
    assert found == {
        "parent": "found 3, allowed: text",
        "budget.min_parameters": "found true, allowed: a whole number",
        "budget.max_params": "unknown, allowed: max_parameters, min_parameters, counting, memory, work, latency",
        "axes.num_layers.1": 'found "x", allowed: a whole number',
        "axes.depth": "unknown, allowed: num_layers, hidden_size, intermediate_size, num_attention_heads, "
        "num_key_value_heads",
        "data": 'found "text", allowed: a mapping of fields',
        "calibration.num_tokens": "found 0, allowed: at least 1",
        "distillation.temperature": (
            "found 2.0, allowed with cache_form top_k: 1; set cache_form to hidden or teacher to live"
        ),
        "training.precision": "found \"int8\", allowed: 'auto', 'float32' or 'bfloat16'",
        "training.batch_tokens": 'found "64", allowed: a whole number',
        "training.num_tokens": "found 1.5, allowed: a whole number",
        "rungs.fractions.1": 'found "inf", allowed: a number',
        "sampler": "found \"grid\", allowed: 'tpe', 'nsga2', 'random', 'exhaustive' or 'nearest-budget'",
    }


def test_unknown_top_level_field_lists_what_is_allowed():
    reason = problems(MINIMAL | {"trials": 3})["trials"]
    assert reason.startswith("unknown, allowed: parent, budget, axes, ")
    assert "num_trials" in reason


@pytest.mark.parametrize(
    ("choices", "field", "reason"),
    [
        (3, "", "found 3, allowed: a list of whole numbers, {start, stop, step} or"),
        ({"from": 1}, "", 'found {"from": 1}, allowed: a list of whole numbers, {start, stop, step} or'),
        ({"start": 1}, ".stop", "missing"),
        ({"start": 1, "stop": 2, "by": 3}, ".by", "unknown, allowed: start, stop, step"),
        ({"start": 3, "stop": 2}, "", "found start 3, stop 2, step 1, allowed: start <= stop and step >= 1"),
        ({"of_hidden": [1, "x"]}, ".of_hidden.1", 'found "x", allowed: a number'),
        ({"of_hidden": [1], "k": 2}, ".k", "unknown, allowed: of_hidden"),
        ([], "", "found no choice, allowed: at least one, or leave the axis out"),
        ([[1]], ".0", "found [1], allowed: a whole number"),
    ],
)
def test_one_readable_reason_for_each_kind_of_axis(choices, field, reason):
    """No noise from the kinds of choice that were not meant."""
    found = problems(MINIMAL | {"axes": {"intermediate_size": choices}})
    assert list(found) == [f"axes.intermediate_size{field}"]
    assert found[f"axes.intermediate_size{field}"].startswith(reason)


@pytest.mark.parametrize(
    ("source", "field", "reason"),
    [
        (3, "", "found 3, allowed: a name or a path, {source, weight, config, split, text_field} or a list"),
        ({"path": "x"}, "", 'found {"path": "x"}, allowed: a name or a path, {source, '),
        ({"weight": 2}, ".source", "missing"),
        ({"source": "x", "weight": "y"}, ".weight", 'found "y", allowed: a number'),
        ({"source": "x", "revision": "y"}, ".revision", "unknown, allowed: source, weight, config, split"),
        ({"source": ""}, "", "found '', allowed: a name or a path"),
        ({"source": "x", "weight": -1}, ".weight", "found -1.0, allowed: a finite number, at least 0"),
        ([], "", "found [], allowed: weights of which one is above 0"),
        (["x"], ".0", 'found "x", allowed: a mapping of fields'),
        ([{"source": "x"}, {"source": 3}], ".1.source", "found 3, allowed: text"),
        ([{"source": "x"}, {"source": "y", "weight": -1}], ".1.weight", "found -1.0, allowed: a finite"),
        ([{"source": "x", "weight": 0}], "", "found [0.0], allowed: weights of which one is above 0"),
    ],
)
def test_one_readable_reason_for_each_kind_of_source(source, field, reason):
    found = problems(MINIMAL | {"data": {"source": source}})
    assert list(found) == [f"data.source{field}"]
    assert found[f"data.source{field}"].startswith(reason)


def test_a_validation_source_stands_alone():
    found = problems(MINIMAL | {"data": {"validation": ["x"]}})
    assert found == {
        "data.validation": (
            'found ["x"], allowed: a name or a path, or {source, weight, config, split, text_field}'
        )
    }
    found = problems(MINIMAL | {"data": {"validation": {"source": "x", "weight": 2}}})
    assert list(found) == ["data.validation.weight"]


def test_sources_may_be_a_name_a_source_or_a_blend():
    blend = [
        {"source": "hub:a/b@main", "config": "en", "weight": 3},
        {"source": "x.jsonl", "text_field": "messages"},
    ]
    data = parse_spec(MINIMAL | {"data": {"source": blend, "validation": blend[1]}}).data
    assert data.source == (
        DataSource(source="hub:a/b@main", config="en", weight=3.0),
        DataSource(source="x.jsonl", text_field="messages"),
    )
    assert data.validation == DataSource(source="x.jsonl", text_field="messages")
    assert parse_spec(MINIMAL | {"data": {"source": blend[0]}}).data.source == data.source[0]
    assert parse_spec(MINIMAL | {"data": {"source": "x", "validation": "y"}}).data.validation == "y"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("parent: x\nparent: y", "line 1, column 1: 'parent' is given twice"),
        ('{"parent": "x", "parent": "y"}', "'parent' is given twice"),
        ("parent: [", "line 1, column 10: expected the node content"),
        ("a: &a [1]\nb: *a", "line 2, column 4: found an alias, allowed: the value itself"),
        ("parent: !!python/object/apply:os.getcwd []", "line 1, column 9: could not determine a constructor"),
        ("[" * 100_000, "nested more than 32 levels deep"),
        ("[" * 34 + "]" * 34, "nested more than 32 levels deep"),
        ('{"a":' * 800 + "1" + "}" * 800, "nested more than 32 levels deep"),
        ("a: {" * 200 + "}" * 200, "nested more than 32 levels deep"),
        ("seed: " + "9" * 5000, "line 1, column 7: found a whole number of 5000 digits, allowed: at most 20"),
        ('{"seed": 123456789012345678901}', "found a whole number of 21 digits, allowed: at most 20"),
        ("seed: 0." + "1" * 100, "line 1, column 7: found a number of 102 characters, allowed: at most 64"),
        ('{"seed": 0.' + "1" * 100 + "}", "found a number of 102 characters, allowed: at most 64"),
        ("seed: !!int " + "1:" * 1000 + "1", "line 1, column 7: found text that is no int, allowed: no tags"),
        ("seed: !!float 1:1.5", "line 1, column 7: found text that is no float, allowed: no tags"),
        ("seed: !!bool maybe", "line 1, column 7: found text that is no bool, allowed: no tags"),
        ("!!binary aGk=", "line 1, column 1: could not determine a constructor for the tag"),
        ("a: [" + "1," * 20_000, "found more than 10,000 values"),
    ],
)
def test_text_that_cannot_be_read_says_where(text, reason):
    assert problems(text)["spec"].startswith(f"cannot be read as YAML or JSON: {reason}")


@pytest.mark.parametrize(
    "number", ["1:1:1", "1:" * 50_000 + "1", "0x1f", "0x" + "f" * 100_000, "0b11", "017"]
)
def test_only_decimal_numbers_are_numbers(number):
    """YAML 1.1 knows others, which nobody means here and which take long to read, up to minutes."""
    assert read_text(f"a: {number}") == {"a": number}
    assert read_text(yaml_of({"a": number})) == {"a": number}
    assert problems(yaml_of(MINIMAL) + f"seed: {number}")["seed"].endswith("allowed: a whole number")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1_000", 1_000), ("-5", -5), ("0", 0), ("12345678901234567890", 12345678901234567890), ("+1.5", 1.5),
        (".5", 0.5), ("1.", 1.0), ("2e6", 2e6), ("1_0.5e+3", 10.5e3), (".inf", math.inf), ("-.INF", -math.inf),
    ],
)  # fmt: skip
def test_decimal_numbers(text, value):
    assert read_text(f"a: {text}") == {"a": value}


def test_texts_have_a_length():
    assert read_text("#" * MAX_LENGTH) is None
    assert problems("#" * (MAX_LENGTH + 1)) == {"spec": "found 262,145 characters, allowed: at most 262,144"}


def test_of_very_many_problems_the_first_are_told_and_what_is_allowed_once():
    names = [f"unknown{number}" for number in range(2_000)]
    for data in ({"axes": dict.fromkeys(names, 1)}, dict.fromkeys([*names, "x" * 100_000], 1)):
        with pytest.raises(InvalidSpec) as error:
            parse_spec(json.dumps(MINIMAL | data))
        reasons = [reason for _, reason in error.value.problems]
        assert reasons[0].startswith("unknown, allowed: ")
        assert reasons[1:] == ["unknown"] * 49 + ["more problems than the 50 that are told"]
        assert len(str(error.value)) < 3_000
    with pytest.raises(InvalidSpec) as error:
        parse_spec({"x" * 100_000: 1})
    assert len(str(error.value)) < 3_000


@pytest.mark.parametrize("text", ["", "3", "[1]", "null"])
def test_text_that_is_no_mapping_is_refused(text):
    assert "allowed: a mapping of fields" in problems(text)["spec"]


def test_what_no_field_can_hold_is_refused():
    """Such as integers that would become infinite floats, and halves of surrogate pairs."""
    huge = MINIMAL | {"checkpoint_seconds": 10**400, "seed": 10**30}
    assert list(problems(huge)) == ["checkpoint_seconds", "seed"]
    assert list(problems(json.dumps(MINIMAL | {"seed": 10**20 - 1}))) == ["seed"]
    unfit = "found NUL or half a character, allowed: text in UTF-8"
    assert problems('{"parent": "\\ud800"}') == {"parent": unfit}
    assert problems('{"data": {"source": "a\\u0000"}}') == {"data.source": unfit}
    assert problems('parent: "a\\0"') == {"parent": unfit}
    assert problems('{"\\u0000": 1}') == {"spec": unfit}


def test_names_are_short():
    assert problems(MINIMAL | {"name": "x" * 201})["name"] == "found 201 characters, allowed: at most 200"
    assert parse_spec(MINIMAL | {"name": "x" * 200}).name == "x" * 200


def test_dates_and_words_for_booleans_are_not_guessed_into_text_fields():
    assert parse_spec("{parent: 2024-01-01, budget: {max_parameters: 1}, axes: {}}").parent == "2024-01-01"
    assert problems("{parent: on, budget: {max_parameters: 1}, axes: {}}") == {
        "parent": "found true, allowed: text"
    }


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["parent", "budget", "axes", "num_layers", "of_hidden", "start", "x"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_is_sent_is_a_spec_or_an_invalid_spec(content):
    """No other error comes out, so REST never answers 500."""
    for data in (json.dumps(content), yaml.safe_dump(content)):
        with suppress(InvalidSpec):
            assert isinstance(parse_spec(data), SearchSpec)


def test_files_are_read_as_yaml_or_json(tmp_path: Path):
    for name, text in (("a.yaml", yaml.safe_dump(MINIMAL)), ("b.json", json.dumps(MINIMAL))):
        (tmp_path / name).write_text(text)
        assert load_spec(tmp_path / name) == parse_spec(MINIMAL)


def test_unreadable_files_are_named(tmp_path: Path):
    (tmp_path / "latin").write_bytes(b"name: \xff")
    for name, reason in (("none", "No such file"), ("latin", "not UTF-8"), (".", "directory")):
        with pytest.raises(InvalidSpec) as caught:
            load_spec(tmp_path / name)
        ((field, found),) = caught.value.problems
        assert field == str(tmp_path / name)
        assert reason in found


def test_json_schema_describes_every_field():
    schema = SPEC_ADAPTER.json_schema()
    assert set(schema["properties"]) == set(SearchSpec.__dataclass_fields__)
    assert set(schema["required"]) == {"parent", "budget", "axes"}
