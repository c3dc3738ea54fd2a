"""Curves in few points: laws of what is kept."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nas.series import LEAST_POINTS, furthest, thinned
from nas.trial import Point
from tests.searches import MEASUREMENT, START, after, make_trial

losses = st.lists(st.floats(0, 100), max_size=60)


def curve(values):
    return [Point(num_tokens=10 * number, loss=loss, at=START) for number, loss in enumerate(values)]


@given(values=losses, most=st.integers(LEAST_POINTS, 40))
def test_few_points_keep_the_ends_the_extremes_and_the_order(values, most):
    points = curve(values)
    kept = thinned(points, most)
    assert len(kept) <= most
    assert list(kept) == sorted(set(kept) & set(points), key=lambda point: point.num_tokens)
    if len(points) <= most:
        assert list(kept) == points
    else:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert min(point.loss for point in kept) == min(values)
        assert max(point.loss for point in kept) == max(values)
        assert len(kept) > 2


@given(values=st.lists(st.floats(0, 100), min_size=50, max_size=60, unique=True), most=st.integers(10, 40))
def test_no_long_part_of_a_curve_is_left_out(values, most):
    points = curve(values)
    numbers = [point.num_tokens // 10 for point in thinned(points, most)]
    widest = max(later - earlier for earlier, later in pairwise(numbers))
    assert widest <= 2 * -(-len(points) // ((most - 2) // 2))


def test_those_that_are_furthest_come_first_and_are_given_by_number():
    def done(number, loss):
        measurement = type(MEASUREMENT)(
            num_tokens=1, loss=loss, loss_before_retraining=4.0, num_parameters=1, train_seconds=1.0
        )
        return make_trial(number).started(after(1)).completed(measurement, "x", after(2))

    trials = [make_trial(0), make_trial(1, rung=2), done(2, 3.0), done(3, 1.0), make_trial(4, rung=1)]
    kept = [[trial.number for trial in furthest(trials, most)] for most in range(1, 6)]
    assert kept == [[3], [2, 3], [1, 2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4]]
