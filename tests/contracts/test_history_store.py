"""What every HistoryStore guarantees: each final trial is listed once, and pages hold what is asked for."""

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.edits import Edit
from nas.errors import LostLease, NotFound
from nas.history import (
    Between,
    Entry,
    HistoryFilter,
    HistoryOrder,
    keys_of,
    measured,
    sum_of,
    summaries,
)
from nas.listing import SearchFilter
from nas.search import Artifacts, SearchState
from nas.trial import Failure, FailureKind, TrialRole, TrialState
from tests.searches import MEASUREMENT, after, make_point, make_search, make_spec, make_trial

MADE_FROM = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
FAILURE = Failure(kind=FailureKind.ERROR, message="it broke")
by_law = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def held(store, search_id="search-1", **changes):
    """Add a search and return the right to write it."""
    store.add_search(make_search(search_id, **changes))
    return store.claim(search_id, "runner", at=after(0), until=after(60))


def complete(store, lease, number=0, *, loss=2.25, parameters=640_000, at=2.0, **changes):
    """Store a trial that completes."""
    trial = make_trial(number, search_id=lease.search_id, **changes)
    found = replace(MEASUREMENT, loss=loss, num_parameters=parameters)
    done = trial.started(after(1)).completed(found, "student", after(at))
    store.save_trial(done, lease)
    return done


def shape(trial_number=0, **changes):
    return replace(make_trial(trial_number).architecture, **changes)


def places(entries):
    return [entry.measured.place for entry in entries]


def everything(store, which=None, order=HistoryOrder.NEWEST, size=2):
    """Read a list to its end, a page at a time."""
    which, seen, last = which or HistoryFilter(), [], None
    while page := store.history.measurements(which, order=order, after=last, limit=size):
        assert len(page) <= size
        seen += page
        last = page[-1].measured.place
    return seen


# What is listed


def test_a_completed_trial_is_listed_with_its_keys(store):
    lease = held(store, made_from=MADE_FROM, parent_loss=1.5, owner="Ann", tags=("a",))
    done = complete(store, lease)
    keys = keys_of(make_spec(), MADE_FROM)
    (entry,) = store.history.measurements()
    assert entry == Entry.of(measured(make_spec(), MADE_FROM, done, ()), store.get_search("search-1"))
    found = entry.measured
    assert (found.parent_key, found.data_key, found.recipe_key, found.reuse_key) == (
        keys.parent, keys.data, keys.recipe, keys.reuse,
    )  # fmt: skip
    assert found.is_reusable
    assert not found.is_partial
    assert (found.loss, found.loss_before, found.num_tokens) == (2.25, 4.0, 1000)
    assert (entry.owner, entry.tags, entry.parent_loss) == ("Ann", ("a",), 1.5)


def test_what_is_not_final_is_not_listed_yet(store):
    lease = held(store)
    store.save_trial(make_trial().started(after(1)), lease)
    store.add_point(make_point(0, 500), lease)
    assert store.history.measurements() == []
    assert store.history.parents() == []


ENDS = {
    TrialState.STOPPED: lambda trial: trial.started(after(1)).saved("state").parked().stopped(after(2)),
    TrialState.FAILED: lambda trial: trial.started(after(1)).failed(FAILURE, after(2)),
    TrialState.CANCELLED: lambda trial: trial.started(after(1)).cancelled(after(2)),
}


@pytest.mark.parametrize("state", ENDS)
def test_a_trial_that_ended_early_is_listed_as_partial_with_its_last_point(store, state):
    lease = held(store, made_from=MADE_FROM)
    store.save_trial(make_trial().started(after(1)), lease)
    for tokens, loss in ((0, 5.0), (250, 3.0), (500, 2.5)):
        store.add_point(make_point(0, tokens, loss, seconds=tokens / 100), lease)
    store.add_point(make_point(0, 0, 9.0), lease)
    store.save_trial(ENDS[state](make_trial()), lease)
    (entry,) = store.history.measurements()
    found = entry.measured
    assert (found.state, found.is_partial, found.is_reusable) == (state, True, False)
    assert (found.num_tokens, found.loss, found.loss_before, found.train_seconds) == (500, 2.5, 5.0, 7.5)


@pytest.mark.parametrize("state", ENDS)
def test_a_trial_that_was_never_trained_is_not_listed(store, state):
    lease = held(store)
    store.save_trial(make_trial().started(after(1)), lease)
    store.add_point(make_point(0, 0), lease)
    store.save_trial(ENDS[state](make_trial()), lease)
    assert store.history.measurements() == []
    assert store.history.parents() == []


def test_saving_a_final_trial_again_lists_it_once(store):
    lease = held(store)
    done = complete(store, lease)
    store.save_trial(done, lease)
    assert len(store.history.measurements()) == 1
    (parent,) = store.history.parents()
    assert parent.num_measurements == 1


def test_a_runner_that_was_replaced_lists_nothing(store):
    lease = held(store)
    store.claim("search-1", "other", at=after(61), until=after(99))
    with pytest.raises(LostLease):
        complete(store, lease)
    assert store.history.measurements() == []


def test_what_is_said_of_a_search_later_is_seen_in_the_list(store):
    complete(store, held(store))
    store.edit_search("search-1", Edit(owner="Bo", tags=("z",)))
    (entry,) = store.history.measurements()
    assert (entry.owner, entry.tags) == ("Bo", ("z",))


# Lists


OTHER = make_spec(name="other", parent="/models/other")
FILTERS = {
    "everything": (HistoryFilter(), "abcd"),
    "parent": (HistoryFilter(parent_key=keys_of(OTHER, None).parent), "cd"),
    "data": (HistoryFilter(data_key=keys_of(OTHER, None).data), "cd"),
    "recipe": (HistoryFilter(recipe_key=keys_of(OTHER, None).recipe), "abcd"),
    "reuse": (HistoryFilter(reuse_key=keys_of(make_spec(), MADE_FROM).reuse), "a"),
    "search": (HistoryFilter(search_id="s1"), "cd"),
    "architecture": (HistoryFilter(architecture=shape(num_layers=5).name), "bc"),
    "no such architecture": (HistoryFilter(architecture="L5"), ""),
    "axis": (HistoryFilter(axes=(("num_layers", Between(least=5)),)), "bc"),
    "axes": (
        HistoryFilter(axes=(("num_layers", Between(most=5)), ("hidden_size", Between(least=100, most=110)))),
        "d",
    ),
    "size": (HistoryFilter(min_parameters=600_000, max_parameters=650_000), "ac"),
    "loss": (HistoryFilter(max_loss=2.0), "cd"),
    "time": (HistoryFilter(after=after(3), before=after(5)), "bc"),
    "whole": (HistoryFilter(partial=False), "acd"),
    "partial": (HistoryFilter(partial=True), "b"),
    "owner": (HistoryFilter(searches=SearchFilter(owner="Ann")), "ab"),
    "tag": (HistoryFilter(searches=SearchFilter(tags=("a", "b"))), "cd"),
    "not archived": (HistoryFilter(searches=SearchFilter(archived=False)), "ab"),
    "name": (HistoryFilter(searches=SearchFilter(text="OTH")), "cd"),
    "name of a parent": (HistoryFilter(searches=SearchFilter(parent="models")), "cd"),
    "both": (HistoryFilter(searches=SearchFilter(owner="Ann"), min_parameters=650_000), ""),
}


@pytest.mark.parametrize(("which", "expected"), FILTERS.values(), ids=FILTERS)
def test_lists_hold_what_is_asked_for(store, which, expected):
    first = held(store, "s0", owner="Ann", tags=("a",), made_from=MADE_FROM)
    complete(store, first, 0, loss=2.5, parameters=640_000, at=2)
    partial = make_trial(1, search_id="s0", architecture=shape(num_layers=5)).started(after(1))
    store.save_trial(partial, first)
    store.add_point(make_point(1, 500, 3.0), first)
    store.save_trial(partial.saved("state").parked().stopped(after(3)), first)
    second = held(store, "s1", spec=OTHER, tags=("a", "b"), archived=True)
    complete(store, second, 0, loss=1.5, parameters=600_000, at=4, architecture=shape(num_layers=5))
    complete(store, second, 1, loss=2.0, parameters=700_000, at=5, architecture=shape(hidden_size=104))
    by_name = {"a": ("s0", 0), "b": ("s0", 1), "c": ("s1", 0), "d": ("s1", 1)}
    listed = store.history.measurements(which, order=HistoryOrder.OLDEST)
    assert places(listed) == [by_name[name] for name in expected]
    assert places(store.history.measurements(which)) == [by_name[name] for name in expected[::-1]]


@pytest.mark.parametrize("order", HistoryOrder)
def test_lists_are_ordered_and_equal_ones_follow_by_search_and_trial(store, order):
    for number in range(3):
        lease = held(store, f"s{number}")
        for trial in range(3):
            value = (number + trial) % 2
            complete(store, lease, trial, loss=1.0 + value, parameters=10 - value, at=value)
    listed = store.history.measurements(order=order)
    expected = sorted(listed, key=lambda entry: order.key(entry.measured), reverse=order.is_descending)
    assert listed == expected
    assert len(listed) == 9
    assert everything(store, order=order) == expected


def test_a_page_after_what_was_never_measured_is_not_found(store):
    complete(store, held(store))
    for place in (("search-1", 7), ("none", 0)):
        with pytest.raises(NotFound, match=f"search {place[0]}: trial {place[1]}: no measurement"):
            store.history.measurements(after=place)


trials = st.tuples(
    st.integers(0, 2),
    st.sampled_from([1.0, 1.5, 2.0]),
    st.sampled_from([100, 200]),
    st.integers(0, 2),
    st.sampled_from([3, 4]),
)
filters = st.builds(
    HistoryFilter,
    searches=st.builds(SearchFilter, owner=st.none() | st.sampled_from(["Ann", "Bo"])),
    axes=st.just(()) | st.just((("num_layers", Between(least=4)),)),
    min_parameters=st.none() | st.sampled_from([150]),
    max_loss=st.none() | st.sampled_from([1.5]),
    after=st.none() | st.integers(0, 2).map(after),
    before=st.none() | st.integers(0, 2).map(after),
    partial=st.none() | st.booleans(),
)


@by_law
@given(
    measured_trials=st.lists(trials, max_size=10),
    asked=st.lists(filters, min_size=1, max_size=3),
    size=st.integers(1, 3),
)
def test_pages_of_any_list_hold_each_measurement_once(store, measured_trials, asked, size):
    """Against the filter and the order as the domain has them, while more is measured."""
    namespace, leases, model = uuid4().hex, [], []
    spec = make_spec(parent=namespace)
    for number in range(3):
        owner = ("Ann", "Bo", "Ann")[number]
        leases.append(held(store, f"{namespace}-{number}", spec=spec, owner=owner))
    for number, (search, loss, parameters, at, layers) in enumerate(measured_trials):
        done = complete(
            store, leases[search], number,
            loss=loss, parameters=parameters, at=at, architecture=shape(num_layers=layers),
        )  # fmt: skip
        model.append(measured(spec, None, done, ()))
    for which in asked:
        here = replace(which, parent_key=keys_of(spec, None).parent)
        for order in HistoryOrder:
            expected = sorted(
                (each for each in model if which.admits(each, store.get_search(each.search_id))),
                key=order.key,
                reverse=order.is_descending,
            )
            assert [entry.measured for entry in everything(store, here, order, size)] == expected
    sums = {}
    for each in model:
        sums[each.search_id] = sums.get(each.search_id, sum_of(each)).plus(each)
    assert store.history.parents(SearchFilter(parent=namespace)) == summaries(list(sums.values()))


# Parents


def test_parents_are_added_up_over_the_searches_asked_for(store):
    first = held(store, "s0", owner="Ann")
    complete(store, first, 0, loss=2.5, at=2)
    complete(store, first, 1, loss=2.25, at=3)
    complete(store, held(store, "s1", owner="Bo", archived=True), 0, loss=2.0, at=9)
    other = held(store, "s2", spec=OTHER, owner="Bo")
    trial = make_trial(0, search_id="s2").started(after(1))
    store.save_trial(trial, other)
    store.add_point(make_point(0, 500, 1.0), other)
    store.save_trial(trial.cancelled(after(5)), other)
    mine, theirs = store.history.parents()
    assert (mine.parent, mine.num_searches, mine.num_measurements, mine.num_tokens) == (
        "builtin:tiny",
        2,
        3,
        3000,
    )
    assert (mine.best_loss, mine.last_at) == (2.0, after(9))
    assert (theirs.parent, theirs.num_tokens, theirs.best_loss, theirs.last_at) == (
        "/models/other", 500, None, after(5),
    )  # fmt: skip
    assert [each.parent for each in store.history.parents(limit=1)] == ["builtin:tiny"]
    assert [each.num_searches for each in store.history.parents(SearchFilter(owner="Bo"))] == [1, 1]
    first_only = store.history.parents(SearchFilter(owner="Ann", archived=False))
    assert [(each.num_measurements, each.best_loss) for each in first_only] == [(2, 2.25)]


def test_a_parent_whose_files_changed_meanwhile_is_another(store):
    lease = held(store, made_from=MADE_FROM)
    complete(store, lease, 0)
    changed = replace(store.get_search("search-1"), made_from=replace(MADE_FROM, parent="q"))
    store.save_search(changed, lease)
    complete(store, lease, 1)
    assert [each.num_measurements for each in store.history.parents()] == [1, 1]
    assert len({entry.measured.parent_key for entry in store.history.measurements()}) == 2


# What one search holds, page by page


def test_points_of_a_search_are_read_in_pages(store):
    lease = held(store)
    for number in range(5):
        store.save_trial(make_trial(number), lease)
        for tokens in (0, 10, 20):
            store.add_point(make_point(number, tokens), lease)
    points, seen, last = store.points("search-1"), [], None
    while page := store.history.points_after("search-1", last, limit=4):
        seen += page
        last = (page[-1].trial_number, page[-1].point.num_tokens)
    assert seen == points


def test_an_unknown_search_has_no_pages_of_points(store):
    with pytest.raises(NotFound, match="search none: not found"):
        store.history.points_after("none")


def test_random_indices_and_what_is_not_known_by_content_stand_for_nothing(store):
    lease = held(store, made_from=MADE_FROM)
    complete(store, lease, 0, role=TrialRole.RANDOM_INDICES)
    complete(store, lease, 1, role=TrialRole.RANDOM_ARCHITECTURE)
    complete(store, held(store, "s1"), 0)
    found = {entry.measured.place: entry.measured.is_reusable for entry in store.history.measurements()}
    assert found == {("search-1", 0): False, ("search-1", 1): True, ("s1", 0): False}


def test_a_search_that_is_prepared_keeps_what_its_trials_are_made_from(store):
    lease = held(store)
    moved = store.get_search("search-1").moved(SearchState.PREPARING, after(1), made_from=MADE_FROM)
    store.save_search(moved, lease)
    assert store.get_search("search-1").made_from == MADE_FROM


def test_points_that_come_after_the_end_change_nothing(store):
    lease = held(store)
    complete(store, lease)
    before = store.history.measurements()
    store.add_point(make_point(0, 5000, 0.5), lease)
    assert store.history.measurements() == before
