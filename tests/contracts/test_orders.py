# ruff: noqa: F811 - a test that takes a fixture shadows its import
"""What every SearchStore makes of what people order of a search, whoever runs it meanwhile."""

from dataclasses import replace

import pytest

from minitron.recipe import TrainingRecipe
from nas.errors import Conflict, InvalidOrder, LostLease, NotFound, StaleOrders
from nas.orders import MAX_ENQUEUED, Cancel, Enqueue, Extend, Kill, Pause, Promote, Resume, StopTrial
from nas.promotion import Promotion
from nas.rungs import schedule
from nas.search import SearchState
from nas.standing import records_of
from nas.tally import tally_of
from nas.trial import RUNNER_LOST, TrialRole, TrialState
from tests.contracts.test_search_store import lease  # noqa: F401 - a fixture
from tests.searches import MEASUREMENT, after, make_attempt, make_point, make_search, make_spec, make_trial

ARCHITECTURE = make_trial().architecture
OTHER = replace(ARCHITECTURE, num_layers=5)


def give(store, order, *, seconds=5, by="ann"):
    return store.give_order("search-1", order, at=after(seconds), by=by)


def running(store, lease, state=SearchState.RUNNING, **changes):
    """Make search-1 run with trials 0 (running, in an open attempt) and 1 (proposed), which differ."""
    store.save_search(make_search(state=state, **changes), lease)
    store.save_trial(make_trial(1, architecture=OTHER), lease)
    store.save_trial(make_trial().started(after(1)), lease)
    store.save_attempt(make_attempt(), lease)


def last_order(store):
    events = [event for event in store.events() if event.kind == "order"]
    return events[-1].data if events else None


# Pause and resume


def test_a_queued_search_that_nobody_holds_is_paused_at_once_and_queued_again(store):
    store.add_search(make_search())
    assert give(store, Pause()).state is SearchState.PAUSED
    assert store.unclaimed(after(100)) == []
    assert store.claim("search-1", "runner", at=after(6), until=after(60)) is None
    resumed = give(store, Resume())
    assert resumed == make_search()
    assert store.unclaimed(after(100)) == [resumed]
    assert store.claim("search-1", "runner", at=after(6), until=after(60))


def test_a_held_search_is_asked_to_pause_and_its_runner_may_hold_it_until_it_has(store, lease):
    running(store, lease)
    asked = give(store, Pause())
    assert (asked.state, asked.orders.is_paused) == (SearchState.RUNNING, True)
    store.save_search(make_search(state=SearchState.PAUSED), lease)
    assert store.get_search("search-1") == make_search(state=SearchState.PAUSED, orders=asked.orders)
    assert store.claim("search-1", "runner", at=after(10), until=after(90)) == lease
    assert store.claim("search-1", "another", at=after(100), until=after(190)) is None


@pytest.mark.parametrize("order", [Resume(), Cancel()])
def test_a_search_that_is_wanted_again_while_it_pauses_is_queued_by_its_runner(store, lease, order):
    running(store, lease)
    give(store, Pause())
    give(store, order)
    store.save_search(make_search(state=SearchState.PAUSED), lease)
    assert store.get_search("search-1").state is SearchState.QUEUED


def test_pausing_twice_and_resuming_what_is_not_paused_change_nothing(store, lease):
    running(store, lease)
    give(store, Pause())
    before = store.events()
    give(store, Pause(), by="bob")
    assert store.events() == before
    give(store, Resume())
    before = store.events()
    give(store, Resume())
    assert store.events() == before


def test_a_paused_search_is_cancelled_at_once_with_its_trials(store, lease):
    running(store, lease)
    give(store, Pause())
    store.save_search(make_search(state=SearchState.PAUSED), lease)
    assert give(store, Cancel()).state is SearchState.CANCELLED
    assert {trial.state for trial in store.trials("search-1")} == {TrialState.CANCELLED}
    assert all(attempt.ended_at == after(5) for attempt in store.attempts("search-1"))


# Where the runner was lost


UNDER_WAY = [SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING]
LAPSED = 100


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_search_whose_runner_is_lost_is_cancelled_at_once(store, lease, state):
    running(store, lease, state)
    cancelled = give(store, Cancel(), seconds=LAPSED)
    assert (cancelled.state, cancelled.finished_at) == (SearchState.CANCELLED, after(LAPSED))
    assert {trial.state for trial in store.trials("search-1")} == {TrialState.CANCELLED}
    assert all(attempt.ended_at == after(LAPSED) for attempt in store.attempts("search-1"))
    with pytest.raises(LostLease):
        store.save_trial(make_trial(7), lease)


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_search_whose_runner_is_lost_is_paused_at_once_to_be_gone_on_with(store, lease, state):
    running(store, lease, state)
    paused = give(store, Pause(), seconds=LAPSED)
    assert (paused.state, paused.orders.is_paused) == (SearchState.PAUSED, True)
    assert [trial.state for trial in store.trials("search-1")] == [TrialState.PROPOSED] * 2
    (attempt,) = store.attempts("search-1")
    assert (attempt.ended_at, attempt.failure) == (after(LAPSED), RUNNER_LOST)
    with pytest.raises(LostLease):
        store.save_search(make_search(), lease)
    assert give(store, Resume(), seconds=LAPSED).state is SearchState.QUEUED
    assert store.claim("search-1", "another", at=after(LAPSED), until=after(200))


def test_a_trial_whose_runner_is_lost_is_stopped_at_once(store, lease):
    running(store, lease)
    give(store, StopTrial(trial_number=0), seconds=LAPSED)
    assert store.trials("search-1")[0].state is TrialState.CANCELLED
    assert store.attempts("search-1")[0].ended_at == after(LAPSED)
    assert store.trials("search-1")[1] == make_trial(1, architecture=OTHER)
    with pytest.raises(LostLease):
        store.save_trial(make_trial(7), lease)


@pytest.mark.parametrize(
    ("order", "state"), [(Cancel(), SearchState.CANCELLED), (Pause(), SearchState.PAUSED)]
)
def test_what_a_runner_was_asked_before_it_was_lost_is_done_once_it_is_asked_again(
    store, lease, order, state
):
    running(store, lease)
    assert give(store, order).state is SearchState.RUNNING
    assert give(store, order, seconds=LAPSED).state is state
    before = store.events()
    give(store, order, seconds=LAPSED)
    assert store.events() == before


def test_a_search_is_held_until_its_lease_lapses_or_is_given_back(store, lease):
    store.add_search(make_search("search-2"))
    asked = ["search-1", "search-2", "nope"]
    assert store.held(asked, after(59)) == {"search-1"}
    assert store.held(["search-2"], after(59)) == store.held([], after(59)) == set()
    assert store.held(asked, after(60)) == set()
    store.release(lease)
    assert store.held(asked, after(1)) == set()


# Kill


@pytest.mark.parametrize("state", [state for state in SearchState if not state.is_final])
def test_a_search_is_killed_at_once_whoever_holds_it(store, lease, state):
    running(store, lease, state)
    killed = give(store, Kill(), by="ann")
    assert (killed.state, killed.finished_at) == (SearchState.CANCELLED, after(5))
    assert (killed.cancel_requested, killed.orders.is_killed, killed.orders.killed_by) == (True, True, "ann")
    assert [(each.kind, each.data["by"]) for each in store.events(kind="order")] == [("order", "ann")]
    assert {trial.state for trial in store.trials("search-1")} == {TrialState.CANCELLED}
    assert all(attempt.ended_at == after(5) for attempt in store.attempts("search-1"))
    with pytest.raises(LostLease):
        store.save_trial(make_trial(7), lease)
    with pytest.raises(LostLease):
        store.save_search(make_search(), lease)
    store.release(lease)
    before = store.events()
    assert give(store, Kill()) == killed
    assert store.events() == before


def test_what_a_killed_search_measured_is_in_the_history_and_counted(store, lease):
    running(store, lease)
    store.add_point(make_point(0, 500, 2.5), lease)
    give(store, Kill(), seconds=9)
    (entry,) = store.history.measurements()
    assert (entry.measured.trial_number, entry.measured.is_partial, entry.measured.loss) == (0, True, 2.5)
    assert store.totals().trials == {TrialState.CANCELLED: 2}
    assert store.totals().searches == {SearchState.CANCELLED: 1}
    records = records_of(store.trials("search-1"), store.points("search-1"), store.attempts("search-1"))
    tally = tally_of((record.trial, record.points, record.attempts) for record in records)
    assert replace(store.tallies(["search-1"])["search-1"], progressed_at=None) == tally


@pytest.mark.parametrize(
    "order", [Kill(), Pause(), Resume(), Extend(max_parallel=5), Enqueue(architecture=OTHER)]
)
@pytest.mark.parametrize("state", [SearchState.SUCCEEDED, SearchState.FAILED])
def test_nothing_is_ordered_of_what_has_ended(store, order, state):
    store.add_search(make_search(state=state))
    with pytest.raises(Conflict, match=f"search search-1: is {state} and cannot be"):
        give(store, order)
    assert store.get_search("search-1") == make_search(state=state)


def test_a_search_that_is_being_cancelled_is_not_paused(store, lease):
    running(store, lease)
    give(store, Cancel())
    with pytest.raises(Conflict, match="is being cancelled and cannot be paused"):
        give(store, Pause())


# Extend


def test_limits_are_changed_beside_the_spec(store, lease):
    running(store, lease)
    limits = {"num_trials": 50, "max_tokens": 10**9, "max_parallel": 4}
    extended = give(store, Extend(**limits))
    assert extended.spec == make_search().spec
    assert extended.spec_by_now == replace(extended.spec, **limits)
    assert last_order(store) == {"order": "extend", "by": "ann", **limits}
    assert give(store, Extend(max_parallel=1)).orders == replace(extended.orders, max_parallel=1)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            Extend(num_trials=1),
            r"num_trials: found 1, allowed: 2, as many as are proposed or enqueued, to 100000",
        ),
        (Extend(num_trials=100_001), "num_trials: found 100001, allowed: 2, as many as"),
        (Extend(num_trials=1, max_parallel=0), "; max_parallel: found 0, allowed: 1 to 10000"),
    ],
)
def test_limits_out_of_range_are_refused(store, lease, order, message):
    running(store, lease)
    with pytest.raises(InvalidOrder, match=message):
        give(store, order)


def test_no_fewer_tokens_are_ordered_than_were_trained_and_reused_and_baselines_are_not_counted(store, lease):
    running(store, lease)
    one = schedule(make_search().spec).num_tokens
    with pytest.raises(
        InvalidOrder, match=f"max_tokens: found 5, allowed: {one}, which one trial needs, to 10"
    ):
        give(store, Extend(max_tokens=5))
    earlier = make_trial(search_id="earlier", state=TrialState.COMPLETED, measurement=MEASUREMENT)
    reused = make_trial(2, architecture=replace(OTHER, num_layers=3)).reused(earlier, rung=0, at=after(1))
    store.save_trial(reused, lease, [make_point(2, 64 * one).point])
    assert give(store, Extend(max_tokens=one)).orders.max_tokens == one
    for number, num_tokens in ((0, one), (0, 2 * one), (1, one)):
        store.add_point(make_point(number, num_tokens), lease)
    with pytest.raises(InvalidOrder, match=f"allowed: {3 * one}, as many as were trained, to 10"):
        give(store, Extend(max_tokens=3 * one - 1))
    assert give(store, Extend(max_tokens=3 * one)).orders.max_tokens == 3 * one
    store.save_trial(make_trial(3, role=TrialRole.RANDOM_ARCHITECTURE), lease)
    store.add_point(make_point(3, one), lease)
    with pytest.raises(Conflict, match="cannot be given another max_tokens"):
        give(store, Extend(max_tokens=9 * one))
    assert give(store, Extend(max_tokens=3 * one)).orders.max_tokens == 3 * one


@pytest.mark.parametrize(
    "order",
    [Extend(num_trials=50), Extend(max_tokens=10**9), Enqueue(architecture=replace(OTHER, num_layers=3))],
)
def test_no_trial_is_added_once_the_winner_is_settled(store, lease, order):
    running(store, lease, SearchState.COMPLETING)
    with pytest.raises(Conflict, match="the winner is settled; allowed: nas clone search-1"):
        give(store, order)
    running(store, lease)
    store.save_trial(make_trial(2, role=TrialRole.RANDOM_INDICES), lease)
    with pytest.raises(Conflict, match="the winner is settled"):
        give(store, order)
    assert give(store, Extend(max_parallel=3)).orders.max_parallel == 3


def test_a_search_does_not_complete_over_an_order_that_came_meanwhile(store, lease):
    running(store, lease)
    decided = store.get_search("search-1")
    ordered = give(store, Extend(num_trials=50))
    completing = decided.moved(SearchState.COMPLETING, after(6))
    with pytest.raises(StaleOrders):
        store.save_search(completing, lease)
    assert store.get_search("search-1") == ordered
    store.save_search(replace(completing, orders=ordered.orders), lease)
    assert store.get_search("search-1").state is SearchState.COMPLETING


def test_no_write_of_a_runner_touches_orders(store, lease):
    running(store, lease)
    ordered = give(store, Extend(num_trials=50)).orders
    store.save_search(make_search(state=SearchState.RUNNING, parent_loss=1.5), lease)
    assert store.get_search("search-1").orders == ordered


# Enqueue


def test_architectures_are_enqueued_in_order_and_dropped_once_they_are_tried(store, lease):
    store.save_trial(make_trial(1, architecture=OTHER), lease)
    third, fourth = (replace(ARCHITECTURE, num_layers=layers) for layers in (3, 6))
    give(store, Enqueue(architecture=third))
    orders = give(store, Enqueue(architecture=fourth), by="bob").orders
    assert [(each.architecture, each.by) for each in orders.enqueued] == [(third, "ann"), (fourth, "bob")]
    store.save_trial(make_trial(2, architecture=third, enqueued_by="ann"), lease)
    fifth = replace(ARCHITECTURE, num_layers=7)
    orders = give(store, Enqueue(architecture=fifth)).orders
    assert [each.architecture for each in orders.enqueued] == [fourth, fifth]
    assert last_order(store)["architecture"]["num_layers"] == 7


def test_what_the_search_tries_by_itself_is_not_enqueued(store, lease):
    running(store, lease)
    with pytest.raises(Conflict, match=rf"architecture {OTHER.name}: is trial 1 already, which is PROPOSED"):
        give(store, Enqueue(architecture=OTHER))


def test_an_architecture_that_is_enqueued_again_changes_nothing_whatever_became_of_it(store, lease):
    running(store, lease)
    third = Enqueue(architecture=replace(ARCHITECTURE, num_layers=3))
    enqueued = give(store, third)
    before = store.events()
    assert give(store, third, by="bob") == enqueued
    assert store.events() == before
    trial = make_trial(2, architecture=third.architecture, enqueued_by="")
    store.save_trial(trial, lease)
    store.save_search(replace(enqueued, state=SearchState.COMPLETING), lease)
    before = store.events()
    assert give(store, third).orders == enqueued.orders
    assert store.events() == before
    store.save_trial(trial.cancelled(after(7)), lease)
    store.save_search(replace(enqueued, state=SearchState.RUNNING), lease)
    with pytest.raises(Conflict, match="is trial 2 already, which is CANCELLED"):
        give(store, third)


def test_what_is_enqueued_is_bounded_and_cannot_be_cut_off(store):
    store.add_search(make_search())
    for layers in range(1, MAX_ENQUEUED + 1):
        give(store, Enqueue(architecture=replace(ARCHITECTURE, num_layers=layers)))
    with pytest.raises(Conflict, match="allowed: 100 at a time"):
        give(store, Enqueue(architecture=replace(ARCHITECTURE, num_layers=1000)))
    with pytest.raises(InvalidOrder, match="allowed: 100, as many as"):
        give(store, Extend(num_trials=99))


# Stop a trial


def test_a_trial_is_asked_to_end(store, lease):
    running(store, lease)
    assert give(store, StopTrial(trial_number=0)).orders.stopped == (0,)
    assert store.trials("search-1")[0].state is TrialState.RUNNING
    assert store.events()[-1].trial_number == 0
    assert last_order(store) == {"order": "stop_trial", "by": "ann", "trial_number": 0}
    before = store.events()
    give(store, StopTrial(trial_number=0))
    assert store.events() == before
    store.save_trial(make_trial().cancelled(after(7)), lease)
    assert give(store, StopTrial(trial_number=0)).orders.stopped == (0,)
    assert give(store, StopTrial(trial_number=1)).orders.stopped == (1,)


def test_a_trial_of_a_paused_search_ends_at_once(store, lease):
    running(store, lease)
    give(store, Pause())
    store.save_search(make_search(state=SearchState.PAUSED), lease)
    give(store, StopTrial(trial_number=1))
    assert store.trials("search-1")[1].state is TrialState.CANCELLED
    with pytest.raises(LostLease):
        store.save_trial(make_trial(), lease)


def test_a_trial_that_has_ended_or_never_was_is_not_stopped(store, lease):
    running(store, lease)
    completed = make_trial().started(after(1)).completed(MEASUREMENT, "student", after(2))
    store.save_trial(completed, lease)
    with pytest.raises(Conflict, match="trial 0: is COMPLETED and cannot be stopped"):
        give(store, StopTrial(trial_number=0))
    with pytest.raises(NotFound, match="trial 7: not found"):
        give(store, StopTrial(trial_number=7))


# Promotion

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=4_000_000))
PROMOTE = Promote(trial_number=0, promotion=PROMOTION)


def ended(store, lease, state=SearchState.SUCCEEDED, **changes):
    """Make search-1 end with trial 0 completed, trial 1 failed and a random baseline."""
    store.save_search(make_search(state=SearchState.COMPLETING), lease)
    done = make_trial().started(after(1)).completed(MEASUREMENT, "student", after(2))
    store.save_trial(done, lease)
    store.save_trial(make_trial(1, architecture=OTHER).failed(RUNNER_LOST, after(2)), lease)
    baseline = make_trial(2, role=TrialRole.RANDOM_INDICES).started(after(1))
    store.save_trial(baseline.completed(MEASUREMENT, "student", after(2)), lease)
    store.save_search(make_search(state=state, finished_at=after(3), **changes), lease)
    store.release(lease)


def promotion_of(number, **changes):
    known = {"role": TrialRole.PROMOTION, "promoted_from": 0, "promotion": PROMOTION}
    return make_trial(number, **{**known, **changes})


@pytest.mark.parametrize("state", [SearchState.SUCCEEDED, SearchState.CANCELLED])
def test_a_search_that_had_ended_is_queued_again_to_promote_and_ends_as_it_had(store, lease, state):
    ended(store, lease, state, cancel_requested=state is SearchState.CANCELLED)
    queued = give(store, PROMOTE)
    assert (queued.state, queued.ended_as, queued.finished_at) == (SearchState.QUEUED, state, None)
    assert not queued.cancel_requested
    (wanted,) = queued.orders.promoted
    assert (wanted.trial_number, wanted.promotion, wanted.by) == (0, PROMOTION, "ann")
    told = last_order(store)
    assert (told["order"], told["by"], told["trial_number"]) == ("promote", "ann", 0)
    assert store.unclaimed(after(100)) == [queued]
    again = store.claim("search-1", "another", at=after(6), until=after(60))
    search = queued
    for step in (SearchState.PREPARING, SearchState.COMPLETING, state):
        search = search.moved(step, after(7))
        store.save_search(search, again)
    assert store.get_search("search-1").state is state


def test_a_promotion_ordered_twice_changes_nothing_whatever_became_of_the_first(store, lease):
    ended(store, lease)
    queued = give(store, PROMOTE)
    assert give(store, PROMOTE, by="bob") == queued
    assert give(store, replace(PROMOTE, promotion=replace(PROMOTION, top_k=9))) == queued
    again = store.claim("search-1", "another", at=after(6), until=after(60))
    begun = promotion_of(3)
    for trial in (
        begun,
        begun.started(after(7)),
        begun.started(after(7)).completed(MEASUREMENT, "x", after(8)),
    ):
        store.save_trial(trial, again)
        assert give(store, PROMOTE) == queued


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.CANCELLED])
def test_a_promotion_that_came_to_nothing_may_be_ordered_again(store, lease, state):
    ended(store, lease)
    give(store, PROMOTE)
    again = store.claim("search-1", "another", at=after(6), until=after(60))
    made = promotion_of(3)
    gone = made.failed(RUNNER_LOST, after(7)) if state is TrialState.FAILED else made.cancelled(after(7))
    store.save_trial(gone, again)
    search = give(store, PROMOTE)
    assert [each.repeats for each in search.orders.promoted] == [None, 3]
    assert give(store, PROMOTE) == search


def test_a_search_under_way_hears_of_a_promotion_and_does_not_end_over_it(store, lease):
    running(store, lease)
    store.save_trial(make_trial().started(after(1)).completed(MEASUREMENT, "student", after(2)), lease)
    asked = give(store, PROMOTE)
    assert (asked.state, asked.ended_as) == (SearchState.RUNNING, None)
    read = store.get_search("search-1")
    store.save_search(replace(read, state=SearchState.COMPLETING), lease)
    give(store, replace(PROMOTE, promotion=replace(PROMOTION, num_points=9)))
    with pytest.raises(StaleOrders, match="a promotion was ordered meanwhile"):
        store.save_search(replace(read, state=SearchState.SUCCEEDED, finished_at=after(9)), lease)
    store.save_search(
        replace(store.get_search("search-1"), state=SearchState.SUCCEEDED, finished_at=after(9)), lease
    )
    assert store.get_search("search-1").state is SearchState.SUCCEEDED


def test_a_search_that_only_promotes_goes_on_over_a_promotion_that_is_ordered_while_it_begins(store, lease):
    ended(store, lease)
    give(store, PROMOTE)
    again = store.claim("search-1", "another", at=after(6), until=after(60))
    store.save_search(store.get_search("search-1").moved(SearchState.PREPARING, after(7)), again)
    read = store.get_search("search-1")
    other = replace(PROMOTE, promotion=replace(PROMOTION, num_points=9))
    ordered = give(store, other).orders
    store.save_search(read.moved(SearchState.COMPLETING, after(8)), again)
    search = store.get_search("search-1")
    assert (search.state, search.orders) == (SearchState.COMPLETING, ordered)


def test_a_search_that_was_killed_and_queued_again_at_once_is_not_its_runners_any_more(store, lease):
    running(store, lease)
    store.save_trial(make_trial().started(after(1)).completed(MEASUREMENT, "student", after(2)), lease)
    give(store, Kill())
    queued = give(store, PROMOTE, seconds=6)
    assert not store.renew(lease, until=after(99))
    assert store.unclaimed(after(7)) == [queued]


@pytest.mark.parametrize("order", [Cancel(), Kill()])
def test_a_search_that_only_promotes_ends_as_it_had_when_it_is_ended(store, lease, order):
    ended(store, lease)
    give(store, PROMOTE)
    search = give(store, order)
    assert (search.state, search.ended_as) == (SearchState.SUCCEEDED, SearchState.SUCCEEDED)
    queued = give(store, PROMOTE)
    assert (queued.state, len(queued.orders.promoted)) == (SearchState.QUEUED, 1)
    assert not queued.cancel_requested
    assert not queued.orders.is_killed


def test_a_search_that_only_promotes_takes_no_further_trials(store, lease):
    ended(store, lease)
    give(store, PROMOTE)
    with pytest.raises(Conflict, match="the winner is settled"):
        give(store, Extend(num_trials=90))


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        (Promote(trial_number=9, promotion=PROMOTION), NotFound, "trial 9: not found"),
        (Promote(trial_number=1, promotion=PROMOTION), Conflict, "trial 1: is FAILED"),
        (Promote(trial_number=2, promotion=PROMOTION), Conflict, "trial 2: is random indices"),
        (Promote(trial_number=0), InvalidOrder, "promotion: missing"),
        (
            Promote(trial_number=0, promotion=replace(PROMOTION, num_shards=999)),
            InvalidOrder,
            "promotion.num_shards: found 999, allowed: at most 128",
        ),
    ],
)
def test_what_cannot_be_promoted_is_refused_and_nothing_changes(store, lease, order, error, message):
    ended(store, lease)
    before = store.get_search("search-1")
    with pytest.raises(error, match=message):
        give(store, order)
    assert store.get_search("search-1") == before


def test_a_search_that_failed_promotes_nothing(store, lease):
    ended(store, lease, SearchState.FAILED)
    with pytest.raises(Conflict, match="is FAILED, and its trials cannot be promoted"):
        give(store, PROMOTE)


def test_the_promotion_of_the_spec_is_meant_where_an_order_names_none(store, lease):
    store.add_search(make_search("search-2", spec=make_spec(promotion=PROMOTION)))
    other = store.claim("search-2", "runner", at=after(1), until=after(60))
    done = make_trial(search_id="search-2").started(after(1)).completed(MEASUREMENT, "student", after(2))
    store.save_trial(done, other)
    alone = Promote(trial_number=0, promotion=replace(PROMOTION, top_k=1))
    search = store.give_order("search-2", alone, at=after(5))
    assert [each.promotion for each in search.orders.promoted] == [PROMOTION]
    assert store.give_order("search-2", Promote(trial_number=0), at=after(6)) == search


def test_the_queue_holds_what_waits_oldest_first(store):
    for number, state in enumerate(
        (SearchState.QUEUED, SearchState.PAUSED, SearchState.QUEUED, SearchState.FAILED)
    ):
        store.add_search(make_search(f"s{number}", state=state, created_at=after(-number)))
    assert store.queue(10) == ["s2", "s0"]
    assert store.queue(1) == ["s2"]
