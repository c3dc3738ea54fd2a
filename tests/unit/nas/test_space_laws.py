"""What a space answers without listing its architectures is what going through all of them would give."""

import time
from collections import Counter
from dataclasses import asdict, replace
from itertools import product
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture
from minitron.families import family_named, read_architecture, resized
from minitron.heads import check_heads
from minitron.recipe import PruningRecipe
from nas.axes import AXIS_NAMES, Axes, Multiples, Range
from nas.budget import Budget, LatencyBudget, MemoryBudget, Span, WorkBudget
from nas.errors import EmptySpace, InvalidSpec
from nas.latency_costs import latency_of
from nas.space import SearchSpace
from tests.parity.configs import CONFIGS
from tests.strategies import architectures, latency_tables


def choices(size):
    listed = st.lists(st.integers(1, size), min_size=1, max_size=4).map(tuple)
    ends = st.tuples(st.integers(1, size), st.integers(1, size))
    return listed | st.builds(
        lambda ends, step: Range(start=min(ends), stop=max(ends), step=step), ends, st.integers(1, 3)
    )


MULTIPLES = st.lists(st.sampled_from((0.3, 0.5, 1.0, 1.01)), min_size=1).map(
    lambda found: Multiples(of_hidden=tuple(found))
)


@st.composite
def windows(draw, most):
    """Both ends of a window somewhere below ``most``, or only its lower end."""
    low = draw(st.integers(0, most))
    return low, draw(st.none() | st.integers(low, most))


@st.composite
def latency_budgets(draw, parent):
    """A window somewhere around what a drawn table says of the parent, in whole nanoseconds."""
    table = draw(latency_tables(parent))
    whole = latency_of(table, parent)
    most = draw(st.integers(whole // 2 + 1, 2 * whole))
    least = draw(st.sampled_from((0, most // 4, most)))
    return LatencyBudget(max_ms=most / 1e6, min_ms=least / 1e6, table=table, **asdict(table.setting))


@st.composite
def budgets(draw, parent):
    """Any mixture of costs, each bounded somewhere up to what the parent costs."""
    memory, work = draw(st.booleans()), draw(st.booleans())
    batch, context, dtype = (
        draw(st.integers(1, 8)),
        draw(st.integers(1, 64)),
        draw(st.sampled_from(("float32", "float16"))),
    )
    cache = parent.kv_cache_bytes(batch=batch, context=context, dtype=dtype)
    least_bytes, most_bytes = draw(windows(parent.weight_bytes(dtype) + cache))
    least_flops, most_flops = draw(windows(parent.flops_per_token(context=context)))
    low, high = draw(windows(parent.parameter_count))
    latency = draw(st.none() | latency_budgets(parent))
    if high is None and not (memory or work or latency):
        high = parent.parameter_count
    return Budget(
        min_parameters=low,
        max_parameters=high,
        counting=draw(st.sampled_from(("total", "non_embedding"))),
        memory=MemoryBudget(
            min_bytes=least_bytes, max_bytes=most_bytes or 10**9, batch=batch, context=context, dtype=dtype
        )
        if memory
        else None,
        work=WorkBudget(min_flops=least_flops, max_flops=most_flops or 10**9, context=context)
        if work
        else None,
        latency=latency,
    )


@st.composite
def spaces(draw):
    """Any space around a small parent of any family that is not empty."""
    parent = draw(architectures())
    axes = {name: draw(st.none() | choices(getattr(parent, name))) for name in AXIS_NAMES}
    if draw(st.booleans()):
        axes["intermediate_size"] = draw(MULTIPLES)
    try:
        return SearchSpace(parent, Axes(**axes), draw(budgets(parent)))
    except InvalidSpec:
        assume(False)


def sizes_of(architecture):
    return {name: getattr(architecture, name) for name in AXIS_NAMES}


@given(spaces())
def test_rows_places_and_ordinals_agree(space):
    """And are in order; what is no row is not in the space."""
    found = space.architectures
    assert list(found) == sorted(set(found), key=lambda each: tuple(sizes_of(each).values()))
    ordinals = [space.ordinals(each) for each in found]
    for name, num in space.num_ordinals.items():
        assert {each[name] for each in ordinals} == set(range(num))
        assert space.choices(name) == tuple(sorted({getattr(each, name) for each in found}))
    for row, architecture in enumerate(found):
        assert space.at(row - len(space)) == architecture
        assert space.rows_with(sizes_of(architecture)).tolist() == [row]
    with pytest.raises(IndexError):
        space.at(len(space))


@given(spaces())
def test_the_largest_come_first_and_equals_in_order(space):
    """By the first cost that is bounded from above, which need not be parameters."""
    limit = next(limit for limit in space.budget.limits if limit.most is not None)
    by_cost = sorted(space.architectures, key=lambda each: -limit.measure(each))
    assert list(space.largest_first()) == by_cost


@given(spaces())
def test_the_largest_and_the_smallest_are_told_by_parameters(space):
    assert space.largest == max(space.architectures, key=space.budget.count)
    assert space.smallest == min(space.architectures, key=space.budget.count)


@given(spaces(), st.data())
def test_rows_with_sizes_are_those_that_have_them(space, data):
    like = data.draw(st.sampled_from(space.architectures))
    names = data.draw(st.lists(st.sampled_from(AXIS_NAMES), unique=True))
    sizes = {name: data.draw(st.just(getattr(like, name)) | st.integers(0, 20)) for name in names}
    assert space.rows_with(sizes).tolist() == [
        row for row, each in enumerate(space.architectures) if sizes.items() <= sizes_of(each).items()
    ]


@given(spaces(), st.data())
def test_the_nearest_to_sizes_is_the_first_of_the_nearest(space, data):
    names = data.draw(st.lists(st.sampled_from(AXIS_NAMES), unique=True))
    wish = {name: data.draw(st.integers(0, 40)) for name in names}
    spans = {name: max(space.choices(name)[-1] - space.choices(name)[0], 1) for name in names}

    def distance(architecture):
        return sum(((getattr(architecture, name) - float(wish[name])) / spans[name]) ** 2 for name in names)

    assert space.nearest_to(wish) == min(space.architectures, key=distance)


@given(spaces(), st.data())
def test_the_nearest_to_a_wish_is_the_first_of_the_nearest_that_are_left(space, data):
    """Whole wishes and halves, between two choices, beyond them too; axes count as equally long."""
    halves = st.integers(-2, 12).map(lambda n: n / 2)
    wish = {name: data.draw(halves) for name in data.draw(st.lists(st.sampled_from(AXIS_NAMES)))}
    excluded = set(data.draw(st.lists(st.sampled_from(space.architectures), max_size=30)))

    def distance(architecture):
        there = space.ordinals(architecture)
        return sum(
            ((there[name] - wish.get(name, 0)) / max(num - 1, 1)) ** 2
            for name, num in space.num_ordinals.items()
        )

    left = [each for each in space.architectures if each not in excluded]
    assert space.nearest(wish, excluded) == min(left, key=distance, default=None)


@given(spaces(), st.data())
def test_draws_are_of_what_is_left_each_as_likely(space, data):
    """The same number drawn from a list of what is left."""
    excluded = set(data.draw(st.lists(st.sampled_from(space.architectures), max_size=30)))
    left = [each for each in space.architectures if each not in excluded]
    seed = data.draw(st.integers(0, 9))
    found = space.draw(Random(seed), excluded)
    assert found == (left[Random(seed).randrange(len(left))] if left else None)


def refusal(parent, budget, sizes):
    """The reason against one combination, looked at alone; None where it is feasible."""
    neurons = sizes.pop("intermediate_size", parent.intermediate_size)
    try:
        width = resized(parent, sizes)
        family_named(parent.family).check(width)
        check_heads(parent, width, PruningRecipe())
        if neurons > parent.intermediate_size:
            return "intermediate_size above the parent's"
        shape = replace(width, intermediate_size=neurons)
    except InvalidArchitecture as error:
        return f"{error.field}, {error.reason.partition(', ')[2]}"
    refusals = (limit.refusal(shape) for limit in budget.limits)
    first = next((each for each in refusals if each), None)
    return first and " ".join(first.split()[-2:])


@given(architectures(), st.data())
def test_every_combination_is_feasible_or_refused_for_its_reason(parent, data):
    names = data.draw(st.lists(st.sampled_from(AXIS_NAMES), unique=True).map(sorted))
    axes = Axes(**{name: data.draw(choices(getattr(parent, name))) for name in names})
    budget = data.draw(budgets(parent))
    sizes = (axes.sizes(name, parent, hidden_size=0) for name in names)
    reasons = Counter(
        refusal(parent, budget, dict(zip(names, each, strict=True))) for each in product(*sizes)
    )
    feasible = reasons.pop(None, 0)
    try:
        space = SearchSpace(parent, axes, budget)
    except EmptySpace:
        assert feasible == 0
        return
    assert space.reasons == reasons
    assert len(space) == feasible


def missed(budget, architecture):
    """By how much an architecture misses a budget, relative to its limits."""
    return sum(
        max(limit.excess(architecture), 0) / max(limit.most or limit.least, 1) for limit in budget.limits
    )


@given(architectures(), st.data())
def test_an_impossible_budget_names_the_nearest_architecture_and_what_it_costs(parent, data):
    axes = Axes(**{name: data.draw(st.none() | choices(getattr(parent, name))) for name in AXIS_NAMES})
    budget = data.draw(budgets(parent))
    try:
        legal = SearchSpace(parent, axes, Budget(max_parameters=2**40)).architectures
        SearchSpace(parent, axes, budget)
        assume(False)
    except EmptySpace as error:
        ((field, reason),) = error.problems
        assume(field == "budget")
    named = next(each for each in legal if f"the nearest is {each.name} with" in reason)
    assert missed(budget, named) == pytest.approx(min(missed(budget, each) for each in legal), rel=1e-12)
    for limit in budget.limits:
        assert f"{limit.number(limit.measure(named))} {limit.unit}" in reason.partition("the nearest is")[2]
        costs = [limit.measure(each) for each in legal]
        assert f"from {limit.number(min(costs))} to {limit.number(max(costs))} {limit.unit}" in reason


@given(spaces())
def test_spans_are_those_of_all_architectures(space):
    for limit in space.budget.limits:
        costs = [limit.measure(each) for each in space.architectures]
        assert space.spans[limit.name] == Span(least=min(costs), most=max(costs))
    assert set(space.budget.costs(space.smallest)) == set(space.spans) - {"parameters"}


# Spaces that cannot be listed

LLAMA = read_architecture(CONFIGS["Llama-3.1-8B"])
VAST = Axes(
    num_layers=Range(start=16, stop=32),
    hidden_size=Range(start=2048, stop=4096, step=32),
    intermediate_size=Range(start=4096, stop=14336, step=2),
    num_attention_heads=(8, 16, 24, 32),
)


def test_tens_of_millions_of_combinations_are_counted_at_once():
    """Exactly: the sum over depths and widths, each counted on its own; seconds are for slow machines."""
    started = time.perf_counter()
    space = SearchSpace(LLAMA, VAST, Budget(min_parameters=4 * 10**9, max_parameters=45 * 10**8))
    assert time.perf_counter() - started < 5
    assert space.num_combinations == 17 * 65 * 5121 * 4 == len(space) + sum(space.reasons.values())
    assert len(space) > 10**5
    some = [space.at(row) for row in range(0, len(space), len(space) // 50)]
    assert len(set(some)) == len(some)
    assert all(space.budget.admits(each) and each in space for each in some)
    assert space.budget.count(space.smallest) >= 4 * 10**9
    assert space.nearest(space.ordinals(some[7]), some[:7]) == some[7]


def test_draws_from_a_vast_space_are_even():
    """Over its depths, in proportion to how many architectures each has."""
    space = SearchSpace(LLAMA, VAST, Budget(max_parameters=45 * 10**8))
    random = Random(0)
    drawn = Counter(space.draw(random).num_layers for _ in range(2000))
    for layers in space.choices("num_layers"):
        share = len(space.rows_with({"num_layers": layers})) / len(space)
        assert abs(drawn[layers] / 2000 - share) < 0.04


def test_sizes_that_no_number_of_64_bits_holds_are_refused():
    vast = {"num_layers": 2**31 - 1, "hidden_size": 2**31 - 1, "intermediate_size": 2**31 - 1}
    parent = replace(LLAMA, **vast)
    assert isinstance(parent, Architecture)
    with pytest.raises(InvalidSpec, match="parent: found sizes that cost"):
        SearchSpace(parent, Axes(), Budget(max_parameters=2**62))


def test_bounds_that_no_number_of_64_bits_holds_are_bounds():
    axes = Axes(num_layers=(16, 32))
    assert len(SearchSpace(LLAMA, axes, Budget(max_parameters=2**63))) == 2
    with pytest.raises(EmptySpace, match="the nearest is L32-"):
        SearchSpace(LLAMA, axes, Budget(min_parameters=2**63, max_parameters=2**63))


@pytest.mark.parametrize(
    ("axes", "found"),
    [
        (Axes(hidden_size=Range(start=1, stop=4096), num_layers=Range(start=1, stop=32),
              num_attention_heads=Range(start=1, stop=32)), "4,194,304 combinations of all axes but"),
        (Axes(hidden_size=Range(start=1, stop=4096), num_layers=Range(start=1, stop=32),
              intermediate_size=Range(start=1, stop=14336)), "1,879,048,192 combinations, allowed"),
    ],
)  # fmt: skip
def test_spaces_of_too_many_groups_are_refused_at_once(axes, found):
    with pytest.raises(InvalidSpec, match=found):
        SearchSpace(LLAMA, axes, Budget(max_parameters=10**12))
