"""Early rankings are believed as far as later ones have borne them out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.agreement import kendall_tau
from nas.confidence import ASSUMED, WEIGHT, agreement_with_later, share_advancing

COUNTS = (10, 20, 40)
LOSSES = st.floats(1, 9, allow_nan=False)


def weighed(balance, num_pairs):
    return (balance + WEIGHT * ASSUMED) / (num_pairs + WEIGHT)


def test_nothing_seen_leaves_the_assumption():
    assert agreement_with_later({}, COUNTS) == ASSUMED
    assert agreement_with_later({0: {10: 1.0, 20: 1.0}, 1: {10: 2.0}}, COUNTS) == ASSUMED


def test_two_trials_are_compared_where_both_came_to_last():
    losses = {0: {10: 1.0, 20: 2.0, 40: 1.0}, 1: {10: 2.0, 20: 1.0, 40: 2.0}, 2: {10: 3.0, 20: 3.0}}
    # 0 and 1 at 40, in their first order; 0 and 2, and 1 and 2, at 20, in theirs.
    assert agreement_with_later(losses, COUNTS) == weighed(3, 3)
    losses[2][20] = 1.5
    assert agreement_with_later(losses, COUNTS) == weighed(1, 3)


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=2, max_size=30))
def test_with_one_later_count_it_is_tau_and_the_assumption(pairs):
    losses = {number: {10: early, 40: late} for number, (early, late) in enumerate(pairs)}
    num_pairs = len(pairs) * (len(pairs) - 1) // 2
    early_N, late_N = np.array(pairs).T
    is_untied = all(len(set(each)) == len(pairs) for each in (early_N, late_N))
    found = agreement_with_later(losses, (10, 40))
    assert -1 <= found <= 1
    if is_untied:
        tau = kendall_tau(early_N, late_N)
        assert found == pytest.approx(weighed(tau * num_pairs, num_pairs))


@given(st.lists(LOSSES, min_size=2, max_size=12, unique=True), st.randoms())
def test_who_is_told_first_does_not_matter(early, random):
    losses = {
        number: {10: loss, 20: random.random(), **({40: random.random()} if number % 2 else {})}
        for number, loss in enumerate(early)
    }
    shuffled = list(losses)
    random.shuffle(shuffled)
    assert agreement_with_later(
        {number: losses[number] for number in shuffled}, COUNTS
    ) == agreement_with_later(losses, COUNTS)


@given(st.floats(0.01, 0.99), st.floats(-1, 1), st.floats(-1, 1))
def test_the_less_the_agreement_the_more_advance(keep, one, other):
    low, high = sorted((one, other))
    assert keep <= share_advancing(keep, high) <= share_advancing(keep, low) <= 1
    assert share_advancing(keep, 1.0) == keep
    assert share_advancing(keep, 0.0) == share_advancing(keep, -1.0) == 1
