"""What the charts say of a search, and what they leave unsaid."""

from dataclasses import replace

import pytest

from api.dashboard.charts import (
    FRONT,
    KINDS,
    MAX_CURVE_POINTS,
    MAX_CURVES,
    kind_of,
    learning_chart,
    num_curves_left_out,
    size_chart,
    size_note,
)
from api.dashboard.compare_page import _shape
from api.dashboard.parallel_chart import parallel_chart, parallel_lines
from nas import wording
from nas.budget import Budget, MemoryBudget
from nas.frontier import pareto_front
from nas.leaderboard import leaderboard
from nas.sampling import Objective
from nas.search import Rungs
from nas.trial import TrialRole, TrialState
from tests.latencies import latency, table_of


@pytest.fixture
def drawn(seeded):
    """Return the points of the size chart by kind, and the marked lines."""

    def draw(name):
        search = seeded.store.get_search(seeded.id(name))
        marks, *series = size_chart(search, leaderboard(seeded.service.trials(search.id)))["series"]
        points = {
            each["name"]: [point["value"] for point in each["data"]]
            for each in series
            if each["name"] in KINDS
        }
        return points, marks["markLine"]["data"]

    return draw


def test_where_parameters_are_not_bounded_no_line_says_so(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    budget = Budget(memory=MemoryBudget(max_bytes=10**9, context=8))
    unbounded = replace(search, spec=replace(search.spec, budget=budget))
    chart = size_chart(unbounded, leaderboard(seeded.service.trials(search.id)))
    assert [each["label"]["formatter"] for each in chart["series"][0]["markLine"]["data"]] == [
        f"parent, {wording.count(search.parent_parameters)} parameters"
    ]


def test_best_trial_stands_out_at_its_size_and_loss(seeded, drawn):
    points, _ = drawn("succeeded")
    best = seeded.service.get(seeded.id("succeeded")).best
    assert points["best at equal tokens"] == [[best.architecture.parameter_count, best.measurement.loss]]


def test_every_trial_with_a_loss_after_training_has_one_point(seeded, drawn):
    points, _ = drawn("succeeded")
    trials = [record.trial for record in seeded.service.trials(seeded.id("succeeded"))]
    by_role = [len(points["random architecture"]), len(points["random indices"])]
    roles = (TrialRole.RANDOM_ARCHITECTURE, TrialRole.RANDOM_INDICES)
    assert by_role == [sum(trial.role is role for trial in trials) for role in roles]
    assert len(points["stopped early"]) == sum(trial.state is TrialState.STOPPED for trial in trials)
    assert sum(map(len, points.values())) == sum(trial.state is not TrialState.FAILED for trial in trials)


def test_what_was_measured_at_fewer_tokens_is_hollow(seeded):
    search = seeded.store.get_search(seeded.id("running"))
    chart = size_chart(search, leaderboard(seeded.service.trials(search.id)))
    fill = {each.get("name"): each.get("itemStyle", {}).get("color") for each in chart["series"]}
    hollow = (
        "stopped early",
        "cancelled",
        "under way",
        "random architecture, partial",
        "random indices, partial",
    )
    assert {fill[kind] for kind in hollow} == {"transparent"}
    solid = ("best at equal tokens", "completed", "random architecture", "random indices")
    assert "transparent" not in {fill[kind] for kind in solid}


@pytest.mark.parametrize("role", [TrialRole.RANDOM_ARCHITECTURE, TrialRole.RANDOM_INDICES])
def test_a_baseline_is_solid_only_once_it_has_completed(seeded, role):
    lines = leaderboard(seeded.service.trials(seeded.id("succeeded")))
    line = next(line for line in lines if line.record.trial.role is role)
    kinds = {
        state: kind_of(
            replace(line, record=replace(line.record, trial=replace(line.record.trial, state=state)))
        )
        for state in (TrialState.COMPLETED, TrialState.RUNNING, TrialState.CANCELLED)
    }
    assert kinds[TrialState.COMPLETED] == wording.ROLES[role]
    assert kinds[TrialState.RUNNING] == kinds[TrialState.CANCELLED] == f"{wording.ROLES[role]}, partial"


def test_what_was_cancelled_was_not_stopped_early(seeded, drawn):
    lines = leaderboard(seeded.service.trials(seeded.id("cancelled")))
    trained = [line.record.trial for line in lines if line.num_tokens]
    points, _ = drawn("cancelled")
    for kind, state in (("cancelled", TrialState.CANCELLED), ("stopped early", TrialState.STOPPED)):
        assert len(points[kind]) == sum(trial.state is state for trial in trained)
    assert points["cancelled"]


def test_parent_and_budget_are_lines(drawn):
    _, marks = drawn("succeeded")
    assert {520_000, 640_000} <= {mark.get("xAxis") for mark in marks}
    assert {"yAxis": 2.3104} in [{"yAxis": mark.get("yAxis")} for mark in marks]


def test_parent_is_no_line_before_it_is_measured(drawn):
    _, marks = drawn("preparing")
    assert all("yAxis" not in mark for mark in marks)


def test_without_points_the_charts_say_so(seeded):
    search = seeded.store.get_search(seeded.id("preparing"))
    for chart in (size_chart(search, []), learning_chart(search, [])):
        assert chart["title"]["text"] == "Nothing is measured yet"


def test_every_learning_curve_is_its_stored_points(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    records = seeded.service.trials(search.id)
    *curves, _ = learning_chart(search, leaderboard(records))["series"]
    assert [curve["name"].split()[0] for curve in curves] == [f"#{record.trial.number}" for record in records]
    for curve, record in zip(curves, records, strict=True):
        assert curve["data"] == [[point.num_tokens, round(point.loss, 5)] for point in record.points]


def test_the_front_descends_from_small_to_large(seeded):
    search = seeded.store.get_search(seeded.id("running"))
    records = seeded.service.trials(search.id)
    (front,) = [
        each["data"]
        for each in size_chart(search, leaderboard(records))["series"]
        if each.get("name") == FRONT
    ]
    assert [loss for _, loss in front] == [
        trial.measurement.loss for trial in pareto_front([record.trial for record in records])
    ]
    assert front == sorted(front)
    assert [loss for _, loss in front] == sorted((loss for _, loss in front), reverse=True)


def test_the_chosen_trial_has_a_ring_and_its_curve_stands_out(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    lines = leaderboard(seeded.service.trials(search.id))
    chosen = next(line for line in lines if line.record.trial.state is TrialState.STOPPED)
    number = chosen.record.trial.number
    ring = size_chart(search, lines, number)["series"][-1]
    assert [point["value"][1] for point in ring["data"]] == [chosen.loss]
    wide = [
        curve["name"]
        for curve in learning_chart(search, lines, number)["series"]
        if curve.get("lineStyle", {}).get("width") == 3
    ]
    assert f"#{number} {chosen.record.trial.architecture.name}" in wide
    assert len(wide) == 2, "the best, and the chosen"


def test_many_long_curves_are_bounded_and_none_is_lost_silently(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    (line,) = [line for line in leaderboard(seeded.service.trials(search.id)) if line.rank == 1]
    points = tuple(replace(line.record.points[0], num_tokens=number) for number in range(500))
    lines = [
        replace(
            line,
            record=replace(line.record, points=points, trial=replace(line.record.trial, number=number)),
        )
        for number in range(300)
    ]
    *curves, _ = learning_chart(search, lines, 299)["series"]
    assert len(curves) == MAX_CURVES + 1, "the chosen one is drawn too"
    assert {len(curve["data"]) for curve in curves} == {MAX_CURVE_POINTS}
    assert {(curve["data"][0][0], curve["data"][-1][0]) for curve in curves} == {(0, 499)}
    assert num_curves_left_out(lines) == 300 - MAX_CURVES


def test_only_trials_of_equal_tokens_stand_side_by_side(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    lines = leaderboard(seeded.service.trials(search.id))
    drawn = parallel_lines(lines)
    assert {line.num_tokens for line in drawn} == {max(line.num_tokens for line in lines)}
    assert TrialRole.RANDOM_INDICES not in {line.record.trial.role for line in drawn}
    chart = parallel_chart(search, lines)
    names = [axis["name"] for axis in chart["parallelAxis"]]
    assert names == ["layers", "hidden size", "MLP size", "query heads", "parameters, M", "held-out loss"]
    rows = [each["value"] for each in chart["series"][0]["data"]]
    assert sorted(row[-1] for row in rows) == [round(line.loss, 5) for line in drawn]
    assert rows[-1][-1] == min(row[-1] for row in rows), "the best is drawn last, on top"
    for axis, values in zip(chart["parallelAxis"], zip(*rows, strict=True), strict=True):
        assert axis["min"] < min(values) <= max(values) < axis["max"]


def test_two_trials_are_nothing_to_compare(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    lines = leaderboard(seeded.service.trials(search.id))[:2]
    assert parallel_chart(search, lines)["series"] == []


def weighing(seeded, objective):
    search = seeded.store.get_search(seeded.id("succeeded"))
    budget = replace(search.spec.budget, latency=latency(table=table_of(search.spec)))
    spec = replace(search.spec, budget=budget, sampler="nsga2", objective=objective)
    return replace(search, spec=replace(spec, rungs=Rungs(fractions=())))


@pytest.mark.parametrize(
    "objective",
    [Objective(cost="memory", batch=64), Objective(cost="flops"), Objective(cost="latency")],
    ids=lambda each: each.cost,
)
def test_a_search_is_drawn_by_what_it_weighs(seeded, objective):
    search = weighing(seeded, objective)
    objective = search.spec.weighed
    records = seeded.service.trials(search.id)
    chart = size_chart(search, leaderboard(records))
    front = pareto_front([record.trial for record in records], objective)
    (drawn,) = (each["data"] for each in chart["series"] if each.get("name") == FRONT)
    assert drawn == [[objective.of(trial.architecture), trial.measurement.loss] for trial in front]
    assert chart["xAxis"]["name"] == objective.words
    costs = [
        point["value"][0] for each in chart["series"] if each.get("name") in KINDS for point in each["data"]
    ]
    assert set(costs) <= {objective.of(record.trial.architecture) for record in records}
    assert "budget" not in str(chart["series"][0]), "it counts parameters"


def test_a_budget_of_parameters_is_drawn_where_parameters_are(seeded):
    search = weighing(seeded, Objective(cost="parameters"))
    chart = size_chart(search, leaderboard(seeded.service.trials(search.id)))
    assert "budget" in str(chart["series"][0])


def test_what_nvidias_rule_takes_is_told_beside_what_retraining_says(seeded):
    search = seeded.store.get_search(seeded.id("succeeded"))
    lines = leaderboard(seeded.service.trials(search.id))
    assert size_note(search, lines) == ""
    search = replace(search, spec=replace(search.spec, sampler="nearest-budget"))
    before = {
        line.record.trial.number: line.record.points[0].loss
        for line in lines
        if line.record.trial.role is TrialRole.SEARCH
    }
    note = size_note(search, lines)
    assert "The rule that NVIDIA ModelOpt documents retrains none" in note
    assert note.endswith(f"it would take trial {min(before, key=before.get)}.")
    assert "take" not in size_note(search, [])


def test_a_comparison_is_laid_out_anew_only_where_other_searches_or_differences_are_shown(seeded):
    running, succeeded = seeded.id("running"), seeded.id("succeeded")
    found = seeded.service.compare([running, succeeded])
    first, second = found.searches
    later = replace(first, view=replace(first.view, best_loss=1.0, compute_seconds=9.0), front=())
    assert _shape(replace(found, searches=(later, second))) == _shape(found)
    renamed = replace(first.view.search, spec=replace(first.view.search.spec, name="another"))
    for other in (
        replace(found, searches=(replace(first, view=replace(first.view, search=renamed)), second)),
        replace(found, differences=()),
        seeded.service.compare([succeeded, running]),
    ):
        assert _shape(other) != _shape(found)
