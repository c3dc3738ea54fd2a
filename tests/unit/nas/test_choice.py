"""Laws of the choice among promoted students: noise never decides, and what is no noise does."""

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.recipe import TrainingRecipe
from nas.choice import STANDARD_ERRORS, chosen
from nas.promotion import Promotion
from nas.spec import dump, load
from nas.trial import TrialRole, TrialState
from tests.searches import MEASUREMENT, after, make_trial

PROMOTION = Promotion(training=TrainingRecipe())
NUM_SHARDS = 8


def student(number, shard_losses, num_parameters=1000, **changes):
    measured = replace(
        MEASUREMENT,
        loss=fmean(shard_losses),
        num_parameters=num_parameters,
        shard_losses=tuple(shard_losses),
    )
    known = {
        "role": TrialRole.PROMOTION,
        "state": TrialState.COMPLETED,
        "promoted_from": number - 100,
        "promotion": PROMOTION,
        "measurement": measured,
        "checkpoint": "x",
        "finished_at": after(1),
    }
    return make_trial(number, **{**known, **changes})


shards = st.lists(st.integers(1, 4000), min_size=NUM_SHARDS, max_size=NUM_SHARDS).map(
    lambda numbers: [number / 1000 for number in numbers]
)
students = st.lists(st.tuples(shards, st.integers(1, 9)), min_size=1, max_size=5).map(
    lambda each: [student(100 + n, losses, size) for n, (losses, size) in enumerate(each)]
)


@given(students)
def test_of_those_that_tie_the_smallest_wins_and_all_are_told_the_lowest_loss_first(trials):
    choice = chosen(trials)
    losses = [rival.loss for rival in choice.rivals]
    assert losses == sorted(losses)
    assert choice.rivals[0].is_tied
    assert sorted(rival.trial_number for rival in choice.rivals) == [trial.number for trial in trials]
    won = next(rival for rival in choice.rivals if rival.trial_number == choice.trial_number)
    assert won.is_tied
    assert all((won.cost, won.loss) <= (rival.cost, rival.loss) for rival in choice.tied)


@given(students, st.randoms())
def test_the_order_in_which_they_are_told_decides_nothing(trials, random):
    shuffled = random.sample(trials, len(trials))
    assert chosen(shuffled) == chosen(trials)


@given(students, st.lists(st.integers(-4000, 4000), min_size=NUM_SHARDS, max_size=NUM_SHARDS))
def test_how_hard_the_text_of_a_shard_is_decides_nothing(trials, hardness):
    """What all students find harder alike cancels: that is why differences are paired."""

    def harder(trial):
        losses = [
            loss + 4 + more / 1000
            for loss, more in zip(trial.measurement.shard_losses, hardness, strict=True)
        ]
        return student(trial.number, losses, trial.measurement.num_parameters)

    before, now = chosen(trials), chosen([harder(trial) for trial in trials])
    if len({round(rival.loss, 6) for rival in before.rivals}) < len(trials):
        return  # equal losses, which rounding may put in another order
    for rival, again in zip(before.rivals, now.rivals, strict=True):
        assert again.trial_number == rival.trial_number
        assert again.difference == pytest.approx(rival.difference, abs=1e-9)
        assert again.standard_error == pytest.approx(rival.standard_error, abs=1e-9)


@given(shards, st.floats(0.01, 1))
def test_a_student_that_is_worse_on_every_shard_alike_is_no_tie_however_small_it_is(losses, worse):
    smaller = student(101, [loss + worse for loss in losses], num_parameters=1)
    choice = chosen([student(100, losses), smaller])
    assert choice.trial_number == 100
    assert [rival.is_tied for rival in choice.rivals] == [True, False]


def test_a_difference_within_two_standard_errors_is_a_tie_and_one_beyond_is_not():
    """Differences of 8 shards: mean 1/8, standard deviation s; the error of the mean is s / sqrt(8)."""
    lowest = student(100, [2.0] * NUM_SHARDS, num_parameters=10)

    def beside(noise):
        losses = [2.0 + 0.125 + noise * sign for sign in (1, -1) * (NUM_SHARDS // 2)]
        return chosen([lowest, student(101, losses, num_parameters=5)])

    # Of n values that are alternately +a and -a the standard deviation is a * sqrt(n / (n - 1)).
    border = 0.125 / STANDARD_ERRORS * 7**0.5
    assert beside(border * 1.01).trial_number == 101
    assert beside(border * 0.99).trial_number == 100
    rival = beside(border * 1.01).rivals[1]
    assert rival.difference == pytest.approx(0.125)
    assert rival.standard_error == pytest.approx(0.0625 * 1.01)


def test_students_that_are_equal_tie_and_the_smaller_wins():
    choice = chosen([student(100, [2.0] * 4, 10), student(101, [2.0] * 4, 9)])
    assert choice.trial_number == 101
    assert len(choice.tied) == 2


def test_what_breaks_ties_may_be_another_cost():
    narrow = make_trial().architecture
    trials = [
        student(100, [2.0] * 4, 10, architecture=replace(narrow, num_layers=4)),
        student(101, [2.0] * 4, 9, architecture=replace(narrow, num_layers=5)),
    ]
    choice = chosen(trials, cost=lambda architecture: architecture.num_layers, counted="layers")
    assert (choice.trial_number, choice.counted) == (100, "layers")


def test_students_measured_on_other_shards_cannot_be_paired_and_never_tie():
    choice = chosen([student(100, [2.0] * 8, 10), student(101, [2.001] * 4, 1)])
    assert choice.trial_number == 100
    assert choice.rivals[1].standard_error is None
    assert choice.rivals[1].difference == pytest.approx(0.001)


def test_a_student_that_was_not_promoted_wins_where_it_is_better_than_all_that_were():
    best = student(3, [1.5] * 4, role=TrialRole.SEARCH, promoted_from=None, promotion=None)
    trials = [best, student(100, [2.0] * 4), student(101, [2.1] * 4)]
    choice = chosen(trials, best=best)
    assert (choice.trial_number, choice.unpromoted, choice.winner) == (100, 3, 3)
    worse = replace(best, measurement=replace(best.measurement, loss=2.05))
    choice = chosen([worse, *trials[1:]], best=worse)
    assert (choice.unpromoted, choice.winner) == (None, 100)


def test_a_tie_wins_though_the_best_that_was_not_promoted_lies_between():
    """What ties with the lowest loss is as good as it, which is better."""
    losses = [2.0, 2.2, 2.0, 2.2]
    tied = student(101, [2.15, 2.1, 2.15, 2.1], num_parameters=1)
    best = student(3, [2.11] * 4, role=TrialRole.SEARCH, promoted_from=None, promotion=None)
    choice = chosen([best, student(100, losses), tied], best=best)
    assert (choice.trial_number, choice.unpromoted) == (101, None)


def test_without_completed_promotions_there_is_no_choice():
    running = student(100, [2.0] * 4, state=TrialState.RUNNING, measurement=None)
    assert chosen([running, make_trial()]) is None


@given(students)
def test_a_choice_is_stored_and_comes_back(trials):
    choice = chosen(trials)
    assert load(type(choice), dump(choice)) == choice
