"""What is read of a table of measured latencies, and what a budget makes of it."""

import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.families import read_architecture
from minitron.parents import parent_architecture
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.errors import EmptySpace, InvalidSpec
from nas.latency_anchors import MOST_SIZES, anchors_of
from nas.latency_costs import LatencyCosts, latency_of
from nas.latency_table import BlockRow, EndsLatency, LatencySetting, LatencyTable, Machine
from nas.space import SearchSpace, search_space
from nas.spec import dump, load, parse_spec, spec_to_json
from nas.wording import budget as in_words
from nas.wording import fitting
from tests.fakes import small_spec
from tests.latencies import latency, table_of
from tests.parity.configs import CONFIGS
from tests.searches import make_search
from tests.strategies import architectures, latency_tables

TINY = parent_architecture("builtin:tiny")
LLAMA = read_architecture(CONFIGS["Llama-3.1-8B"])


# Laws of reading


@given(architectures(), st.data())
def test_a_model_takes_its_ends_and_its_blocks_each_no_more_than_one_with_a_larger_mlp(parent, data):
    table = data.draw(latency_tables(parent))
    for row in table.rows:
        for index, neurons in enumerate(table.neurons):
            width = replace(
                parent, hidden_size=row.hidden_size, intermediate_size=neurons,
                num_attention_heads=row.num_attention_heads, num_key_value_heads=row.num_attention_heads,
            )  # fmt: skip
            measured = replace(width, num_key_value_heads=1) if row.num_key_value_heads == 1 else width
            if measured.num_key_value_heads != row.num_key_value_heads:
                continue
            ends = {end.hidden_size: end.nanoseconds for end in table.ends}.get(row.hidden_size)
            if ends is not None:
                block = min(row.nanoseconds[index:])
                assert latency_of(table, measured) == ends + measured.num_layers * block


@given(architectures(), st.data())
def test_no_time_falls_as_the_mlp_grows_and_the_most_neurons_are_those_that_fit(parent, data):
    table = data.draw(latency_tables(parent))
    costs = LatencyCosts(table, [parent])
    neurons = np.arange(1, parent.intermediate_size + 2)
    layers = np.array([parent.num_layers])
    found = costs.at(parent.num_layers, 0, neurons)
    assert (np.diff(found) >= 0).all()
    for bound in {*found.tolist(), *(found - 1).tolist(), data.draw(st.integers(-10, 20_000))}:
        most = int(costs.neurons(bound, layers)[0, 0])
        assert ((found <= bound) == (neurons <= most)).all()


def test_between_measured_sizes_time_lies_on_the_line_between_theirs():
    table = LatencyTable(
        setting=LatencySetting(phase="decode", context=1, batch=1, dtype="float32"),
        machine=Machine(device="made up", threads=1, software="none"),
        neurons=(100, 200),
        rows=(
            BlockRow(num_attention_heads=4, num_key_value_heads=2, hidden_size=64, nanoseconds=(1000, 3000)),
            BlockRow(num_attention_heads=4, num_key_value_heads=2, hidden_size=128, nanoseconds=(5000, 4000)),
        ),
        ends=(EndsLatency(hidden_size=64, nanoseconds=10), EndsLatency(hidden_size=128, nanoseconds=30)),
    )
    shape = replace(TINY, num_layers=3, num_attention_heads=4, num_key_value_heads=2)
    for hidden, neurons, expected in (
        (64, 150, 10 + 3 * 2000),
        (128, 200, 30 + 3 * 4000),
        (128, 100, 30 + 3 * 4000),  # timed above the larger MLP, hence as long as that
        (96, 100, 20 + 3 * 2500),
        (96, 200, 20 + 3 * 3500),
        (32, 50, 10 + 3 * 1000),
    ):
        assert latency_of(table, replace(shape, hidden_size=hidden, intermediate_size=neurons)) == expected


# What is timed


def test_few_sizes_of_each_axis_are_timed_and_they_reach_the_whole_space():
    axes = Axes(
        num_layers=Range(start=16, stop=32), hidden_size=Range(start=2048, stop=4096, step=32),
        intermediate_size=Range(start=4096, stop=14336, step=2), num_attention_heads=(8, 16, 24, 32),
    )  # fmt: skip
    spec = replace(small_spec(), parent_config=dict(CONFIGS["Llama-3.1-8B"]), axes=axes)
    anchors = anchors_of(spec)
    assert anchors.neurons == (4096, 6656, 9216, 11776, 14336)
    assert len(anchors.blocks) == 4 * MOST_SIZES
    assert [size for size, _, _ in anchors.ends] == [2048, 2560, 3072, 3584, 4096]
    assert anchors.lacking(table_of(spec)) is None


@pytest.mark.parametrize(
    ("narrower", "lacking"),
    [
        ({"num_attention_heads": (4,)}, "8 query and 4 KV heads"),
        ({"hidden_size": (64,)}, "4 query and 4 KV heads at hidden size 128"),
        ({"intermediate_size": (64,)}, "MLP sizes from"),
    ],
)
def test_a_table_of_a_narrower_space_does_not_reach(narrower, lacking):
    axes = Axes(hidden_size=(64, 128), intermediate_size=(64, 128), num_attention_heads=(4, 8))
    spec = replace(small_spec(), axes=axes)
    table = table_of(replace(spec, axes=replace(axes, **narrower)))
    assert lacking in anchors_of(spec).lacking(table)


def test_more_heads_than_can_be_timed_are_refused():
    config = dict(CONFIGS["Qwen3-0.6B"]) | {"num_attention_heads": 256, "num_key_value_heads": 64}
    axes = Axes(
        hidden_size=Range(start=512, stop=1024, step=64), intermediate_size=Range(start=64, stop=3072, step=64),
        num_attention_heads=Range(start=1, stop=256), num_key_value_heads=Range(start=1, stop=64),
    )  # fmt: skip
    with pytest.raises(InvalidSpec, match=r"axes: found 6,400 blocks to time .* allowed: at most"):
        anchors_of(replace(small_spec(), parent_config=config, axes=axes))


# Budgets


def test_the_smaller_of_two_ends_is_the_limit():
    assert latency().most_nanoseconds == 2_000_000
    assert (latency(min_tokens_per_second=1000.0).most_nanoseconds, latency().most_field) == (
        1_000_000,
        "max_ms",
    )
    fast = latency(min_tokens_per_second=1000.0)
    assert fast.most_field == "min_tokens_per_second"
    prefill = latency(max_ms=None, min_tokens_per_second=64_000.0, phase="prefill", batch=2)
    assert prefill.most_nanoseconds == 2_000_000  # 128 tokens


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"max_ms": 0.0}, "max_ms", "found 0.0, allowed: above 0, at most 1e+12"),
        ({"max_ms": 1e308}, "max_ms", "found 1e+308, allowed: above 0, at most 1e+12"),
        ({"min_tokens_per_second": 1e-310}, "min_tokens_per_second", "found 1e-310, allowed: above 1e-09"),
        ({"min_tokens_per_second": -1.0}, "min_tokens_per_second", "found -1.0, allowed: above 1e-09"),
        ({"max_ms": float("inf")}, "max_ms", "found inf"),
        ({"context": 0}, "context", "found 0, allowed: 1 to"),
        ({"batch": 0}, "batch", "found 0, allowed: 1 to"),
        ({"min_ms": 3.0}, "min_ms", "found 3.0, allowed: 0 to 2"),
        ({"min_ms": 3.0, "max_ms": None}, "min_ms", "found 3.0, allowed: 0 without max_ms"),
    ],
)
def test_what_no_time_can_satisfy_is_refused(changes, field, found):
    with pytest.raises(InvalidSpec) as raised:
        latency(**changes)
    ((where, reason),) = raised.value.problems
    assert where == f"budget.latency.{field}"
    assert found in reason


def test_a_table_of_something_else_is_refused():
    table = table_of(small_spec(), context=65)
    with pytest.raises(
        InvalidSpec, match=r"budget.latency.table: found one of .*context=65.*allowed: of .*context=64"
    ):
        latency(table=table)


def test_a_budget_of_latency_alone_bounds_nothing_before_it_is_measured_and_its_space_afterwards():
    spec = replace(small_spec(), budget=Budget(latency=latency(max_ms=0.2)))
    assert len(search_space(spec)) == search_space(spec).num_combinations
    table = table_of(spec)
    space = search_space(replace(spec, budget=spec.budget.measured(table)))
    everything = search_space(spec).architectures
    assert list(space.architectures) == [each for each in everything if latency_of(table, each) <= 200_000]
    assert 0 < len(space) < len(everything)
    assert space.reasons == {"above latency.max_ms": len(everything) - len(space)}
    assert set(space.spans) == {"parameters", "latency_nanoseconds"}


def test_an_impossible_latency_names_the_nearest_architecture_in_milliseconds():
    spec = replace(small_spec(), budget=Budget(latency=latency(max_ms=0.001)))
    table = table_of(spec)
    fastest = min(latency_of(table, each) for each in search_space(spec).architectures)
    with pytest.raises(
        EmptySpace, match=rf"with 0 to 0\.001 ms to decode.*with .*{fastest / 1e6:.6g} ms to decode"
    ):
        search_space(replace(spec, budget=spec.budget.measured(table)))


def test_tens_of_millions_of_combinations_are_counted_with_a_table_at_once():
    axes = Axes(
        num_layers=Range(start=16, stop=32), hidden_size=Range(start=2048, stop=4096, step=32),
        intermediate_size=Range(start=4096, stop=14336, step=2), num_attention_heads=(8, 16, 24, 32),
    )  # fmt: skip
    spec = replace(small_spec(), parent_config=dict(CONFIGS["Llama-3.1-8B"]), axes=axes)
    table = table_of(spec, lambda hidden, neurons, heads, kv: 7 + hidden * neurons // 100 + heads * 1000)
    budget = Budget(latency=latency(max_ms=6.0, min_ms=5.5, table=table))
    started = time.perf_counter()
    space = SearchSpace(LLAMA, axes, budget)
    assert time.perf_counter() - started < 5
    assert space.num_combinations == 17 * 65 * 5121 * 4 == len(space) + sum(space.reasons.values())
    assert len(space) > 10**5
    for row in range(0, len(space), len(space) // 50):
        assert 5_500_000 <= latency_of(table, space.at(row)) <= 6_000_000


# Written and stored


def test_a_spec_with_a_latency_is_read_and_told_in_words():
    asked = {"max_ms": 12, "phase": "prefill", "context": 512, "batch": 4}
    spec = parse_spec(
        {"parent": "builtin:tiny", "axes": {}, "budget": {"latency": asked | {"min_tokens_per_second": 1e5}}}
    )
    assert in_words(spec.budget) == (
        "at most 12 ms and at least 100,000 tokens a second to prefill (bfloat16, batch 4, context 512)"
    )
    assert parse_spec(spec_to_json(spec)) == spec


def test_people_are_told_whether_and_on_what_latency_was_measured():
    spec = replace(small_spec(), budget=Budget(latency=latency()))
    search = make_search(spec=spec)
    assert fitting(search) == "12 architectures fit before latency is measured"
    assert "measured" not in in_words(search.budget)
    search = replace(search, latencies=table_of(spec))
    assert fitting(search) == fitting(make_search()) == "12 architectures fit"
    assert in_words(search.budget).endswith("context 64), measured on a formula, 1 thread, none")
    assert search.spec == spec


def test_a_spec_may_bring_its_table():
    spec = replace(small_spec(), budget=Budget(latency=latency(table=table_of(small_spec()))))
    assert parse_spec(spec_to_json(spec)) == spec
    assert spec.budget.measured(None) == spec.budget


@given(architectures(), st.data())
def test_a_table_is_stored_and_read_as_it_is(parent, data):
    table = data.draw(latency_tables(parent))
    assert load(LatencyTable, dump(table)) == table


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": ()}, "nothing measured"),
        ({"neurons": (200, 100)}, "sizes that do not ascend"),
        ({"neurons": (100,)}, "rows of other lengths, allowed: 1 times"),
        ({"neurons": (0, 100)}, "out of range"),
    ],
)
def test_a_damaged_table_is_refused(changes, reason):
    row = BlockRow(num_attention_heads=1, num_key_value_heads=1, hidden_size=8, nanoseconds=(1, 2))
    whole = {
        "setting": LatencySetting(phase="decode", context=1, batch=1, dtype="float32"),
        "machine": Machine(device="made up", threads=1, software="none"),
        "neurons": (100, 200), "rows": (row,), "ends": (EndsLatency(hidden_size=8, nanoseconds=1),),
    }  # fmt: skip
    assert LatencyTable(**whole).rows == (row,)
    with pytest.raises(InvalidSpec, match=f"budget.latency.table: found .*{reason}"):
        LatencyTable(**whole | changes)
    assert asdict(LatencyTable(**whole))["neurons"] == (100, 200)
