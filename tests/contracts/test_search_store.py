"""What every SearchStore guarantees, held against each implementation.

Each test runs on the store in memory, on SQLite and on a private PostgreSQL server.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.edits import Edit, said
from nas.errors import Conflict, FinalTrialChanged, KeyReused, LostLease, NotFound, StaleVersion
from nas.finals import Evaluated
from nas.latency_table import BlockRow, EndsLatency, LatencySetting, LatencyTable, Machine
from nas.listing import SearchFilter, SearchOrder
from nas.orders import Cancel
from nas.search import AxisImportance, SearchState
from nas.spec import dump, load
from nas.storage.store import Lease, RequestKey, TrialPoint
from nas.totals import Totals
from nas.trial import Failure, FailureKind, Point, TrialState
from tests import searches
from tests.searches import (
    MEASUREMENT,
    after,
    make_attempt,
    make_point,
    make_scores,
    make_search,
    make_spec,
    make_trial,
)

FAILURE = Failure(kind=FailureKind.ERROR, message="it broke", traceback="Traceback\n  ...")
LATENCIES = LatencyTable(
    setting=LatencySetting(phase="decode", context=16, batch=1, dtype="float32"),
    machine=Machine(device="a processor", threads=1, software="torch"),
    neurons=(16, 24),
    rows=(BlockRow(hidden_size=8, num_attention_heads=2, num_key_value_heads=1, nanoseconds=(5, 7)),),
    ends=(EndsLatency(hidden_size=8, nanoseconds=3),),
)
IMPORTANCE = AxisImportance(num_trials=9, shares={"num_layers": 0.25, "hidden_size": 0.75})
by_law = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def lease(store):
    """The right to write search-1, which is there with trials 0 and 1."""
    store.add_search(make_search())
    lease = store.claim("search-1", "runner", at=after(0), until=after(60))
    for number in range(2):
        store.save_trial(make_trial(number), lease)
    return lease


def take_over(store, *, at=61):
    """Let another owner take search-1 after the lease has lapsed."""
    taken = store.claim("search-1", "other", at=after(at), until=after(at + 60))
    assert taken is not None
    return taken


def ids(found):
    return [search.id for search in found]


def in_states(*states):
    return SearchFilter(states=states)


def told(store):
    """What has happened, by kind and trial."""
    return [(event.kind, event.trial_number) for event in store.events()]


# Searches


def test_a_search_comes_back_equal(store):
    search = make_search()
    store.add_search(search)
    assert store.get_search("search-1") == search
    assert store.list_searches() == [search]


def test_adding_the_same_search_again_is_ignored(store):
    store.add_search(make_search())
    store.add_search(make_search())
    assert told(store) == [("search", None)]


def test_another_search_under_the_same_id_is_refused(store):
    store.add_search(make_search())
    with pytest.raises(Conflict, match="search-1"):
        store.add_search(make_search(num_feasible=3))
    assert store.get_search("search-1") == make_search()


def test_searches_are_listed_newest_first_by_state_and_page(store):
    for number in range(5):
        state = SearchState.QUEUED if number % 2 else SearchState.FAILED
        store.add_search(make_search(f"s{number}", state=state, created_at=after(number // 2)))
    listed = [search.id for search in store.list_searches()]
    assert listed == ["s4", "s3", "s2", "s1", "s0"]
    assert ids(store.list_searches(limit=2, after="s4")) == ["s3", "s2"]
    assert ids(store.list_searches(in_states(SearchState.QUEUED))) == ["s3", "s1"]
    assert ids(store.list_searches(in_states(SearchState.FAILED), limit=1)) == ["s4"]
    assert ids(store.list_searches(in_states(SearchState.FAILED), after="s3")) == ["s2", "s0"]
    assert store.list_searches(in_states()) == []


@pytest.mark.parametrize("order", SearchOrder)
def test_pages_hold_every_search_once_in_order_whatever_is_added_meanwhile(store, order):
    """A page begins after a search, not after a number of them."""
    for number in range(9):
        spec = make_spec(name="aBc"[number % 3])
        store.add_search(make_search(f"s{number}", spec=spec, created_at=after(number % 4)))
    expected = sorted(store.list_searches(), key=order.key, reverse=order.is_descending)
    assert store.list_searches(order=order) == expected
    seen, last = [], None
    while page := store.list_searches(order=order, after=last, limit=2):
        seen += page
        last = page[-1].id
        early = {"spec": make_spec(name="0"), "created_at": after(-1)}
        late = {"spec": make_spec(name="z"), "created_at": after(9)}
        before = late if order.is_descending else early
        store.add_search(make_search(f"t{len(seen)}", **before))
    assert seen == expected


FILTERS = {
    "name": (SearchFilter(name="LLAMA"), ["s0", "s1"]),
    "whole name": (SearchFilter(name="llama 8b_50%"), ["s0"]),
    "pattern characters are themselves": (SearchFilter(name="_50%"), ["s0"]),
    "escapes are themselves": (SearchFilter(name="/\\"), ["s2"]),
    "letters of others": (SearchFilter(name="\u00fc"), ["s3"]),
    "nothing asked": (SearchFilter(name="", parent=""), ["s0", "s1", "s2", "s3"]),
    "parent": (SearchFilter(parent="MODELS/x"), ["s1"]),
    "both": (SearchFilter(parent="builtin", name="llama"), ["s0"]),
    "from": (SearchFilter(created_after=after(2)), ["s2", "s3"]),
    "until": (SearchFilter(created_before=after(2)), ["s0", "s1"]),
    "between": (SearchFilter(created_after=after(1), created_before=after(3)), ["s1", "s2"]),
    "states": (SearchFilter(states=(SearchState.FAILED, SearchState.CANCELLED)), ["s3"]),
    "none": (SearchFilter(name="llama", states=(SearchState.FAILED,)), []),
    "owner": (SearchFilter(owner="Ann"), ["s0", "s2"]),
    "a part of an owner's name": (SearchFilter(owner="An"), []),
    "an owner's name otherwise": (SearchFilter(owner="ann"), []),
    "nobody's": (SearchFilter(owner=""), ["s3"]),
    "tag": (SearchFilter(tags=("a",)), ["s0", "s1"]),
    "all tags": (SearchFilter(tags=("b", "a")), ["s1"]),
    "a part of a tag": (SearchFilter(tags=("ol",)), []),
    "no tag asked": (SearchFilter(tags=()), ["s0", "s1", "s2", "s3"]),
    "archived": (SearchFilter(archived=True), ["s1", "s3"]),
    "not archived": (SearchFilter(archived=False), ["s0", "s2"]),
    "text in notes": (SearchFilter(text="50%_BETTER"), ["s2"]),
    "text in either": (SearchFilter(text="llama"), ["s0", "s1", "s2"]),
    "owner and tag": (SearchFilter(owner="Ann", tags=("a",), archived=False), ["s0"]),
}
SAID = (
    Edit(owner="Ann", tags=("a", "old")),
    Edit(owner="Bo", tags=("b", "a"), archived=True),
    Edit(owner="Ann", tags=("b",), notes="*50%_better* than the llama"),
    Edit(notes="50%x", archived=True),
)


@pytest.mark.parametrize(("which", "expected"), FILTERS.values(), ids=FILTERS)
def test_lists_hold_what_is_asked_for(store, which, expected):
    specs = [
        make_spec(name="Llama 8B_50%"),
        make_spec(name="my llama", parent="/models/X"),
        make_spec(name="a/\\b"),
        make_spec(name="f\u00fcr 8Bx500"),
    ]
    for number, spec in enumerate(specs):
        state = SearchState.FAILED if number == 3 else SearchState.QUEUED
        search = make_search(f"s{number}", spec=spec, state=state, created_at=after(number))
        store.add_search(SAID[number].said_of(search) if number % 2 else search)
        store.edit_search(search.id, SAID[number])
    assert ids(store.list_searches(which, order=SearchOrder.OLDEST)) == expected
    assert ids(store.list_searches(which, order=SearchOrder.NEWEST)) == expected[::-1]


# Requests that are sent again

KEY = RequestKey(key="one", fingerprint="a")


def test_a_request_that_comes_again_gets_the_search_as_it_stands(store):
    assert store.keyed_search(KEY) is None
    assert store.add_search(make_search(), KEY) == make_search()
    cancelled = store.give_order("search-1", Cancel(), at=after(5))
    before = store.events()
    assert store.add_search(make_search("search-2"), KEY) == cancelled
    assert store.keyed_search(KEY) == cancelled
    assert store.list_searches() == [cancelled]
    assert store.events() == before


def test_a_key_that_comes_with_another_request_is_refused(store):
    store.add_search(make_search(), KEY)
    other = replace(KEY, fingerprint="b")
    with pytest.raises(KeyReused, match="found one, which came before with another request"):
        store.add_search(make_search("search-2"), other)
    with pytest.raises(KeyReused):
        store.keyed_search(other)
    assert store.list_searches() == [make_search()]


def test_other_keys_and_none_make_searches_of_their_own(store):
    store.add_search(make_search("s0"), KEY)
    store.add_search(make_search("s1"), replace(KEY, key="two"))
    store.add_search(make_search("s2"))
    store.add_search(make_search("s3"))
    assert ids(store.list_searches()) == ["s3", "s2", "s1", "s0"]


def test_a_refused_search_leaves_its_key_free(store):
    store.add_search(make_search())
    with pytest.raises(Conflict):
        store.add_search(make_search(num_feasible=3), KEY)
    assert store.keyed_search(KEY) is None
    assert store.add_search(make_search("search-2"), KEY).id == "search-2"


def test_of_racing_requests_with_one_key_all_get_the_same_search(store):
    barrier = threading.Barrier(6)

    def race(number: int):
        barrier.wait()
        return store.add_search(make_search(f"s{number}"), KEY)

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(race, range(6)))
    assert store.list_searches() == got[:1]
    assert got == got[:1] * 6
    assert told(store) == [("search", None)]


def test_saving_replaces_a_search(store, lease):
    evaluated = (
        Evaluated(trial_number=None, scores=make_scores(arc=0.5)),
        Evaluated(trial_number=3, scores=make_scores(arc=0.4)),
    )
    saved = make_search(parent_loss=1.5, corrected_loss=1.4, evaluated=evaluated)
    saved = saved.moved(SearchState.PREPARING, after(1))
    store.save_search(saved, lease)
    assert store.get_search("search-1") == saved


def test_saving_keeps_the_users_request_to_cancel(store, lease):
    """A runner saves what it read before the request; the request must not be lost."""
    store.give_order("search-1", Cancel(), at=after(1))
    store.save_search(make_search(parent_loss=1.5), lease)
    assert store.get_search("search-1") == make_search(parent_loss=1.5, cancel_requested=True)


# What people say of a search

EDIT = Edit(owner=" Ann ", tags=("two", "one", "two"), notes="# Seen\n\u00e9", archived=True)


@pytest.mark.parametrize("state", SearchState)
def test_a_search_is_edited_whatever_became_of_it(store, state):
    store.add_search(make_search(state=state))
    edited = store.edit_search("search-1", EDIT)
    assert edited == store.get_search("search-1")
    assert edited == make_search(
        state=state, owner="Ann", tags=("one", "two"), notes="# Seen\n\u00e9", archived=True, version=1
    )
    (event,) = store.events(after=1)
    assert (event.kind, event.trial_number, event.data) == (
        "edit",
        None,
        said(edited) | {"tags": ["one", "two"]},
    )


def test_an_edit_leaves_what_it_does_not_speak_of_and_may_take_back_what_was_said(store):
    store.add_search(EDIT.said_of(make_search()))
    assert store.edit_search("search-1", Edit(tags=())).tags == ()
    assert store.edit_search("search-1", Edit(archived=False, notes="")) == make_search(
        owner="Ann", version=2
    )


def test_an_edit_that_says_nothing_new_changes_nothing_whatever_it_was_made_of(store):
    """It may be one that is sent again because its answer was lost."""
    store.add_search(make_search())
    edited = store.edit_search("search-1", EDIT, versions={0})
    before = store.events()
    assert store.edit_search("search-1", EDIT, versions={0}) == edited
    assert store.edit_search("search-1", Edit()) == edited
    assert store.events() == before


def test_an_edit_of_what_was_edited_meanwhile_is_refused(store):
    store.add_search(make_search())
    store.edit_search("search-1", Edit(owner="Ann"), versions={0, 7})
    before = contents(store)
    for versions, found in (({0}, "0"), ({0, 2}, "0, 2"), (set(), "none of its versions")):
        with pytest.raises(
            StaleVersion, match=f"search-1: version: found {found}, allowed: 1; it was edited"
        ):
            store.edit_search("search-1", Edit(owner="Bo"), versions=versions)
    assert contents(store) == before
    assert store.edit_search("search-1", Edit(owner="Bo"), versions={1}).version == 2


def test_no_write_of_a_runner_touches_what_people_say(store, lease):
    """A runner saves what it read before; the edit must not be lost."""
    edited = store.edit_search("search-1", EDIT)
    store.save_search(make_search(parent_loss=1.5), lease)
    assert store.get_search("search-1") == replace(edited, parent_loss=1.5)
    store.save_search(replace(edited, parent_loss=1.5, owner="Bo", version=9), lease)
    assert store.get_search("search-1") == replace(edited, parent_loss=1.5)
    assert ids(store.list_searches(SearchFilter(tags=("one",)))) == ["search-1"]
    asked = store.give_order("search-1", Cancel(), at=after(1))
    assert said(asked) == said(edited)


def test_the_importance_of_axes_is_written_beside_the_runner(store, lease):
    """Neither takes back what the other wrote, whichever read the search first."""
    before = store.get_search("search-1")
    store.save_importance(IMPORTANCE, lease)
    store.save_search(replace(before, parent_loss=2.0), lease)
    search = store.get_search("search-1")
    assert (search.importance, search.parent_loss) == (IMPORTANCE, 2.0)
    num_events = store.last_sequence()
    store.save_importance(IMPORTANCE, lease)
    assert store.last_sequence() == num_events


def test_what_was_measured_of_latency_is_stored_and_not_told_with_every_event(store, lease):
    measured = replace(make_search(), latencies=LATENCIES)
    store.save_search(measured, lease)
    assert store.get_search("search-1").latencies == LATENCIES
    assert "latencies" not in store.events(search_id="search-1")[-1].data


def test_of_racing_edits_of_one_version_exactly_one_wins(store):
    store.add_search(make_search())
    barrier = threading.Barrier(6)

    def race(name: str):
        barrier.wait()
        try:
            return store.edit_search("search-1", Edit(owner=name), versions={0})
        except StaleVersion:
            return None

    with ThreadPoolExecutor(6) as pool:
        won = [search for search in pool.map(race, "abcdef") if search]
    assert won == [store.get_search("search-1")]
    assert told(store) == [("search", None), ("edit", None)]


def test_of_racing_edits_of_different_things_all_count(store):
    store.add_search(make_search())
    edits = (Edit(owner="Ann"), Edit(tags=("a",)), Edit(notes="n"), Edit(archived=True))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda edit: store.edit_search("search-1", edit), edits))
    expected = make_search(owner="Ann", tags=("a",), notes="n", archived=True, version=4)
    assert store.get_search("search-1") == expected


words = st.sampled_from(["a", "b", "\u00fc", "a%", "_"])
edits = st.builds(
    Edit,
    owner=st.none() | st.sampled_from(["", "Ann", "Bo"]),
    tags=st.none() | st.lists(words, max_size=4).map(tuple),
    notes=st.none() | st.sampled_from(["", "Llama", "100%", "a_b", "\u00fc"]),
    archived=st.none() | st.booleans(),
)
filters = st.builds(
    SearchFilter,
    owner=st.none() | st.sampled_from(["", "Ann", "Bo"]),
    tags=st.none() | st.lists(words, max_size=2).map(tuple),
    archived=st.none() | st.booleans(),
    text=st.none() | st.sampled_from(["", "lLAMA", "%", "_", "\u00fc", "0"]),
)


@by_law
@given(
    history=st.lists(
        st.tuples(st.integers(0, 4), edits, st.none() | st.sets(st.integers(0, 3))), max_size=12
    ),
    asked=st.lists(filters, min_size=1, max_size=4),
    order=st.sampled_from(SearchOrder),
)
def test_whatever_is_edited_lists_hold_what_the_filter_admits(store, history, asked, order):
    """Against a model: the filter and the rules of an edit, as the domain has them."""
    namespace = uuid4().hex
    model = {}
    for number in range(5):
        spec = make_spec(name=f"{namespace} {'ab'[number % 2]}", parent=namespace)
        search = make_search(f"{namespace}-{number}", spec=spec, created_at=after(number % 3))
        model[search.id] = store.add_search(search)
    for number, edit, versions in history:
        before = model[f"{namespace}-{number}"]
        edited = edit.said_of(before)
        if edited == before or versions is None or before.version in versions:
            after_edit = edited if edited == before else replace(edited, version=before.version + 1)
            assert store.edit_search(before.id, edit, versions=versions) == after_edit
            model[before.id] = after_edit
        else:
            with pytest.raises(StaleVersion):
                store.edit_search(before.id, edit, versions=versions)
    for which in asked:
        expected = sorted(filter(which.admits, model.values()), key=order.key, reverse=order.is_descending)
        here = replace(which, parent=namespace)
        assert store.list_searches(here, order=order) == expected
        seen, last = [], None
        while page := store.list_searches(here, order=order, after=last, limit=2):
            seen += page
            last = page[-1].id
        assert seen == expected


# Requests to cancel


def test_a_queued_search_that_nobody_holds_is_cancelled_at_once(store):
    store.add_search(make_search())
    cancelled = store.give_order("search-1", Cancel(), at=after(5))
    assert cancelled == store.get_search("search-1")
    assert cancelled.state is SearchState.CANCELLED
    assert cancelled.cancel_requested
    assert cancelled.finished_at == after(5)
    assert store.claim("search-1", "runner", at=after(6), until=after(60)) is None


def test_a_held_search_is_asked_to_end(store, lease):
    asked = store.give_order("search-1", Cancel(), at=after(5))
    assert asked == store.get_search("search-1")
    assert asked.state is SearchState.QUEUED
    assert asked.cancel_requested


def test_a_queued_search_whose_lease_has_lapsed_is_cancelled_at_once(store, lease):
    assert store.give_order("search-1", Cancel(), at=after(60)).state is SearchState.CANCELLED


def test_asking_twice_changes_nothing(store, lease):
    first = store.give_order("search-1", Cancel(), at=after(5))
    before = store.events()
    assert store.give_order("search-1", Cancel(), at=after(6)) == first
    assert store.events() == before


def test_a_cancelled_search_may_be_cancelled_again(store):
    store.add_search(make_search(state=SearchState.CANCELLED))
    assert store.give_order("search-1", Cancel(), at=after(5)) == make_search(state=SearchState.CANCELLED)


@pytest.mark.parametrize("state", [SearchState.SUCCEEDED, SearchState.FAILED])
def test_what_has_ended_otherwise_cannot_be_cancelled(store, state):
    store.add_search(make_search(state=state))
    with pytest.raises(Conflict, match=state):
        store.give_order("search-1", Cancel(), at=after(5))
    assert store.get_search("search-1") == make_search(state=state)


# Leases


def test_a_lease_excludes_others_until_it_lapses(store, lease):
    assert lease == Lease(search_id="search-1", owner="runner")
    assert store.claim("search-1", "other", at=after(59), until=after(99)) is None
    assert store.claim("search-1", "other", at=after(60), until=after(99)) is not None


def test_a_lease_is_renewed_by_its_owner(store, lease):
    assert store.claim("search-1", "runner", at=after(30), until=after(90)) == lease
    assert store.claim("search-1", "other", at=after(89), until=after(149)) is None
    assert store.claim("search-1", "runner", at=after(200), until=after(260)) == lease


def test_a_lease_is_held_further_also_when_it_has_lapsed_but_not_when_it_was_taken(store, lease):
    assert store.renew(lease, until=after(90))
    assert store.claim("search-1", "other", at=after(89), until=after(149)) is None
    assert store.renew(lease, until=after(260))
    assert store.claim("search-1", "other", at=after(200), until=after(300)) is None
    taken = store.claim("search-1", "other", at=after(260), until=after(300))
    assert not store.renew(lease, until=after(999))
    assert store.unclaimed(after(300)) == [store.get_search("search-1")]
    store.release(taken)
    assert not store.renew(lease, until=after(999))


def test_a_released_lease_is_free_at_once(store, lease):
    store.release(lease)
    assert store.claim("search-1", "other", at=after(1), until=after(61)) is not None


def test_a_lease_that_was_taken_over_cannot_be_released(store, lease):
    take_over(store)
    store.release(lease)
    assert store.claim("search-1", "third", at=after(70), until=after(99)) is None


def test_a_final_search_cannot_be_claimed(store):
    store.add_search(make_search(state=SearchState.SUCCEEDED))
    assert store.claim("search-1", "runner", at=after(0), until=after(60)) is None


def test_unclaimed_searches_are_those_to_take_up_oldest_first(store):
    for number in range(5):
        store.add_search(make_search(f"s{number}", created_at=after(-number)))
    store.add_search(make_search("done", state=SearchState.SUCCEEDED))
    store.claim("s1", "runner", at=after(0), until=after(60))
    store.claim("s2", "runner", at=after(0), until=after(10))
    assert [search.id for search in store.unclaimed(after(9))] == ["s4", "s3", "s0"]
    assert [search.id for search in store.unclaimed(after(10))] == ["s4", "s3", "s2", "s0"]


WRITES = {
    "save_search": lambda store, lease: store.save_search(make_search(parent_loss=1.0), lease),
    "save_importance": lambda store, lease: store.save_importance(IMPORTANCE, lease),
    "save_trial": lambda store, lease: store.save_trial(make_trial(0, rung=1), lease),
    "add_trial": lambda store, lease: store.save_trial(make_trial(7), lease),
    "add_point": lambda store, lease: store.add_point(make_point(), lease),
    "save_attempt": lambda store, lease: store.save_attempt(make_attempt(), lease),
}


@pytest.fixture(params=WRITES.values(), ids=WRITES)
def write(request):
    return request.param


def contents(store):
    """All that search-1 holds."""
    return (
        store.get_search("search-1"),
        store.trials("search-1"),
        store.points("search-1"),
        store.attempts("search-1"),
        store.events(),
    )


def test_a_runner_that_was_replaced_writes_nothing_more(store, lease, write):
    current = take_over(store)
    before = contents(store)
    with pytest.raises(LostLease, match="search-1: held by other, no longer by runner"):
        write(store, lease)
    assert contents(store) == before
    write(store, current)
    assert contents(store) != before


def test_a_released_lease_writes_nothing_more(store, lease, write):
    store.release(lease)
    with pytest.raises(LostLease, match="held by nobody"):
        write(store, lease)


def test_a_lease_that_lapsed_but_was_not_taken_still_writes(store, lease, write):
    """The holder was slow, not replaced: its work is the only work there is."""
    before = contents(store)
    assert store.unclaimed(after(1000)) == [make_search()]
    write(store, lease)
    assert contents(store) != before


def test_of_racing_runners_exactly_one_wins(store):
    store.add_search(make_search())
    barrier = threading.Barrier(6)

    def race(owner: str):
        barrier.wait()
        return store.claim("search-1", owner, at=after(0), until=after(60))

    with ThreadPoolExecutor(6) as pool:
        won = [lease for lease in pool.map(race, "abcdef") if lease]
    assert len(won) == 1
    store.save_trial(make_trial(), won[0])


# Trials, points, attempts


def test_trials_come_back_by_number(store, lease):
    store.save_trial(make_trial(10), lease)
    store.save_trial(make_trial(2), lease)
    running = make_trial(1).started(after(1))
    store.save_trial(running, lease)
    assert store.trials("search-1") == [make_trial(0), running, make_trial(2), make_trial(10)]


FINAL = {
    TrialState.COMPLETED: lambda: (
        make_trial().started(after(1)).completed(MEASUREMENT, "trials/0/student", after(2))
    ),
    TrialState.STOPPED: lambda: (
        make_trial().started(after(1)).saved("trials/0/state").parked().stopped(after(2))
    ),
    TrialState.FAILED: lambda: make_trial().failed(FAILURE, after(2)),
    TrialState.CANCELLED: lambda: make_trial().cancelled(after(2)),
}


@pytest.mark.parametrize("state", FINAL)
def test_a_final_trial_never_changes(store, lease, state):
    final = FINAL[state]()
    store.save_trial(final, lease)
    before = store.events()
    store.save_trial(final, lease)
    for changed in (replace(final, rung=final.rung + 1), make_trial().started(after(3))):
        with pytest.raises(FinalTrialChanged, match=f"trial 0: {state} is final"):
            store.save_trial(changed, lease)
    assert store.trials("search-1")[0] == final
    assert store.events() == before


def test_points_come_back_by_trial_and_tokens(store, lease):
    points = [make_point(trial, tokens) for trial, tokens in ((0, 0), (0, 9), (0, 2**40), (1, 0), (1, 10))]
    for point in reversed(points):
        store.add_point(point, lease)
    assert store.points("search-1") == points


def test_a_point_that_is_sent_again_is_ignored(store, lease):
    """A trial that is resumed before its last point measures it again; the first measurement stands."""
    store.add_point(make_point(loss=2.0), lease)
    before = store.events()
    store.add_point(make_point(loss=2.0), lease)
    store.add_point(make_point(loss=2.0, seconds=5.0), lease)
    assert store.points("search-1") == [make_point(loss=2.0)]
    assert store.events() == before


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_cannot_enter(store, lease, loss):
    before = contents(store)
    with pytest.raises(AssertionError):
        store.add_point(make_point(loss=loss), lease)
    measured = replace(MEASUREMENT, loss=loss)
    with pytest.raises(AssertionError):
        store.save_trial(make_trial().started(after(1)).completed(measured, "x", after(2)), lease)
    assert contents(store) == before


def test_an_attempt_is_replaced_by_its_later_self(store, lease):
    attempts = [make_attempt(0, 1), make_attempt(0, 2), make_attempt(1, 1)]
    for attempt in reversed(attempts):
        store.save_attempt(attempt, lease)
    ended = make_attempt(0, 1, ended_at=after(3), failure=FAILURE)
    store.save_attempt(ended, lease)
    store.save_attempt(ended, lease)
    assert store.attempts("search-1") == [ended, *attempts[1:]]
    assert told(store)[3:] == [("attempt", 1), ("attempt", 0), ("attempt", 0), ("attempt", 0)]


def test_a_lease_is_for_its_own_search(store, lease):
    store.add_search(make_search("search-2"))
    with pytest.raises(AssertionError):
        store.save_search(make_search("search-2"), lease)


UNKNOWN = {
    "get_search": lambda store, lease: store.get_search("none"),
    "save_search": lambda store, lease: store.save_search(make_search("none"), lease),
    "give_order": lambda store, lease: store.give_order("none", Cancel(), at=after(0)),
    "edit_search": lambda store, lease: store.edit_search("none", Edit(owner="Ann")),
    "list_searches": lambda store, lease: store.list_searches(after="none"),
    "claim": lambda store, lease: store.claim("none", "me", at=after(0), until=after(1)),
    "renew": lambda store, lease: store.renew(lease, until=after(1)),
    "release": lambda store, lease: store.release(lease),
    "save_trial": lambda store, lease: store.save_trial(make_trial(search_id="none"), lease),
    "trials": lambda store, lease: store.trials("none"),
    "add_point": lambda store, lease: store.add_point(make_point(), lease),
    "points": lambda store, lease: store.points("none"),
    "save_attempt": lambda store, lease: store.save_attempt(make_attempt(search_id="none"), lease),
    "attempts": lambda store, lease: store.attempts("none"),
    "events": lambda store, lease: store.events(search_id="none"),
}


@pytest.mark.parametrize("call", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_searches_are_not_found(store, call):
    with pytest.raises(NotFound, match="search none: not found"):
        call(store, Lease(search_id="none", owner="me"))


def test_unknown_trials_are_not_found(store, lease):
    for write in (
        lambda: store.add_point(make_point(5), lease),
        lambda: store.save_attempt(make_attempt(5), lease),
    ):
        with pytest.raises(NotFound, match="trial 5"):
            write()
    assert told(store) == [("search", None), ("trial", 0), ("trial", 1)]


# Events


def test_every_change_is_told_in_order_with_what_changed(store, lease):
    search = make_search(parent_loss=1.25).moved(SearchState.PREPARING, after(1))
    trial = make_trial().started(after(2))
    attempt = make_attempt()
    point = make_point(num_tokens=128, train_loss=0.5)
    store.save_search(search, lease)
    store.save_trial(trial, lease)
    store.save_attempt(attempt, lease)
    store.add_point(point, lease)
    events = store.events(after=3)
    assert [event.sequence for event in events] == [4, 5, 6, 7]
    assert [(event.kind, event.trial_number) for event in events] == [
        ("search", None), ("trial", 0), ("attempt", 0), ("point", 0),
    ]  # fmt: skip
    assert {event.search_id for event in events} == {"search-1"}
    told_search, told_trial, told_attempt, told_point = (event.data for event in events)
    assert told_search == {
        name: value
        for name, value in dump(search).items()
        if name not in {"spec", "latencies", "notes", "orders"}
    }
    assert load(type(trial), told_trial) == trial
    assert load(type(attempt), told_attempt) == attempt
    assert told_point["trial_number"] == 0
    assert load(Point, told_point) == point.point


def test_writing_what_is_already_there_tells_nothing(store, lease, write):
    write(store, lease)
    before = store.events()
    write(store, lease)
    assert store.events() == before


def test_events_are_read_on_from_where_a_reader_stopped(store, lease):
    store.add_search(make_search("search-2"))
    for tokens in range(5):
        store.add_point(make_point(0, tokens), lease)
    everything = store.events()
    assert [event.sequence for event in everything] == list(range(1, 10))
    read = []
    while page := store.events(after=read[-1].sequence if read else 0, limit=4):
        read += page
    assert read == everything
    assert [event.sequence for event in store.events(search_id="search-2")] == [4]
    assert [event.sequence for event in store.events(search_id="search-1", after=3, limit=2)] == [5, 6]
    assert store.events(after=9) == []
    assert store.last_sequence() == 9


def test_what_was_returned_cannot_change_what_is_stored(store, lease):
    store.events()[0].data["state"] = "NONSENSE"
    assert store.events()[0].data["state"] == "QUEUED"


def test_a_reader_misses_nothing_while_many_write(store):
    """Events become visible in the order of their numbers, so a cursor never skips one."""
    num_writers, num_points = 4, 15
    failures = []

    def write(name: str):
        store.add_search(make_search(name))
        lease = store.claim(name, name, at=after(0), until=after(60))
        store.save_trial(make_trial(search_id=name), lease)
        for tokens in range(num_points):
            store.add_point(make_point(0, tokens), lease)

    read = []
    with ThreadPoolExecutor(num_writers) as pool:
        writers = [pool.submit(write, f"s{number}") for number in range(num_writers)]
        while len(read) < num_writers * (num_points + 2):
            read += store.events(after=read[-1].sequence if read else 0, limit=7)
            failures = [writer.exception() for writer in writers if writer.done() and writer.exception()]
            if failures:
                break
    assert not failures
    assert [event.sequence for event in read] == list(range(1, len(read) + 1))
    assert read == store.events()
    for number in range(num_writers):
        assert len(store.points(f"s{number}")) == num_points


# Laws


@given(search=searches.searches)
@by_law
def test_any_search_comes_back_equal(store, search):
    search = replace(search, id=uuid4().hex)
    store.add_search(search)
    assert store.get_search(search.id) == search


@given(trial=searches.trials)
@by_law
def test_any_trial_comes_back_equal(store, trial):
    trial = replace(trial, search_id=uuid4().hex)
    store.add_search(make_search(trial.search_id))
    store.save_trial(trial, store.claim(trial.search_id, "runner", at=after(0), until=after(60)))
    assert store.trials(trial.search_id) == [trial]


@given(point=searches.points, attempt=searches.attempts)
@by_law
def test_any_point_and_attempt_come_back_equal(store, point, attempt):
    attempt = replace(attempt, search_id=uuid4().hex)
    store.add_search(make_search(attempt.search_id))
    lease = store.claim(attempt.search_id, "runner", at=after(0), until=after(60))
    store.save_trial(make_trial(search_id=attempt.search_id), lease)
    store.add_point(TrialPoint(trial_number=0, point=point), lease)
    store.save_attempt(attempt, lease)
    assert store.points(attempt.search_id) == [TrialPoint(trial_number=0, point=point)]
    assert store.attempts(attempt.search_id) == [attempt]


def test_totals_count_what_is_stored(store, lease):
    """Of each trial the farthest point counts, in whatever order points came."""
    assert store.totals() == Totals(
        searches={SearchState.QUEUED: 1}, trials={TrialState.PROPOSED: 2}, trained_tokens=0
    )
    store.add_search(make_search("search-2"))
    other = store.claim("search-2", "runner", at=after(0), until=after(60))
    store.save_trial(make_trial(0, search_id="search-2").started(after(1)), other)
    written = ((0, 0, lease), (0, 30_000, lease), (0, 20_000, lease), (1, 5_000, lease), (0, 7_000, other))
    for number, tokens, held in written:
        store.add_point(make_point(number, tokens), held)
    context = make_search().spec.data.sequence_length
    work = 3 * make_trial().architecture.flops_per_token(context=context)
    assert store.totals() == Totals(
        searches={SearchState.QUEUED: 2},
        trials={TrialState.PROPOSED: 2, TrialState.RUNNING: 1},
        trained_tokens=42_000,
        training_gigaflops=sum(work * tokens // 10**9 for tokens in (30_000, 5_000, 7_000)),
    )
    assert store.totals().training_gigaflops > 0


def test_totals_of_nothing(store):
    assert store.totals() == Totals(searches={}, trials={}, trained_tokens=0)


def test_a_store_that_is_there_answers(store):
    store.ping()
    assert store.last_sequence() == 0
