"""What the charts say of a search, and what they leave unsaid."""

import pytest

from api.dashboard.charts import learning_chart, size_chart
from nas.leaderboard import leaderboard
from nas.trial import TrialRole, TrialState


@pytest.fixture
def drawn(seeded):
    """Return the points of the size chart by kind, and the marked lines."""

    def draw(name):
        search = seeded.store.get_search(seeded.id(name))
        marks, *series = size_chart(search, leaderboard(seeded.service.trials(search.id)))["series"]
        points = {each["name"]: [point["value"] for point in each["data"]] for each in series}
        return points, marks["markLine"]["data"]

    return draw


def test_best_trial_stands_out_at_its_size_and_loss(seeded, drawn):
    points, _ = drawn("succeeded")
    best = seeded.service.get(seeded.id("succeeded")).best
    assert points["best"] == [[best.architecture.parameter_count, best.measurement.loss]]


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
    assert fill["stopped early"] == fill["under way"] == "transparent"
    assert "transparent" not in {fill["best"], fill["completed"]}


def test_parent_and_budget_are_lines(drawn):
    _, marks = drawn("succeeded")
    assert {"xAxis": 640_000} in [{"xAxis": mark.get("xAxis")} for mark in marks]
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
    assert [curve["name"] for curve in curves] == [f"#{record.trial.number}" for record in records]
    for curve, record in zip(curves, records, strict=True):
        stored = [[point.num_tokens, point.loss] for point in record.points]
        assert [point["value"] for point in curve["data"]] == stored
