"""Use cases of searches under way, as REST, page and command line call them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.axes import AXIS_NAMES
from nas.budget import Budget, LatencyBudget, MemoryBudget
from nas.control import parse_limits, parse_sizes, read_order
from nas.enqueue import asked_architecture
from nas.errors import Conflict, InvalidOrder, NotFound
from nas.orders import Extend
from nas.sampling import Objective
from nas.search import SearchState
from nas.service import SearchService
from nas.space import SearchSpace, search_space
from nas.storage.memory import InMemoryStore
from nas.waiting import Capacity, WaitingKind
from tests.fakes import ManualClock, small_spec
from tests.latencies import table_of

SPEC = small_spec()
SPACE = search_space(SPEC)


def sizes_of(architecture):
    return {name: getattr(architecture, name) for name in AXIS_NAMES}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(clock):
    return InMemoryStore(clock)


@pytest.fixture
def service(tmp_path, clock, store):
    capacity = Capacity(max_searches=1)
    return SearchService(store, artifact_root=tmp_path, clock=clock, capacity=capacity)


@given(st.sampled_from(SPACE.architectures))
def test_every_architecture_is_found_by_its_sizes(architecture):
    sizes = sizes_of(architecture)
    assert asked_architecture(SPACE, sizes) == architecture
    searched = {name: size for name, size in sizes.items() if getattr(SPEC.axes, name) is not None}
    assert asked_architecture(SPACE, searched) == architecture


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "num_layers": st.integers(1, 9),
            "hidden_size": st.integers(1, 300),
            "intermediate_size": st.integers(1, 500),
            "num_attention_heads": st.integers(1, 20),
            "num_key_value_heads": st.integers(1, 8),
        },
    ).filter(bool)
)
def test_any_sizes_give_the_one_that_has_them_or_say_what_is_wrong(sizes):
    matching = [each for each in SPACE.architectures if sizes.items() <= sizes_of(each).items()]
    if len(matching) == 1:
        assert asked_architecture(SPACE, sizes) == matching[0]
        return
    with pytest.raises(InvalidOrder) as caught:
        asked_architecture(SPACE, sizes)
    assert {field for field, _ in caught.value.problems} <= {*AXIS_NAMES, "budget", "architecture"}
    assert all("allowed: " in reason for _, reason in caught.value.problems)
    assert matching or "; the nearest that fits: " in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_layers": 7},
            "num_layers: found 7, allowed: 4, 5, 6; the nearest that fits: num_layers 6, hidden_size",
        ),
        (
            {"num_key_value_heads": 2},
            "num_key_value_heads: found 2, allowed: 4; the nearest that fits: num_layers",
        ),
        (
            {"hidden_size": 81, "num_attention_heads": 3},
            "num_attention_heads: found 3, allowed: 4, 8; the nearest",
        ),
        (
            {"num_layers": 6, "hidden_size": 128, "intermediate_size": 256},
            r"budget: found 919,168 total parameters, allowed: 520,000 to 640,000; the nearest that fits: ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field_and_the_nearest(changes, message):
    with pytest.raises(InvalidOrder, match=message):
        asked_architecture(SPACE, sizes_of(SPACE.smallest) | changes)


def test_what_costs_too_much_memory_is_told_so():
    memory = MemoryBudget(max_bytes=1_200_000, context=8)
    space = SearchSpace(SPACE.parent, SPACE.axes, Budget(memory=memory))
    with pytest.raises(
        InvalidOrder, match="found 2,047,232 bytes of weights and cache, allowed: 0 to 1,200,000;"
    ):
        asked_architecture(
            space, {"num_layers": 6, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 8}
        )


def test_an_axis_that_is_left_out_is_named_with_its_choices():
    with pytest.raises(InvalidOrder) as caught:
        asked_architecture(SPACE, {"num_layers": 5, "num_attention_heads": 4})
    assert dict(caught.value.problems)["hidden_size"] == "missing, allowed: 80, 88, 96, 104, 112, 120, 128"
    assert "num_layers" not in dict(caught.value.problems)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "architecture: found nothing, allowed: a mapping of any of num_layers"),
        ([1], r"architecture: found \[1\], allowed: a mapping"),
        ({"layers": 3}, "layers: unknown, allowed: num_layers, hidden_size"),
        (
            {"num_layers": True, "hidden_size": "8"},
            'num_layers: found true, .*; hidden_size: found "8", allowed: a whole',
        ),
        ({"num_layers": 0}, "num_layers: found 0, allowed: a whole number above 0"),
        ({"num_layers": 1e300}, "num_layers: found 1e"),
        ({"num_layers": float("nan")}, "num_layers: found NaN"),
    ],
)
def test_sizes_that_are_none_are_refused(data, message):
    with pytest.raises(InvalidOrder, match=message):
        parse_sizes(data)


def test_limits_are_read_and_everything_else_points_to_a_clone():
    assert parse_limits({"num_trials": 3e1}) == Extend(num_trials=30)
    with pytest.raises(
        InvalidOrder, match=r"training: cannot be changed: .* nas clone ID --set training=VALUE"
    ):
        parse_limits({"num_trials": 3, "training": {"num_tokens": 10}})
    with pytest.raises(InvalidOrder, match="body: "):
        read_order("{")


def test_a_search_is_controlled_by_its_id_and_each_order_is_told(service):
    search = service.create(SPEC)
    control = service.control
    assert control.pause(search.id, by="ann").state is SearchState.PAUSED
    assert control.resume(search.id, by="bob").state is SearchState.QUEUED
    assert control.extend(search.id, Extend(num_trials=9), by="ann").spec_by_now.num_trials == 9
    wanted = SPACE.largest
    assert control.enqueue(search.id, sizes_of(wanted)).orders.enqueued[0].architecture == wanted
    assert control.kill(search.id, by="ann").state is SearchState.CANCELLED
    orders = [event.data for event in service.events(search_id=search.id) if event.kind == "order"]
    assert [(order["order"], order["by"]) for order in orders] == [
        ("pause", "ann"), ("resume", "bob"), ("extend", "ann"), ("enqueue", ""), ("kill", "ann"),
    ]  # fmt: skip


def test_no_architecture_is_enqueued_before_it_is_known_which_are_fast_enough(service, store, clock):
    """One that was slower than the budget allows would be trained all the same, and samplers know no such one."""
    latency = LatencyBudget(max_ms=0.2, context=64, dtype="float32")
    search = service.create(replace(SPEC, budget=replace(SPEC.budget, latency=latency)))
    with pytest.raises(Conflict, match=r"is QUEUED .*budget\.latency .*allowed: from when it is RUNNING"):
        service.control.enqueue(search.id, sizes_of(SPACE.smallest))
    assert store.get_search(search.id).orders == search.orders
    lease = store.claim(search.id, "runner", at=clock(), until=clock() + timedelta(hours=1))
    store.save_search(replace(search, latencies=table_of(search.spec)), lease)
    found = search_space(store.get_search(search.id).measured_spec)
    slow = next(each for each in SPACE.architectures if each not in found)
    with pytest.raises(InvalidOrder, match="the nearest that fits"):
        service.control.enqueue(search.id, sizes_of(slow))
    assert service.control.enqueue(search.id, sizes_of(found.largest)).orders.enqueued


def test_a_latency_that_bounds_nothing_leaves_every_architecture_to_be_enqueued(service):
    timed = replace(SPEC.budget, latency=LatencyBudget(context=64, dtype="float32"))
    search = service.create(
        replace(SPEC, budget=timed, sampler="nsga2", prior="none", objective=Objective(cost="latency"))
    )
    assert service.control.enqueue(search.id, sizes_of(SPACE.smallest)).orders.enqueued


def test_what_is_not_there_or_not_possible_is_refused(service):
    control = service.control
    for act in (control.pause, control.resume, control.kill, control.cancel):
        with pytest.raises(NotFound):
            act("nope")
    search = service.create(SPEC)
    with pytest.raises(NotFound, match="trial 0: not found"):
        control.stop_trial(search.id, 0)
    control.kill(search.id)
    with pytest.raises(Conflict):
        control.pause(search.id)


def test_views_say_why_searches_wait(service, store, clock):
    first, second = service.create(SPEC), service.create(replace(SPEC, name="second"))
    service.control.pause(first.id)
    listed = {view.search.id: view.waiting for view in service.list_views()}
    assert listed[first.id].kind is WaitingKind.PAUSED
    assert (listed[second.id].kind, listed[second.id].position) == (WaitingKind.QUEUE, 1)
    assert service.get(second.id).waiting == listed[second.id]
    now = clock()
    lease = store.claim(second.id, "runner", at=now, until=now + timedelta(seconds=30))
    store.save_search(second.moved(SearchState.PREPARING, now), lease)
    assert service.get(second.id).waiting is None
    clock.advance(30)
    assert service.get(second.id).waiting.kind is WaitingKind.RUNNER
    service.control.kill(second.id)
    assert service.get(second.id).waiting is None
