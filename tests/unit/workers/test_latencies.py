"""What is timed for a search: each shape once, kept for others, and what is told of it before a search starts."""

import json
from dataclasses import replace

import pytest

from minitron import latency as timing
from minitron.progress import silent
from nas.admission import admitted, planned
from nas.axes import Axes
from nas.budget import Budget, LatencyBudget
from nas.errors import EmptySpace, InvalidSpec
from nas.latency_anchors import anchors_of
from nas.latency_costs import latency_of
from nas.latency_file import measured_before
from nas.search import Resources
from nas.space import search_space
from tests.micro import micro_spec
from workers import latencies
from workers.latencies import VISITS, block_latencies

FEW = Axes(num_layers=(1, 2), hidden_size=(24, 48), intermediate_size=(16, 40))


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """Timings that end soon; returns the shapes that were timed."""
    shapes = []

    def time_student(config, shape, **setting):
        shapes.append(shape)
        return timing.time_student(config, shape, **setting)

    monkeypatch.setattr(timing, "LONGEST_SECONDS", 0.0)
    monkeypatch.setattr(latencies, "time_student", time_student)
    return shapes


def asked(max_ms=1000.0, **changes):
    return Budget(latency=LatencyBudget(**{"max_ms": max_ms, "context": 8, "dtype": "float32"} | changes))


@pytest.fixture
def spec(tmp_path):
    return micro_spec(tmp_path, axes=FEW, budget=asked())


def test_each_shape_is_timed_once_and_found_by_the_next_search(spec, tmp_path, timed):
    table = block_latencies(spec, tmp_path, silent)
    assert len(timed) == VISITS * (4 + 2)  # two MLPs at two hidden sizes, and the ends of each
    assert anchors_of(spec).lacking(table) is None
    stages = []
    assert block_latencies(replace(spec, seed=7, num_trials=3), tmp_path, stages.append) == table
    assert len(timed) == VISITS * 6
    assert stages[-1].is_cached


def test_another_space_times_what_it_lacks_and_keeps_the_rest(spec, tmp_path, timed):
    before = block_latencies(spec, tmp_path, silent)
    timed.clear()
    table = block_latencies(replace(spec, axes=replace(FEW, intermediate_size=(16, 24))), tmp_path, silent)
    assert len(timed) == VISITS * 2
    assert {shape.intermediate_size for shape in timed} == {24}
    assert [row.nanoseconds[0] for row in table.rows] == [row.nanoseconds[0] for row in before.rows]
    assert len(list((tmp_path / "latencies").iterdir())) == 1


def test_another_setting_is_timed_for_itself(spec, tmp_path, timed):
    block_latencies(spec, tmp_path, silent)
    timed.clear()
    table = block_latencies(replace(spec, budget=asked(phase="prefill")), tmp_path, silent)
    assert len(timed) == VISITS * 6
    assert table.setting.phase == "prefill"
    assert len(list((tmp_path / "latencies").iterdir())) == 2


def test_before_anything_is_timed_a_plan_says_what_is_feasible_without_it(spec, tmp_path):
    found, space, unchecked = planned(spec, tmp_path)
    assert len(space) == 8
    assert unchecked == (
        "budget.latency: blocks are timed when the search starts; 8 architectures are feasible without it",
    )
    assert found == spec


def test_what_was_timed_before_on_this_machine_is_planned_by(spec, tmp_path):
    table = block_latencies(spec, tmp_path, silent)
    times = sorted(latency_of(table, each) for each in search_space(spec).architectures)
    limited = replace(spec, budget=asked(times[3] / 1e6))
    found, space, unchecked = planned(limited, tmp_path)
    assert (len(space), unchecked) == (4, ())
    assert found == limited  # the search itself finds out on which machine it is
    assert len(admitted(limited, tmp_path)[1]) == 4
    with pytest.raises(
        EmptySpace, match=r"the nearest is L1-.*ms to decode; measured on .*, 1 thread, torch"
    ):
        planned(replace(spec, budget=asked(0.0001)), tmp_path)


def test_what_was_timed_on_other_machines_too_says_nothing_before_the_search_starts(spec, tmp_path):
    block_latencies(spec, tmp_path, silent)
    assert measured_before(spec, tmp_path) is not None
    assert measured_before(replace(spec, resources=Resources(gpus=1)), tmp_path) is None
    (path,) = (tmp_path / "latencies").iterdir()
    other = json.loads(path.read_text())
    other["machine"]["device"] = "another one"
    path.with_name("other.json").write_text(json.dumps(other))
    assert measured_before(spec, tmp_path) is None
    path.write_text("{")
    assert measured_before(spec, tmp_path).machine.device == "another one"


def test_a_table_that_does_not_reach_the_space_is_refused(spec, tmp_path):
    table = block_latencies(spec, tmp_path, silent)
    wider = replace(spec, axes=replace(FEW, hidden_size=(12, 24, 48)), budget=spec.budget.measured(table))
    with pytest.raises(
        InvalidSpec,
        match=r"budget.latency.table: found none of 6 query and 2 KV heads at hidden size 12, allowed",
    ):
        admitted(wider, tmp_path)


@pytest.mark.parametrize(("phase", "room"), [("prefill", 512), ("decode", 511)])
def test_a_context_beyond_the_parents_positions_is_refused(spec, tmp_path, phase, room):
    assert planned(replace(spec, budget=asked(phase=phase, context=room)), tmp_path)
    match = (
        f"budget.latency.context: found {room + 1}, allowed by max_position_embeddings of .*: at most {room}"
    )
    with pytest.raises(InvalidSpec, match=match):
        planned(replace(spec, budget=asked(phase=phase, context=room + 1)), tmp_path)
