"""Kendall's tau against its definition, and what is compared with what."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.agreement import MAX_COUNTS, kendall_tau, rank_agreement
from nas.standing import TrialRecord
from nas.trial import TrialRole
from tests.searches import make_point, make_trial

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12)


def by_definition(x, y):
    concordant = discordant = tied_x = tied_y = 0
    for i, j in combinations(range(len(x)), 2):
        product = (x[i] - x[j]) * (y[i] - y[j])
        concordant += product > 0
        discordant += product < 0
        tied_x += x[i] == x[j]
        tied_y += y[i] == y[j]
    every = math.comb(len(x), 2)
    if every in {tied_x, tied_y}:
        return None
    return (concordant - discordant) / math.sqrt((every - tied_x) * (every - tied_y))


@given(pairs)
def test_tau_is_what_its_definition_says(found):
    x, y = (np.array(side, dtype=float) for side in zip(*found, strict=True))
    expected = by_definition(x, y)
    assert kendall_tau(x, y) == (expected if expected is None else pytest.approx(expected))


@given(pairs)
def test_tau_sees_order_alone_and_changes_sign_with_it(found):
    x, y = (np.array(side, dtype=float) for side in zip(*found, strict=True))
    tau = kendall_tau(x, y)
    if tau is not None:
        assert kendall_tau(np.exp(x), 3 * y - 1) == pytest.approx(tau)
        assert kendall_tau(x, -y) == pytest.approx(-tau)


def record(number, losses, **changes):
    points = tuple(make_point(number, tokens, loss).point for tokens, loss in losses.items())
    return TrialRecord(trial=make_trial(number, **changes), points=points, attempts=())


def test_only_trials_measured_at_both_are_compared():
    records = [
        record(0, {0: 5.0, 10: 3.0, 20: 1.0}),
        record(1, {0: 4.0, 10: 3.5, 20: 2.0}),
        record(2, {0: 3.0, 10: 4.0}),
        record(3, {0: 2.0}),
        record(4, {0: 9.0, 10: 0.1, 20: 9.0}, role=TrialRole.RANDOM_INDICES),
    ]
    found = {(each.earlier, each.later): (each.num_trials, each.tau) for each in rank_agreement(records)}
    assert found == {(0, 10): (3, -1.0), (0, 20): (2, None), (10, 20): (2, None)}


def test_of_many_token_counts_first_and_last_stay():
    records = [record(number, {10 * step: float(step + number) for step in range(40)}) for number in range(3)]
    found = rank_agreement(records)
    counts = sorted({each.earlier for each in found} | {each.later for each in found})
    assert len(counts) == MAX_COUNTS
    assert (counts[0], counts[-1]) == (0, 390)
    assert {each.tau for each in found} == {1.0}


def test_nothing_to_compare():
    assert rank_agreement([]) == []
    assert rank_agreement([record(0, {0: 1.0})]) == []
