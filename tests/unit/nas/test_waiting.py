"""Why searches and trials wait, told from what is stored alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.progress import Progress
from nas.ranking import by_loss, ranking_of
from nas.rungs import decide, losses_by_trial, schedule, shares
from nas.sampling import Objective
from nas.search import SearchState
from nas.space import search_space
from nas.trial import TrialState
from nas.waiting import Capacity, Waiting, WaitingKind, hindrance_in, search_waits, stage_of, trial_waits
from tests.fakes import small_spec
from tests.searches import make_point, make_search, make_trial

HERE = Capacity(max_searches=1)
QUEUE = ["first", "second", "search-1", "last"]
HINDRANCES = (WaitingKind.HUB, WaitingKind.RESOURCES, WaitingKind.IMPOSSIBLE)


@given(kind=st.sampled_from(HINDRANCES), text=st.text(max_size=40))
def test_what_a_runner_says_of_a_hindrance_is_found_again(kind, text):
    words = " ".join(text.split())
    assert hindrance_in(stage_of(kind, text)) == Waiting(kind=kind, text=words)


@pytest.mark.parametrize("stage", ["trials", "waiting: no kind", "teacher answers", ""])
def test_work_is_no_hindrance(stage):
    assert hindrance_in(stage) is None


@pytest.mark.parametrize(
    ("queue", "capacity", "text", "position"),
    [
        (QUEUE, HERE, "behind 2 others in the queue; 1 runs at a time here (NAS_MAX_SEARCHES)", 3),
        (
            QUEUE[1:],
            Capacity(max_searches=4),
            "behind 1 other in the queue; 4 run at a time here (NAS_MAX_SEARCHES)",
            2,
        ),
        (QUEUE[2:], Capacity(), "next in the queue", 1),
        (["first"] * 5, Capacity(), "behind 5 others or more", None),
        ([], Capacity(), "about to be taken up", None),
    ],
)
def test_a_queued_search_tells_its_place(queue, capacity, text, position):
    found = search_waits(make_search(), queue, capacity, is_held=False)
    assert found == Waiting(kind=WaitingKind.QUEUE, text=text, position=position)


def test_where_no_search_is_run_that_is_what_a_queued_one_waits_for():
    found = search_waits(
        make_search(), QUEUE, Capacity(notice="needs torch, which this Python lacks"), is_held=False
    )
    assert found == Waiting(
        kind=WaitingKind.NO_WORKERS, text="needs torch, which this Python lacks", position=3
    )


def test_a_paused_search_waits_for_people():
    found = search_waits(make_search(state=SearchState.PAUSED), [], HERE, is_held=False)
    assert found.kind is WaitingKind.PAUSED
    assert "nas resume search-1" in found.text


def test_a_search_that_runs_waits_for_what_its_runner_says():
    progress = Progress(stage=stage_of(WaitingKind.RESOURCES, "1 asks Ray for 8 GPU; free now: 0 of 4 GPU"))
    hindered = make_search(state=SearchState.RUNNING, progress=progress)
    assert search_waits(hindered, [], HERE, is_held=True).kind is WaitingKind.RESOURCES
    assert search_waits(replace(hindered, progress=Progress(stage="trials")), [], HERE, is_held=True) is None
    assert search_waits(replace(hindered, progress=None), [], HERE, is_held=True) is None
    assert search_waits(make_search(state=SearchState.SUCCEEDED), [], HERE, is_held=False) is None


@pytest.mark.parametrize("state", [SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING])
def test_a_search_whose_runner_is_gone_waits_for_another(state):
    left = make_search(state=state, progress=Progress(stage="trials"))
    assert search_waits(left, [], HERE, is_held=False) == Waiting(
        kind=WaitingKind.RUNNER,
        text="its runner is gone; it is taken up again as soon as there is room; 1 runs at a time here "
        "(NAS_MAX_SEARCHES)",
    )
    nowhere = search_waits(left, [], Capacity(notice="runs no searches"), is_held=False)
    assert nowhere == Waiting(kind=WaitingKind.NO_WORKERS, text="runs no searches")
    stage = stage_of(WaitingKind.HUB, "no answer")
    hindered = replace(left, progress=Progress(stage=stage))
    assert search_waits(hindered, [], HERE, is_held=False).kind is WaitingKind.HUB


SPEC = small_spec()
PLAN = schedule(SPEC)


def waits(trials, losses, number=0, ranking=by_loss):
    points = [make_point(trial_number, 40, loss) for trial_number, loss in losses.items()]
    return trial_waits(
        trials[number],
        trials,
        losses_by_trial(points),
        PLAN,
        shares(trials, losses_by_trial(points), PLAN, SPEC.rungs),
        ranking=ranking,
    )


def test_a_trial_at_a_rung_tells_its_rank():
    trials = [make_trial(number, state=TrialState.WAITING) for number in range(3)]
    found = waits(trials, {0: 2.0, 1: 1.0, 2: 3.0})
    assert (found.kind, found.position) == (WaitingKind.RUNG, 2)
    assert found.text.startswith("rank 2 of 3 measured at 40 tokens, of which the best one advances;")
    assert "none advances yet" in waits(trials, {0: 2.0}).text


def test_a_trial_that_has_advanced_waits_for_a_place():
    trials = [make_trial(0, state=TrialState.WAITING, rung=1)]
    assert waits(trials, {0: 2.0}).kind is WaitingKind.PLACE


@pytest.mark.parametrize("state", [state for state in TrialState if state is not TrialState.WAITING])
def test_a_trial_in_another_state_waits_for_nothing(state):
    assert waits([make_trial(0, state=state)], {0: 2.0}) is None


@given(losses=st.lists(st.floats(0, 9), min_size=1, max_size=9), objective=st.none() | st.just(Objective()))
def test_who_is_said_to_advance_is_who_does(losses, objective):
    space = search_space(SPEC)
    trials = [
        make_trial(number, state=TrialState.WAITING, architecture=space.at(5 * number))
        for number in range(len(losses))
    ]
    ranking = ranking_of(objective, trials)
    at_rung = dict(enumerate(losses))
    points = losses_by_trial(make_point(number, 40, loss) for number, loss in at_rung.items())
    advance = decide(trials, points, PLAN, asked=SPEC.rungs, more_to_come=True, ranking=ranking).advance
    best = len(losses) // 2
    ahead = [number for number in at_rung if waits(trials, at_rung, number, ranking).position <= best]
    assert ahead == list(advance)
