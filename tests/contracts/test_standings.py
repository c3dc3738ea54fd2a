"""Where searches stand, as every store sums it up: equal to the pure functions, on any history."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minitron.recipe import TrainingRecipe
from nas.clock import utc_now
from nas.errors import NotFound
from nas.listing import TrialFilter, TrialOrder, listed_trials, place_of
from nas.orders import Cancel
from nas.promotion import Promotion
from nas.report_spending import spending
from nas.resources import Resources
from nas.search import Winner
from nas.service import SearchService
from nas.standing import records_of, view_of
from nas.storage.store import TrialPoint
from nas.tally import Tally, effort_of, tally_of
from nas.trial import TrialRole, TrialState
from tests import searches
from tests.searches import MEASUREMENT, after, make_attempt, make_point, make_search, make_spec, make_trial

by_law = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
TRIALS = 4
numbers = st.integers(0, TRIALS - 1)
few = st.integers(0, 3)
rivals = st.none() | st.builds(
    replace, st.just(MEASUREMENT), num_tokens=few, loss=few.map(float), num_parameters=few
)
"""Measurements that are often equal, so that every rule of the ranking is asked."""
moments = st.integers(-5, 60).map(after)
run_trials = searches.trials.map(lambda trial: replace(trial, reused_from=None))
writes = st.lists(
    st.one_of(
        st.builds(lambda trial, number, measured: replace(trial, number=number, measurement=measured),
                  run_trials, numbers, rivals),
        st.builds(lambda trial, number, measured: replace(
            trial, number=number, measurement=measured, role=TrialRole.SEARCH, state=TrialState.COMPLETED,
        ), run_trials, numbers, rivals),
        st.builds(lambda point, number, tokens, at: TrialPoint(
            trial_number=number, point=replace(point, num_tokens=10 * tokens, at=at)
        ), searches.points, numbers, few, moments),
        st.builds(lambda attempt, trial, number, start, end: replace(
            attempt, trial_number=trial, number=number + 1, started_at=start, ended_at=end
        ), searches.attempts, numbers, few, moments, st.none() | moments),
    ),
    max_size=30,
)  # fmt: skip


def write(store, search_id, history, num_reused=0):
    """Store a search with the trials of a contract and what a history says of them."""
    store.add_search(make_search(search_id))
    lease = store.claim(search_id, "runner", at=after(0), until=after(60))
    for number in range(TRIALS):
        store.save_trial(make_trial(number, search_id=search_id), lease)
    earlier = make_trial(search_id="earlier", state=TrialState.COMPLETED, measurement=MEASUREMENT)
    for number in range(TRIALS, TRIALS + num_reused):
        reused = make_trial(number, search_id=search_id).reused(earlier, rung=0, at=after(1))
        store.save_trial(reused, lease, [make_point(number, tokens).point for tokens in (0, 1000)])
    for each in history:
        if isinstance(each, TrialPoint):
            store.add_point(each, lease)
        elif hasattr(each, "worker"):
            store.save_attempt(replace(each, search_id=search_id), lease)
        elif not store.trials(search_id)[each.number].state.is_final:
            store.save_trial(replace(each, search_id=search_id), lease)


def summed(store, search_id):
    """What a search's whole history sums up to, by the pure functions."""
    records = records_of(store.trials(search_id), store.points(search_id), store.attempts(search_id))
    winner = store.get_search(search_id).winner
    histories = ((record.trial, record.points, record.attempts) for record in records)
    return tally_of(histories, winner=winner.trial_number if winner else None)


@given(histories=st.lists(st.tuples(writes, st.integers(0, 2)), min_size=1, max_size=3))
@by_law
def test_standing_equals_the_pure_functions_of_the_whole_history(store, histories):
    before = store.totals()
    ids = [uuid4().hex for _ in histories]
    for search_id, (history, num_reused) in zip(ids, histories, strict=True):
        write(store, search_id, history, num_reused)
    tallies = store.tallies([*ids, "unknown"])
    assert sorted(tallies) == sorted(ids)
    service = SearchService(store, artifact_root=Path("/nowhere"))
    views = {view.search.id: view for view in service.list_views(limit=1000)}
    for search_id in ids:
        tally = tallies[search_id]
        assert replace(tally, progressed_at=None) == summed(store, search_id)
        view = views[search_id]
        assert replace(view, waiting=None) == view_of(store.get_search(search_id), tally)
        assert service.get(search_id) == view
        assert store.num_points(search_id) == len(store.points(search_id))
    states = Counter(trial.state for search_id in ids for trial in store.trials(search_id))
    assert Counter(store.totals().trials) - Counter(before.trials) == states
    tokens = sum(view.tokens_done for search_id, view in views.items() if search_id in ids)
    assert store.totals().trained_tokens - before.trained_tokens == tokens
    saved = [views[search_id].tokens_saved for search_id in ids]
    assert saved == [MEASUREMENT.num_tokens * num_reused for _, num_reused in histories]


@given(
    history=writes,
    which=st.builds(
        TrialFilter,
        states=st.none() | st.sets(st.sampled_from(TrialState)).map(tuple),
        roles=st.none() | st.sets(st.sampled_from(TrialRole)).map(tuple),
    ),
    order=st.sampled_from(TrialOrder),
    size=st.integers(1, 3),
)
@by_law
def test_pages_of_trials_are_those_of_the_whole_list(store, history, which, order, size):
    search_id = uuid4().hex
    write(store, search_id, history)
    wanted = listed_trials(store.trials(search_id), which, order=order)
    found, place = [], None
    while page := store.list_trials(search_id, which, order=order, after=place, limit=size):
        found, place = found + page, place_of(page[-1])
    assert found == wanted
    chosen = {trial.number for trial in wanted[:2]} | {99}
    for read in (store.points, store.attempts):
        assert read(search_id, chosen) == [each for each in read(search_id) if each.trial_number in chosen]


def test_a_winner_that_was_promoted_stands_with_those_that_it_was_made_from_and_the_processes_of_each(store):
    spec = make_spec(resources=Resources(processes=2))
    made = store.add_search(make_search(spec=spec, parent_loss=2.0))
    lease = store.claim(made.id, "runner", at=after(0), until=after(60))
    longer = Promotion(training=TrainingRecipe(num_tokens=4_000_000))
    several = replace(longer, resources=Resources(processes=8))
    losses = {0: 3.0, 1: 2.5, 2: 2.8, 3: 2.2, 4: 2.1}
    sources = {3: (0, longer), 4: (3, several)}
    for number, loss in losses.items():
        promoted_from, promotion = sources.get(number, (None, None))
        trial = make_trial(
            number,
            role=TrialRole.PROMOTION if promotion else TrialRole.SEARCH,
            promoted_from=promoted_from,
            promotion=promotion,
            state=TrialState.COMPLETED,
            measurement=replace(MEASUREMENT, loss=loss, loss_before_retraining=6.0 if number == 0 else 3.0),
        )
        store.save_trial(trial, lease)
        store.save_attempt(make_attempt(number, started_at=after(0), ended_at=after(10)), lease)
    service = SearchService(store, artifact_root=Path("/nowhere"))
    before = service.get(made.id)
    assert (before.best.number, before.before_promotion, before.best_tokens) == (
        1,
        None,
        MEASUREMENT.num_tokens,
    )
    store.save_search(replace(made, winner=Winner(trial_number=4, path="w")), lease)
    tally = store.tallies([made.id])[made.id]
    assert replace(tally, progressed_at=None) == summed(store, made.id)
    assert [trial.number for trial in tally.promoted] == [0, 3, 4]
    view = service.get(made.id)
    assert (view.best.number, view.best_loss, view.before_promotion.number) == (4, 2.1, 1)
    assert view.best_tokens == 3 * MEASUREMENT.num_tokens
    assert view.gap_closed == pytest.approx((6.0 - 2.1) / (6.0 - 2.0))
    assert view.compute_seconds == 10 * (4 * 2 + 8)
    assert spending(view.search, service.trials(made.id)).compute_seconds == view.compute_seconds
    unpromoted = store.get_search(made.id)
    store.save_search(replace(unpromoted, winner=Winner(trial_number=1, path="w")), lease)
    view = service.get(made.id)
    assert (view.best.number, view.before_promotion) == (1, None)


def test_an_unknown_search_has_no_trials_to_list(store):
    for read in (store.list_trials, lambda search_id: store.points(search_id, [0])):
        with pytest.raises(NotFound, match="nothing"):
            read("nothing")
    assert store.tallies(["nothing"]) == {}
    assert store.num_points("nothing") == 0


def test_a_search_without_trials_sums_up_to_nothing(store):
    store.add_search(make_search())
    assert store.tallies(["search-1"]) == {"search-1": Tally()}


def test_progress_is_what_workers_store_and_not_what_people_say(store):
    store.add_search(make_search())
    store.give_order("search-1", Cancel(), at=after(1))
    other = store.add_search(make_search("search-2"))
    lease = store.claim(other.id, "runner", at=after(0), until=after(60))
    begun = utc_now()
    writes = (
        lambda: store.save_search(replace(other, parent_loss=2.0), lease),
        lambda: store.save_trial(make_trial(0, search_id=other.id), lease),
        lambda: store.add_point(make_point(0), lease),
        lambda: store.save_attempt(make_attempt(0, search_id=other.id), lease),
    )
    for each in writes:
        each()
        progressed_at = store.tallies([other.id])[other.id].progressed_at
        assert progressed_at >= begun
        begun = progressed_at
        each()  # what is there already is no progress
        assert store.tallies([other.id])[other.id].progressed_at == progressed_at
    assert store.tallies(["search-1"])["search-1"].progressed_at is None


def test_an_attempt_is_spent_to_its_end_and_busy_to_its_last_evaluation():
    points = [(0, after(1)), (10, after(5)), (20, after(12))]
    effort = effort_of(points, [(after(0), after(7)), (after(10), None)])
    assert (effort.num_tokens, effort.busy.total_seconds(), effort.spent.total_seconds()) == (20, 7, 9)
    assert effort_of([], [(after(0), None)]).spent.total_seconds() == 0
