"""A budget is a window of parameters, both ends included."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.parents import parent_architecture
from nas.budget import Budget
from nas.errors import InvalidSpec
from tests.strategies import architectures

TINY = parent_architecture("builtin:tiny")


@settings(deadline=None)
@given(architectures(), st.integers(0, 40_000), st.integers(0, 40_000))
def test_a_refusal_an_excess_and_the_window_agree(architecture, low, width):
    budget = Budget(min_parameters=low, max_parameters=low + width)
    is_inside = low <= architecture.parameter_count <= low + width
    assert budget.admits(architecture) is is_inside
    assert (budget.refusal(architecture) is None) is is_inside
    assert (budget.excess(architecture) <= 0) is is_inside


def test_both_ends_belong_to_the_window():
    count = TINY.parameter_count
    assert Budget(min_parameters=count, max_parameters=count).admits(TINY)


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (0, TINY.parameter_count - 5, "5 above max_parameters"),
        (TINY.parameter_count + 7, 10**9, "7 below min_parameters"),
    ],
)
def test_a_refusal_says_by_how_much_the_window_is_missed(low, high, reason):
    budget = Budget(min_parameters=low, max_parameters=high)
    assert f"{TINY.parameter_count:,} total parameters, {reason}" == budget.refusal(TINY)
    assert budget.excess(TINY) == int(reason.split()[0])


def test_embeddings_count_unless_told_otherwise():
    total, bare = Budget(max_parameters=1), Budget(max_parameters=1, counting="non_embedding")
    assert total.count(TINY) - bare.count(TINY) == TINY.vocab_size * TINY.hidden_size


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1)])
def test_a_window_that_no_number_lies_in_is_refused(low, high):
    with pytest.raises(InvalidSpec, match=r"budget\.min_parameters: found"):
        Budget(min_parameters=low, max_parameters=high)
