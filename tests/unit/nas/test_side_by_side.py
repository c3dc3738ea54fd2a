"""Searches beside one another: what differs, and whether losses may be compared."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from minitron.recipe import DataRecipe, DataSource, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.axes import Axes, Range
from nas.display_history import standing_rows
from nas.frontier import pareto_front
from nas.sampling import Objective, shared
from nas.search import Artifacts
from nas.side_by_side import beside, differences, side_by_side
from nas.space import search_space
from nas.spec import dump
from nas.standing import TrialRecord, view_of
from nas.tally import Tally, tally_of
from tests.fakes import ManualClock, small_spec
from tests.searches import (
    MEASUREMENT,
    after,
    make_attempt,
    make_point,
    make_search,
    make_spec,
    make_trial,
    specs,
)
from tests.unit.api.seeded import NOW, Played, demo_spec
from tests.unit.nas.test_report_promotions import Searched
from tests.unit.nas.test_samplers import completed

MADE_FROM = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")


def found(spec):
    return {each.field: each.values for each in differences(spec)}


def test_only_fields_that_differ_are_told_by_their_path():
    first = make_spec(name="one", seed=1)
    second = make_spec(name="two", seed=2, training=replace(first.training, seed=5))
    assert found([first, second, first]) == {"training.seed": (0, 5, 0), "seed": (1, 2, 1)}


def test_a_section_that_only_one_has_is_told_field_by_field():
    told = found([make_spec(), make_spec(correction=CorrectionRecipe(stages=4))])
    assert told["correction.stages"] == (None, 4)
    assert told["correction.learning_rate_ratio"] == (None, 0.2)
    assert "correction" not in told


def test_nothing_is_lost_where_a_field_is_text_in_one_and_a_section_in_another():
    told = found([make_spec(), make_spec(data=DataRecipe(source=DataSource(source="/x", weight=2.0)))])
    assert told["data.source"] == ("builtin:python-docs", None)
    assert told["data.source.source"] == (None, "/x")
    told = found(
        [make_spec(axes=Axes(num_layers=(4, 5))), make_spec(axes=Axes(num_layers=Range(start=4, stop=5)))]
    )
    assert told["axes.num_layers"] == ([4, 5], None)
    assert told["axes.num_layers.start"] == (None, 4)


@settings(max_examples=25)
@given(specs, specs)
def test_differences_are_none_exactly_between_the_same(one, other):
    assert differences([one, one, one]) == ()
    same = replace(other, name=one.name, parent_config=one.parent_config)
    assert (differences([one, other]) == ()) == (dump(one) == dump(same))


def placed(search_id="s", **changes):
    search = make_search(search_id, **changes)
    return beside(view_of(search, Tally()), [])


def reasons(*searches):
    return [each.reason for each in side_by_side(searches).incomparable]


def test_losses_compare_where_parent_data_and_tokens_are_the_same():
    assert reasons(placed()) == []
    assert reasons(placed("a"), placed("b", spec=make_spec(seed=3))) == []
    longer = make_spec(training=TrainingRecipe(num_tokens=2_000_000))
    assert reasons(placed("a"), placed("b", spec=longer)) == ["tokens"]
    other = make_spec(parent="/other", data=DataRecipe(seed=2))
    assert reasons(placed("a"), placed("b"), placed("c", spec=other)) == ["parent", "data"]
    (parent, *_) = side_by_side([placed("a"), placed("c", spec=other)]).incomparable
    assert parent.values == ("builtin:tiny", "/other")


def test_a_best_that_was_promoted_compares_as_it_was_before(tmp_path):
    promoted = Searched(tmp_path)
    service, other = promoted.service, promoted.service.create(demo_spec())
    Played(promoted.store, ManualClock(NOW), other.id).train().succeed(tmp_path)
    found = service.compare([promoted.id, other.id])
    (reason,) = found.incomparable
    first, second = found.searches
    before = first.view.before_promotion
    assert (reason.reason, reason.values) == (
        "promotion",
        (f"{first.view.best_tokens:,}", f"{second.view.best_tokens:,}"),
    )
    rows = dict(standing_rows(found.searches))
    assert rows["best loss"][0] == f"{promoted.search.choice.rivals[0].loss:.4f}"
    assert rows["best loss before promotion"] == [
        f"{before.measurement.loss:.4f}",
        f"{second.view.best_loss:.4f}",
    ]
    assert first.curve == service.trials(promoted.id)[before.number].points
    (alone,) = service.compare([other.id]).searches
    assert "best loss before promotion" not in dict(standing_rows([alone]))


def test_content_decides_once_it_is_known_of_all():
    moved = make_spec(parent="/moved", data=DataRecipe(source="/copy"))
    known = placed("a", made_from=MADE_FROM), placed("b", spec=moved, made_from=MADE_FROM)
    assert reasons(*known) == []
    assert reasons(known[0], placed("b", spec=moved)) == ["parent", "data"]
    changed = placed("b", made_from=replace(MADE_FROM, parent="q", validation="w"))
    assert reasons(known[0], changed) == ["parent", "data"]
    newer = placed("b", made_from=replace(MADE_FROM, loss_version=2))
    assert reasons(known[0], newer) == ["loss"]


@pytest.mark.parametrize("objective", [Objective(cost="memory", batch=64), Objective(cost="flops"), None])
def test_fronts_are_of_what_all_searches_weigh(objective):
    """None beats another of them at that cost or less."""
    space = search_space(small_spec())
    trials = [completed(number, space.at(3 * number)) for number in range(20)]
    records = [TrialRecord(trial=trial, points=(), attempts=()) for trial in trials]
    view = view_of(make_search(spec=make_spec()), tally_of([]))
    found = side_by_side([beside(view, records, objective)], objective)
    (only,) = found.searches
    weigh = objective.of if objective else lambda architecture: architecture.parameter_count
    assert only.front == pareto_front(trials, objective)
    assert list(only.costs) == [weigh(trial.architecture) for trial in only.front] == sorted(only.costs)
    assert found.cost == (objective.words if objective else "parameters")


def test_what_is_not_weighed_by_all_is_weighed_by_none():
    memory = Objective(cost="memory")
    assert shared([memory, Objective(cost="memory")]) == memory
    assert shared([memory, None]) is shared([memory, Objective(cost="flops")]) is shared([None]) is None


def test_a_search_is_shown_with_the_front_the_curve_of_its_best_and_what_it_took():
    done = make_trial(1).started(after(1)).completed(MEASUREMENT, "x", after(2))
    points = tuple(make_point(1, tokens, at=after(tokens)).point for tokens in (0, 10, 20))
    records = [
        TrialRecord(trial=done, points=points, attempts=(make_attempt(1, 1, ended_at=after(30)),)),
        TrialRecord(
            trial=make_trial(2), points=points, attempts=(make_attempt(2, 1, started_at=after(15)), make_attempt(2, 2, started_at=after(40)))
        ),
        TrialRecord(trial=make_trial(3), points=(), attempts=(make_attempt(3, 1),)),
    ]  # fmt: skip
    tally = tally_of((record.trial, record.points, record.attempts) for record in records)
    each = beside(view_of(make_search(), tally), records)
    assert each.front == (done,)
    assert each.curve == points
    assert each.compute_seconds == 30 + 5
    assert each.num_tokens == 999_424
