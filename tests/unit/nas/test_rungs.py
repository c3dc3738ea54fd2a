"""Where trials are compared, and which go on, follows from what is stored and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.parents import parent_architecture
from minitron.recipe import DataRecipe, TrainingRecipe
from nas.rungs import Decisions, Schedule, decide, losses_by_trial, schedule
from nas.search import Rungs
from nas.storage.store import TrialPoint
from nas.trial import Failure, FailureKind, Point, Trial, TrialRole, TrialState
from tests.fakes import EPOCH, small_spec

TWO = Schedule(points=(0, 40, 80), rungs=(40, 80))
THREE = Schedule(points=(0, 20, 40, 80), rungs=(20, 40, 80))
NOTHING = Decisions(advance=(), stop=())


def trial(number, state=TrialState.WAITING, *, rung=0, role=TrialRole.SEARCH):
    return Trial(
        search_id="s1",
        number=number,
        architecture=parent_architecture("builtin:tiny"),
        role=role,
        state=state,
        rung=rung,
        created_at=EPOCH,
    )


def waiting(*losses, num_tokens=40):
    """One waiting trial for each loss at a rung."""
    trials = [trial(number) for number in range(len(losses))]
    return trials, {number: {num_tokens: loss} for number, loss in enumerate(losses)}


# Schedule


def test_points_are_even_and_rungs_are_points_too():
    spec = small_spec(num_points=4, rungs=Rungs(fractions=(0.3, 0.75)))
    assert schedule(spec) == Schedule(points=(0, 16, 24, 40, 56, 80), rungs=(24, 56, 80))


def test_without_rungs_the_end_is_the_only_one():
    found = schedule(small_spec(rungs=Rungs(fractions=()), num_points=1))
    assert found == Schedule(points=(0, 80), rungs=(80,))
    assert found.num_tokens == 80


@given(
    st.integers(8, 64),
    st.integers(1, 400),
    st.integers(1, 5_000),
    st.integers(1, 12),
    st.lists(st.floats(0.001, 0.999), max_size=4, unique=True),
)
def test_every_schedule_is_ascending_and_in_whole_steps(
    sequence_length, batch, num_tokens, num_points, fractions
):
    training = TrainingRecipe(num_tokens=max(num_tokens, batch), batch_tokens=batch)
    spec = small_spec(
        data=DataRecipe(sequence_length=sequence_length, validation_tokens=64),
        training=training,
        num_points=num_points,
        rungs=Rungs(fractions=tuple(sorted(fractions))),
    )
    found = schedule(spec)
    step = training.blocks_per_step(sequence_length) * sequence_length
    assert found.points[0] == 0
    assert (
        found.points[-1] == found.rungs[-1] == found.num_tokens == training.num_steps(sequence_length) * step
    )
    assert list(found.points) == sorted(set(found.points))
    assert set(found.rungs) <= set(found.points) - {0}
    assert all(each % step == 0 for each in found.points)
    assert len(found.points) <= 1 + num_points + len(fractions)


def test_a_fraction_that_is_a_whole_step_is_not_rounded_below_it():
    """0.29 * 100 is a little less than 29 in floating point."""
    training = TrainingRecipe(num_tokens=800, batch_tokens=8)
    assert schedule(small_spec(training=training, rungs=Rungs(fractions=(0.29,)))).rungs == (29 * 8, 800)


# Decisions


def test_the_best_of_those_measured_advance_while_more_may_come():
    trials, losses = waiting(2.0, 1.0, 3.0, 1.5, 2.5)
    assert decide(trials, losses, TWO, asked=Rungs(keep=0.4, adaptive=False), more_to_come=True) == Decisions(
        advance=(1, 3), stop=()
    )


def test_a_single_trial_waits_for_others():
    trials, losses = waiting(1.0)
    assert decide(trials, losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=True) == NOTHING


def test_at_the_end_the_best_advance_and_the_rest_stop():
    trials, losses = waiting(2.0, 1.0, 3.0, 1.5, 2.5)
    assert decide(
        trials, losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False
    ) == Decisions(advance=(1, 3), stop=(0, 2, 4))


def test_at_the_end_at_least_one_advances():
    trials, losses = waiting(2.0, 1.0)
    assert decide(
        trials, losses, TWO, asked=Rungs(keep=0.1, adaptive=False), more_to_come=False
    ) == Decisions(advance=(1,), stop=(0,))


def test_one_that_advanced_and_failed_leaves_its_place_to_the_next():
    trials, losses = waiting(2.0, 1.0, 3.0)
    trials[1] = replace(trials[1], state=TrialState.FAILED, rung=1)
    found = decide(trials, losses, TWO, asked=Rungs(keep=0.4, adaptive=False), more_to_come=False)
    assert found == Decisions(advance=(0,), stop=(2,))


def test_those_that_advanced_before_are_counted():
    trials, losses = waiting(2.0, 1.0, 3.0, 4.0)
    trials[0] = replace(trials[0], state=TrialState.COMPLETED, rung=1)
    assert decide(
        trials, losses, TWO, asked=Rungs(keep=0.25, adaptive=False), more_to_come=False
    ) == Decisions(advance=(1,), stop=(2, 3))


@pytest.mark.parametrize("state", [TrialState.PROPOSED, TrialState.RUNNING])
def test_nobody_stops_while_a_trial_may_still_reach_the_rung(state):
    trials, losses = waiting(2.0, 1.0)
    found = decide(
        [*trials, trial(2, state)], losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False
    )
    assert found == Decisions(advance=(1,), stop=())


def test_a_trial_under_way_to_the_next_rung_keeps_nobody_waiting():
    trials, losses = waiting(2.0, 1.0)
    trials[1] = trial(1, TrialState.RUNNING, rung=1)
    assert decide(
        trials, losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False
    ) == Decisions(advance=(), stop=(0,))


def test_one_that_advanced_and_waits_for_a_worker_is_not_compared_again():
    trials, losses = waiting(2.0, 1.0)
    trials[1] = trial(1, TrialState.WAITING, rung=1)
    assert decide(trials, losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=True) == NOTHING


def test_equal_losses_are_decided_by_number():
    trials, losses = waiting(1.0, 1.0, 1.0, 1.0)
    assert decide(
        trials[::-1], losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=True
    ).advance == (0, 1)


def test_only_search_trials_are_compared():
    trials, losses = waiting(2.0, 1.0)
    trials[1] = trial(1, TrialState.RUNNING, role=TrialRole.RANDOM_ARCHITECTURE)
    assert decide(
        trials, losses, TWO, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False
    ) == Decisions(advance=(0,), stop=())


def test_stopping_the_last_below_a_rung_closes_the_rung_above():
    trials, losses = waiting(2.0, num_tokens=20)
    trials += [trial(1, rung=1), trial(2, rung=1)]
    losses |= {1: {20: 1.0, 40: 2.0}, 2: {20: 1.0, 40: 1.0}}
    found = decide(trials, losses, THREE, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False)
    assert found == Decisions(advance=(2,), stop=(0, 1))


@settings(max_examples=200)
@given(st.data())
def test_deciding_until_nothing_moves_leaves_nobody_waiting(data):
    """Whatever the losses and failures: every trial ends, and the best at the last rung is not lost."""
    count = data.draw(st.integers(1, 9))
    keep = data.draw(st.sampled_from((0.1, 0.34, 0.5, 0.9)))
    losses = {number: {} for number in range(count)}
    trials = {number: trial(number, TrialState.RUNNING) for number in range(count)}
    order = data.draw(st.permutations(range(count)))
    while running := [number for number in order if trials[number].state is TrialState.RUNNING]:
        number = running[0]
        rung = trials[number].rung
        if data.draw(st.integers(0, 9)) == 0:
            failure = Failure(kind=FailureKind.NON_FINITE, message="loss is nan")
            trials[number] = trials[number].failed(failure, EPOCH)
        else:
            losses[number][THREE.rungs[rung]] = data.draw(st.floats(1, 2))
            is_last = rung == len(THREE.rungs) - 1
            trials[number] = replace(
                trials[number], state=TrialState.COMPLETED if is_last else TrialState.WAITING
            )
        found = decide(
            list(trials.values()), losses, THREE, asked=Rungs(keep=keep, adaptive=False), more_to_come=False
        )
        assert not set(found.advance) & set(found.stop)
        for each in found.advance:
            trials[each] = replace(trials[each], state=TrialState.RUNNING, rung=trials[each].rung + 1)
        for each in found.stop:
            trials[each] = replace(trials[each], state=TrialState.STOPPED)
        again = decide(
            list(trials.values()), losses, THREE, asked=Rungs(keep=keep, adaptive=False), more_to_come=False
        )
        assert again == NOTHING
    states = {each.state for each in trials.values()}
    assert TrialState.WAITING not in states
    assert states & {TrialState.COMPLETED, TrialState.FAILED}


# Sums


def test_losses_are_found_by_trial_and_tokens():
    points = [
        TrialPoint(trial_number=number, point=Point(num_tokens=num_tokens, loss=loss, at=EPOCH))
        for number, num_tokens, loss in ((0, 0, 5.0), (0, 40, 2.0), (3, 0, 6.0))
    ]
    assert losses_by_trial(points) == {0: {0: 5.0, 40: 2.0}, 3: {0: 6.0}}
