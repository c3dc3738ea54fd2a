"""What a search's story says, and that it is told from the end."""

from dataclasses import replace

import pytest

from minitron.recipe import TrainingRecipe
from nas import wording
from nas.chronicle import chronicle
from nas.following import Following
from nas.orders import Enqueue, Extend, Kill, Pause, Resume
from nas.promotion import Promotion
from nas.rungs import schedule
from nas.search import Rungs, SearchState, Winner
from nas.service import SearchService
from nas.space import search_space
from nas.standing import TrialRecord
from nas.storage.memory import InMemoryStore
from nas.trial import Failure, FailureKind, TrialRole, TrialState
from tests.fakes import ManualClock, running_search, small_spec
from tests.searches import MEASUREMENT, after, make_attempt, make_point, make_search, make_spec, make_trial

LOST = Failure(kind=FailureKind.WORKER_LOST, message="here:1 was lost")


def record(trial, points=(), attempts=()):
    return TrialRecord(trial=trial, points=tuple(each.point for each in points), attempts=tuple(attempts))


def told(search, *records, limit=100):
    return [(each.text, each.tone) for each in chronicle(search, records, limit=limit)]


def test_a_trial_from_proposal_to_end():
    trial = make_trial(3, state=TrialState.COMPLETED, measurement=MEASUREMENT, finished_at=after(50))
    attempts = [
        make_attempt(3, started_at=after(10), ended_at=after(20), failure=LOST),
        make_attempt(3, 2, worker="there:2", started_at=after(30), ended_at=after(50)),
    ]
    assert told(make_search(created_at=after(-5)), record(trial, attempts=attempts)) == [
        ("trial 3 completed with loss 2.2500", "good"),
        ("trial 3 trains on there:2, attempt 2", "plain"),
        ("trial 3 lost attempt 1: here:1 was lost", "bad"),
        ("trial 3 trains on here:1", "plain"),
        ("trial 3 is to try L4-D96-F160-N8-K4 (search)", "plain"),
        ("submitted", "plain"),
    ]


def test_a_reused_trial_was_never_under_way():
    earlier = make_trial(7, search_id="earlier", state=TrialState.COMPLETED, measurement=MEASUREMENT)
    trial = make_trial(3).reused(earlier, rung=0, at=after(50))
    search = make_search(
        created_at=after(-5), spec=make_spec(rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False))
    )
    points = [make_point(3, tokens) for tokens in schedule(search.spec).points]
    assert told(search, record(trial, points)) == [
        ("trial 3 is reused from search earlier, trial 7 with loss 2.2500", "good"),
        ("trial 3 is to try L4-D96-F160-N8-K4 (search)", "plain"),
        ("submitted", "plain"),
    ]


def test_rungs_are_told_and_other_points_are_not():
    search = make_search()
    spec = replace(search.spec, rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False))
    half = schedule(spec).rungs[0]
    trial = make_trial(finished_at=after(9), state=TrialState.STOPPED)
    points = [make_point(0, 0), make_point(0, half, at=after(5), loss=3.0)]
    found = told(replace(search, spec=spec), record(trial, points))
    assert found[:2] == [
        ("trial 0 was stopped: others of its rung lead", "plain"),
        ("trial 0 reached rung 1 with loss 3.0000", "plain"),
    ]
    assert sum("reached" in text for text, _ in found) == 1


def test_how_a_search_ends():
    ended = {"started_at": after(1), "finished_at": after(9)}
    won = make_search(state=SearchState.SUCCEEDED, winner=Winner(trial_number=4, path="x"), **ended)
    assert told(won)[0] == ("succeeded: trial 4 wins", "good")
    assert told(make_search(state=SearchState.FAILED, failure=LOST, **ended))[0] == (
        "failed: here:1 was lost",
        "bad",
    )
    assert told(make_search(state=SearchState.CANCELLED, **ended))[0] == ("ended: it was cancelled", "plain")


def test_what_people_ordered_is_told_with_who_did(tmp_path):
    clock = ManualClock()
    store = InMemoryStore(clock)
    search, _ = running_search(store, small_spec(), clock)
    shape = search_space(search.spec).smallest
    orders = [
        Pause(),
        Resume(),
        Extend(num_trials=30),
        Extend(num_trials=31, max_tokens=100_000, max_parallel=3),
        Enqueue(architecture=shape),
        Kill(),
    ]
    for number, order in enumerate(orders):
        clock.advance(60)
        store.give_order(search.id, order, at=clock(), by="ann" if number % 2 else "")
    events = Following(SearchService(store, artifact_root=tmp_path), search.id).now().orders
    found = store.get_search(search.id)
    told = [each.text for each in chronicle(found, [], events, limit=99)]
    assert told[:7] == [
        "ended: it was killed",
        "killed by ann",
        f"{shape.name} enqueued",
        "limits changed by ann: 31 trials in all, 100,000 tokens in all, 3 at a time",
        "limits changed: 30 trials in all",
        "resumed by ann",
        "paused",
    ]
    assert wording.killed(found.orders) == "killed by ann"


def test_the_latest_are_told_first_and_no_more_than_asked_for():
    records = [record(make_trial(number, created_at=after(number))) for number in range(30)]
    found = chronicle(make_search(), records, limit=5)
    assert [each.trial_number for each in found] == [29, 28, 27, 26, 25]


def test_a_promotion_retrains_a_student_and_reaches_no_rung():
    search = make_search(created_at=after(-5), spec=make_spec(rungs=Rungs(fractions=(0.5,))))
    promotion = Promotion(training=TrainingRecipe(num_tokens=4_000_000))
    trial = make_trial(9, role=TrialRole.PROMOTION, promoted_from=3, promotion=promotion)
    points = [make_point(9, tokens) for tokens in schedule(search.spec).points]
    assert told(search, record(trial, points)) == [
        ("trial 9 is to retrain the student of trial 3 (promotion)", "plain"),
        ("submitted", "plain"),
    ]


@pytest.mark.parametrize(
    ("changes", "text", "tone"),
    [
        ({"state": SearchState.SUCCEEDED}, "succeeded: trial 9 wins", "good"),
        ({"state": SearchState.CANCELLED}, "ended: it was cancelled; trial 9 wins, promoted since", "good"),
        (
            {"state": SearchState.SUCCEEDED, "failure": LOST},
            "succeeded: trial 9 wins; promotion failed: here:1 was lost",
            "bad",
        ),
    ],
)
def test_a_search_that_promoted_after_its_end_says_how_it_ended(changes, text, tone):
    winner = Winner(trial_number=9, path="winner")
    search = make_search(created_at=after(-5), finished_at=after(9), winner=winner, **changes)
    assert told(search)[0] == (text, tone)
