"""What stopped trials would have come to follows from those that went on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.samplers.foreseen import LEAST, foreseen


def test_nothing_is_foreseen_of_nothing():
    assert foreseen({}) == {}
    assert foreseen({number: {} for number in range(9)}) == {}


def test_few_trials_draw_no_line():
    losses = {number: {0: float(number)} for number in range(LEAST)} | {9: {0: 9.0, 40: 1.0}}
    assert foreseen(losses) == {number: float(number) for number in (*range(LEAST), 9)}
    assert foreseen({number: {0: 1.0} for number in range(LEAST - 1)}) == {}


@given(
    st.lists(st.floats(1, 9), min_size=LEAST, max_size=20, unique=True), st.floats(1, 9), st.floats(0.1, 2)
)
def test_a_straight_relation_is_followed_from_count_to_count(early, stopped, slope):
    losses = {
        number: {0: x, 10: slope * x + 1, 40: slope * (slope * x + 1) + 1} for number, x in enumerate(early)
    }
    found = foreseen(losses | {99: {0: stopped}})
    for number, of in losses.items():
        assert found[number] == of[40]
    expected = slope * (slope * stopped + 1) + 1
    assert found[99] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(
    st.lists(st.tuples(st.floats(1, 9), st.floats(1, 9)), min_size=LEAST, max_size=20),
    st.floats(1, 9),
    st.floats(1, 9),
)
def test_worse_is_never_foreseen_to_end_better(pairs, one, other):
    losses = {number: {0: early, 40: late} for number, (early, late) in enumerate(pairs)}
    found = foreseen(losses | {98: {0: min(one, other)}, 99: {0: max(one, other)}})
    assert found[98] <= found[99]
