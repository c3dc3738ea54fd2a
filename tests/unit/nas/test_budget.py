"""A budget is windows of parameters, memory and work, both ends of each included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.parents import parent_architecture
from nas import wording
from nas.budget import Budget, MemoryBudget, WorkBudget
from nas.errors import InvalidSpec
from nas.spec import dump, load
from tests.strategies import architectures

TINY = parent_architecture("builtin:tiny")


@given(architectures(), st.integers(0, 40_000), st.integers(0, 40_000))
def test_a_refusal_an_excess_and_the_window_agree(architecture, low, width):
    budget = Budget(min_parameters=low, max_parameters=low + width)
    is_inside = low <= architecture.parameter_count <= low + width
    assert budget.admits(architecture) is is_inside
    assert (budget.refusal(architecture) is None) is is_inside
    assert (budget.limits[0].excess(architecture) <= 0) is is_inside


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
    assert budget.limits[0].excess(TINY) == int(reason.split()[0])


def test_embeddings_count_unless_told_otherwise():
    total, bare = Budget(max_parameters=1), Budget(max_parameters=1, counting="non_embedding")
    assert total.count(TINY) - bare.count(TINY) == TINY.vocab_size * TINY.hidden_size


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1)])
def test_a_window_that_no_number_lies_in_is_refused(low, high):
    with pytest.raises(InvalidSpec, match=r"budget\.min_parameters: found"):
        Budget(min_parameters=low, max_parameters=high)


# Memory and work

MEMORY = MemoryBudget(max_bytes=2_000_000, batch=2, context=64)
WORK = WorkBudget(max_flops=1_000_000, min_flops=10, context=64)


def test_memory_is_that_of_weights_and_cache_and_work_that_of_a_token():
    """By the definition: two bytes for each weight, and for each key and value of each layer and token."""
    cache = 2 * TINY.num_layers * TINY.num_key_value_heads * TINY.head_dim * 64 * 2
    costs = Budget(memory=MEMORY, work=WORK).costs(TINY)
    assert costs == {
        "memory_bytes": 2 * (TINY.parameter_count + cache),
        "flops_per_token": TINY.flops_per_token(context=64),
    }
    assert Budget(max_parameters=1).costs(TINY) == {}


def test_a_student_must_lie_in_every_window_and_is_told_of_each_that_it_does_not():
    budget = Budget(min_parameters=10**9, memory=MEMORY, work=WORK)
    memory, work = budget.costs(TINY).values()
    assert not budget.admits(TINY)
    assert budget.refusal(TINY) == (
        f"{TINY.parameter_count:,} total parameters, {10**9 - TINY.parameter_count:,} below min_parameters; "
        f"{memory:,} bytes of weights and cache, {memory - 2_000_000:,} above memory.max_bytes; "
        f"{work:,} operations a token, {work - 1_000_000:,} above work.max_flops"
    )
    assert Budget(memory=MemoryBudget(max_bytes=memory, min_bytes=memory, batch=2, context=64)).admits(TINY)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (Budget, "budget.max_parameters"),
        (lambda: Budget(min_parameters=3), "budget.max_parameters"),
        (lambda: Budget(min_parameters=-1, memory=MEMORY), "budget.min_parameters"),
        (lambda: MemoryBudget(max_bytes=-1, context=1), "budget.memory.max_bytes"),
        (lambda: MemoryBudget(max_bytes=1, min_bytes=2, context=1), "budget.memory.min_bytes"),
        (lambda: MemoryBudget(max_bytes=1, context=0), "budget.memory.context"),
        (lambda: MemoryBudget(max_bytes=1, context=1, batch=2**31), "budget.memory.batch"),
        (lambda: WorkBudget(max_flops=1, min_flops=2, context=1), "budget.work.min_flops"),
        (lambda: WorkBudget(max_flops=1, context=0), "budget.work.context"),
    ],
)
def test_what_bounds_nothing_or_cannot_be_met_is_refused(make, field):
    with pytest.raises(InvalidSpec) as caught:
        make()
    assert [name for name, _ in caught.value.problems] == [field]


def test_a_budget_that_was_stored_before_memory_and_work_is_what_it_was():
    stored = {"max_parameters": 640_000, "min_parameters": 520_000, "counting": "total"}
    assert load(Budget, stored) == Budget(max_parameters=640_000, min_parameters=520_000)
    assert load(Budget, dump(Budget(memory=MEMORY, work=WORK))) == Budget(memory=MEMORY, work=WORK)


def test_a_budget_reads_as_people_say_it():
    mixed = Budget(max_parameters=640_000, memory=MEMORY, work=WORK)
    assert wording.budget(mixed) == (
        "at most 640 k parameters, at most 2 MB of weights and cache (bfloat16, batch 2, context 64), "
        "10 FLOP to 1 MFLOP a token (context 64)"
    )
    assert wording.budget(Budget(min_parameters=10, work=WORK)).startswith("at least 10 parameters, 10 FLOP")
    assert wording.costs(mixed, TINY) == [("weights and cache", "2.23 MB"), ("work a token", "2.13 MFLOP")]
