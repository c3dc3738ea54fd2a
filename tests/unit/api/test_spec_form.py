"""What fields of the form mean, and that they and the text stay in step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.dashboard.spec_form import (
    EVERY_FIELD,
    NotMeant,
    content_of,
    emptied,
    read_count,
    read_sizes,
    told_where,
)
from nas.spec_text import patched_text
from nas.templates import templates

FIELD = {field.name: field for field in EVERY_FIELD}
sizes = st.integers(1, 10**5)
choices = (
    st.lists(sizes, min_size=1, max_size=4)
    | st.builds(lambda start, stop: {"start": start, "stop": stop}, sizes, sizes)
    | st.builds(lambda start, stop, step: {"start": start, "stop": stop, "step": step}, sizes, sizes, sizes)
    | st.builds(
        lambda each: {"of_hidden": each}, st.lists(st.sampled_from([2, 2.5, 3.25]), min_size=1, max_size=3)
    )
    | st.sampled_from(("auto", {"auto_from": 0.5}, {"auto_from": 1}))
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("640_000", 640_000),
        ("640k", 640_000),
        ("4.5B", 4_500_000_000),
        ("1,000", 1000),
        (" 7 ", 7),
        ("2e6", 2_000_000),
    ],
)
def test_numbers_as_people_write_them(text, number):
    assert read_count(text) == number


@pytest.mark.parametrize("text", ["many", "1.5", "-4", "4.5 Q", "1e99", "k"])
def test_what_is_no_whole_number(text):
    with pytest.raises(NotMeant, match="allowed: a whole number"):
        read_count(text)


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        (
            "memory",
            "2.5 GB, 8 x 4096 tokens, bfloat16",
            {"max_bytes": 25 * 10**8, "batch": 8, "context": 4096, "dtype": "bfloat16"},
        ),
        ("memory", "1_800kB, 512", {"max_bytes": 1_800_000, "context": 512}),
        (
            "memory",
            "1 to 2.5e9 bytes, 2*64",
            {"min_bytes": 1, "max_bytes": 25 * 10**8, "batch": 2, "context": 64},
        ),
        ("memory", "1 MB, 8, float8", {"max_bytes": 10**6, "context": 8, "dtype": "float8"}),
        ("work", "3 GFLOP, 4096 tokens", {"max_flops": 3 * 10**9, "context": 4096}),
        ("work", "200M to 3g, 64", {"min_flops": 2 * 10**8, "max_flops": 3 * 10**9, "context": 64}),
        (
            "latency",
            "40 ms, 1 x 1024 tokens, decode, bfloat16",
            {"max_ms": 40, "batch": 1, "context": 1024, "phase": "decode", "dtype": "bfloat16"},
        ),
        (
            "latency",
            "0.5 to 2.5ms, 8, prefill",
            {"min_ms": 0.5, "max_ms": 2.5, "context": 8, "phase": "prefill"},
        ),
        (
            "latency",
            "300 tokens/s, 8, float16",
            {"min_tokens_per_second": 300, "context": 8, "dtype": "float16"},
        ),
        ("latency", "prefill, 512 tokens", {"phase": "prefill", "context": 512}),
    ],
)
def test_budgets_as_people_write_them(name, text, meant):
    """What no type of numbers is, the spec refuses in its own words."""
    field = FIELD[f"budget.{name}"]
    assert field.read(text) == meant
    assert field.read(field.write(meant)) == meant


@pytest.mark.parametrize("name", ["memory", "work", "latency"])
@pytest.mark.parametrize(
    "text",
    [
        "2.5 GB",
        ", 8",
        "much, 8 tokens",
        "2 GB, 8 tokens, bfloat16, more",
        "1 to 2 to 3, 8",
        "1.5, 8",
        "9e99, 8",
        "40 ms to, 8",
    ],
)
def test_what_is_no_budget(name, text):
    with pytest.raises(NotMeant, match="allowed: such as"):
        FIELD[f"budget.{name}"].read(text)


def test_a_work_budget_has_no_sequences():
    with pytest.raises(NotMeant):
        FIELD["budget.work"].read("3 GFLOP, 2 x 64")


amounts = st.integers(1, 2**53)


@given(
    value=st.fixed_dictionaries(
        {"max_bytes": amounts, "context": sizes},
        optional={"min_bytes": amounts, "batch": sizes, "dtype": st.sampled_from(("float16", "bfloat16"))},
    )
)
def test_a_budget_of_memory_reads_as_it_was_written(value):
    assert FIELD["budget.memory"].shown({"budget": {"memory": value}}) is not None


@given(value=st.fixed_dictionaries({"max_flops": amounts, "context": sizes}, optional={"min_flops": amounts}))
def test_a_budget_of_work_reads_as_it_was_written(value):
    assert FIELD["budget.work"].shown({"budget": {"work": value}}) is not None


@given(
    value=st.fixed_dictionaries(
        {"context": sizes},
        optional={
            "phase": st.sampled_from(("decode", "prefill")),
            "batch": sizes,
            "dtype": st.sampled_from(("float16", "bfloat16")),
        },
    ),
    pace=st.sampled_from(
        (
            {"max_ms": 40},
            {"max_ms": 2.5, "min_ms": 0.25},
            {"min_tokens_per_second": 99.5},
            {"phase": "prefill"},
        )
    ),
)
def test_a_budget_of_latency_reads_as_it_was_written(value, pace):
    assert FIELD["budget.latency"].shown({"budget": {"latency": value | pace}}) is not None


def test_a_budget_of_latency_with_both_bounds_or_a_table_is_left_to_the_text():
    both = {"max_ms": 40, "min_tokens_per_second": 9, "context": 8}
    for value in (both, {"max_ms": 40, "context": 8, "table": {"blocks": []}}):
        assert FIELD["budget.latency"].shown({"budget": {"latency": value}}) is None


def test_a_promotion_of_which_nothing_is_said_any_more_is_none():
    text, tokens, students = "", FIELD["promotion.training.num_tokens"], FIELD["promotion.top_k"]

    def typed(field, words):
        return patched_text(text, emptied(content_of(text), field.patch(words)))

    text = typed(tokens, "400k")
    assert content_of(text) == {"promotion": {"training": {"num_tokens": 400_000}}}
    text = typed(students, "2")
    text = typed(tokens, "")
    assert content_of(text) == {"promotion": {"top_k": 2}}
    text = typed(students, "")
    assert content_of(text) == {}
    missing = [("promotion.training", "missing, and has no default")]
    assert told_where(EVERY_FIELD, missing) == {tokens.name: missing[0][1]}


def test_a_budget_that_is_written_anew_keeps_nothing_of_the_one_before():
    text = "budget: {max_parameters: 5, memory: {max_bytes: 1e9, min_bytes: 5, batch: 8, context: 64}}"
    field = FIELD["budget.memory"]
    assert field.shown(content_of(text)) == "5 B to 1 GB, 8 x 64 tokens"
    changed = content_of(patched_text(text, field.patch("2 GB, 128 tokens")))
    assert changed == {"budget": {"max_parameters": 5, "memory": {"max_bytes": 2 * 10**9, "context": 128}}}
    assert content_of(patched_text(text, field.patch(""))) == {"budget": {"max_parameters": 5}}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4, 5, 6", [4, 5, 6]),
        ("4 5 6", [4, 5, 6]),
        ("[4, 5]", [4, 5]),
        ("80 to 128 step 8", {"start": 80, "stop": 128, "step": 8}),
        ("80 to  128", {"start": 80, "stop": 128}),
        ("2, 2.5 of hidden", {"of_hidden": [2, 2.5]}),
        ("auto", "auto"),
        ("auto from 0.5", {"auto_from": 0.5}),
        ("auto down to 75 %", {"auto_from": 0.75}),
    ],
)
def test_sizes_as_people_write_them(text, meant):
    assert read_sizes(text) == meant


@pytest.mark.parametrize(
    "text", ["a few", "4.5", "80 to", ",", "x of hidden", "auto from", "auto from 1.2.3"]
)
def test_what_are_no_sizes(text):
    with pytest.raises(NotMeant, match="allowed: sizes such as"):
        read_sizes(text)


@given(choices, choices)
@settings(max_examples=40)
def test_what_a_field_shows_means_what_it_shows(before, after):
    """Also where a range takes the place of a list, or the other way round."""
    field = FIELD["axes.intermediate_size"]
    text = patched_text("parent: x  # kept\n", {"axes": {"intermediate_size": before}})
    shown = field.shown({"axes": {"intermediate_size": after}})
    text = patched_text(text, field.patch(shown))
    assert field.value_in(content_of(text)) == after
    assert "# kept" in text


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.name)
@pytest.mark.parametrize("field", EVERY_FIELD, ids=lambda field: field.name)
def test_what_is_shown_and_not_changed_changes_nothing(template, field):
    content = content_of(template.text)
    shown = field.shown(content)
    if shown is None:
        assert template.name == "llama-3.1-8b"
        assert field.name == "data.source", "more than one field can hold is left to the text"
    elif shown:
        assert content_of(patched_text(template.text, field.patch(shown))) == content


def test_an_empty_field_takes_its_part_away():
    text = patched_text(
        "budget: {max_parameters: 5, min_parameters: 4}\n", FIELD["budget.min_parameters"].patch(" ")
    )
    assert content_of(text) == {"budget": {"max_parameters": 5}}


@pytest.mark.parametrize(
    "content",
    [
        {"axes": 3},
        {"axes": {"num_layers": "many"}},
        {"axes": {"num_layers": [[1]]}},
        {"axes": {"num_layers": {"start": 1}}},
    ],
)
def test_what_a_field_cannot_hold_is_left_to_the_text(content):
    assert FIELD["axes.num_layers"].shown(content) in {None, ""}


def test_errors_stand_beside_the_field_that_they_name():
    problems = [
        ("axes.num_layers.0", "too deep"),
        ("budget", "nothing fits"),
        ("budget.max_parameters", "told after that"),
        ("training.peak_learning_rate", "has no field"),
        ("num_trials", "too many"),
    ]
    assert told_where(EVERY_FIELD, problems) == {
        "axes.num_layers": "too deep",
        "budget.max_parameters": "nothing fits",
        "num_trials": "too many",
    }


def test_a_cost_is_a_section_that_goes_with_it():
    """Left behind empty it would ask for the default cost."""
    field = FIELD["objective"]
    text = patched_text("sampler: nsga2\n", field.patch("memory"))
    assert content_of(text) == {"sampler": "nsga2", "objective": {"cost": "memory"}}
    assert field.shown(content_of(text)) == "memory"
    assert content_of(patched_text(text, field.patch(""))) == {"sampler": "nsga2"}
    assert field.shown({"objective": {"cost": "memory", "batch": 8}}) is None, "left to the text"
    assert told_where(EVERY_FIELD, [("objective.cost", "found joy")]) == {"objective": "found joy"}
