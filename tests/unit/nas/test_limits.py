"""How far a search goes follows from what is stored: proposals never exceed its tokens, and what it comes to is told."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import InvalidSpec
from nas.limits import admit_another, committed_tokens, expected_tokens, expected_trials, trained_tokens
from nas.orders import Orders
from nas.rungs import Schedule, decide, schedule
from nas.search import Comparisons, Rungs
from nas.trial import Failure, FailureKind, Origin, TrialState
from tests.fakes import EPOCH, small_spec
from tests.unit.nas.test_rungs import TWO, trial

NONE = Orders()
ONE_RUNG = Schedule(points=(0, 80), rungs=(80,))
THREE = Schedule(points=(0, 16, 40, 80), rungs=(16, 40, 80))


def admitted(spec, trials, losses, plan=TWO, *, orders=NONE, num_feasible=1000):
    return admit_another(spec, orders, trials, losses, plan, num_feasible=num_feasible)


# One more


def test_trials_limit_and_architectures_do_and_orders_stand_in_place_of_the_spec():
    trials = [trial(0), trial(1)]
    assert admitted(small_spec(num_trials=3), trials, {})
    assert not admitted(small_spec(num_trials=2), trials, {})
    assert not admitted(small_spec(num_trials=3), trials, {}, num_feasible=2)
    assert admitted(small_spec(num_trials=2), trials, {}, orders=Orders(num_trials=3))
    limited = small_spec(num_trials=9, max_tokens=119)
    assert not admitted(limited, trials, {})
    assert admitted(limited, trials, {}, orders=Orders(max_tokens=120))


@pytest.mark.parametrize(
    ("other", "points", "takes"),
    [
        (trial(1, TrialState.PROPOSED), {}, 40),
        (trial(1, TrialState.RUNNING), {0: 9.0, 16: 5.0}, 40),
        (trial(1, TrialState.WAITING), {0: 9.0, 40: 5.0}, 40),
        (trial(1, TrialState.WAITING, rung=1), {0: 9.0, 40: 5.0}, 80),
        (trial(1, TrialState.COMPLETED, rung=1), {0: 9.0, 40: 5.0, 80: 4.0}, 80),
        (trial(1, TrialState.STOPPED), {0: 9.0, 40: 5.0}, 40),
        (trial(1, TrialState.FAILED), {0: 9.0, 16: 5.0}, 16),
        (trial(1, TrialState.CANCELLED), {}, 0),
        (
            replace(
                trial(1, TrialState.COMPLETED, rung=1), reused_from=Origin(search_id="s0", trial_number=0)
            ),
            {0: 9.0, 40: 5.0, 80: 4.0},
            0,
        ),
    ],
)
def test_a_trial_takes_what_it_was_trained_on_or_may_be_until_it_is_compared_next(other, points, takes):
    losses = {0: {40: 1.0}, 1: points}
    assert committed_tokens([trial(0), other], losses, TWO) == 40 + takes
    spec = small_spec(num_trials=9)
    assert admitted(spec, [trial(0), other], losses, orders=Orders(max_tokens=80 + takes))
    assert not admitted(spec, [trial(0), other], losses, orders=Orders(max_tokens=80 + takes - 1))


@settings(max_examples=200)
@given(st.data())
def test_proposals_never_exceed_the_limit_and_trials_that_had_begun_are_all_that_does(data):
    """Whatever trains when, fails or is reused: the whole search, by the rules of limits and rungs alone."""
    plan = data.draw(st.sampled_from((ONE_RUNG, TWO, THREE)))
    keep = data.draw(st.sampled_from((0.25, 0.5, 0.75)))
    max_tokens = data.draw(st.integers(80, 900))
    spec = small_spec(num_trials=20, max_tokens=max_tokens)
    trials, losses, at_last_proposal = {}, {}, 0

    def more():
        return admitted(spec, list(trials.values()), losses, plan)

    def running():
        return [number for number, each in trials.items() if each.state is TrialState.RUNNING]

    while more() or running():
        if more() and (not running() or data.draw(st.booleans())):
            number = len(trials)
            trials[number] = trial(number, TrialState.RUNNING)
            losses[number] = {0: 5.0}
            if data.draw(st.integers(0, 5)) == 0:
                earlier = trial(7, TrialState.COMPLETED)
                trials[number] = trial(number, TrialState.PROPOSED).reused(
                    earlier, rung=len(plan.rungs) - 1, at=EPOCH
                )
                losses[number] |= dict.fromkeys(plan.rungs, 2.0)
            at_last_proposal = committed_tokens(list(trials.values()), losses, plan)
            assert at_last_proposal <= max_tokens
        else:
            number = data.draw(st.sampled_from(running()))
            each = trials[number]
            if data.draw(st.integers(0, 7)) == 0:
                failure = Failure(kind=FailureKind.NON_FINITE, message="loss is nan")
                trials[number] = each.failed(failure, EPOCH)
            else:
                losses[number][plan.rungs[each.rung]] = data.draw(st.floats(1, 2))
                is_last = each.rung == len(plan.rungs) - 1
                state = TrialState.COMPLETED if is_last else TrialState.WAITING
                trials[number] = replace(each, state=state)
        found = decide(
            list(trials.values()), losses, plan, asked=Rungs(keep=keep, adaptive=False), more_to_come=more()
        )
        for number in found.advance:
            advanced = trials[number].advanced()
            trials[number] = replace(advanced, state=TrialState.RUNNING)
        for number in found.stop:
            trials[number] = trials[number].stopped(EPOCH)
    assert all(each.state.is_final for each in trials.values()), "what waits is settled once no more come"
    total = trained_tokens(list(trials.values()), losses)
    had_begun = [number for number, each in trials.items() if not each.reused_from]
    assert total <= at_last_proposal + len(had_begun) * (plan.num_tokens - plan.rungs[0])
    if plan is ONE_RUNG:
        assert total <= max_tokens


# Refused


def test_fewer_tokens_than_one_trial_needs_are_refused():
    assert small_spec(max_tokens=80).max_tokens == 80
    with pytest.raises(InvalidSpec, match="max_tokens: found 79, allowed: 80, which one trial needs, to 10"):
        small_spec(max_tokens=79)
    with pytest.raises(InvalidSpec, match="max_tokens: found 2"):
        small_spec(max_tokens=2 * 10**15)


# What it comes to


def test_expected_tokens_count_what_each_rung_keeps_and_the_baselines():
    spec = small_spec(
        num_trials=8,
        rungs=Rungs(fractions=(0.25, 0.5), keep=0.5, adaptive=False),
        comparisons=Comparisons(random_architectures=2),
    )
    plan = schedule(spec)
    assert plan.rungs == (16, 40, 80)
    whole = 8 * 16 + 4 * 24 + 2 * 40
    assert expected_tokens(spec, plan, 1000) == whole + 2 * 80
    assert expected_tokens(spec, plan, 1) == 80 + 2 * 80
    assert expected_tokens(spec, plan, 1000, saved=100) == whole - 100 + 2 * 80
    assert expected_tokens(spec, plan, 1000, saved=10**6) == 2 * 80
    limited = replace(spec, max_tokens=200)
    assert expected_tokens(limited, plan, 1000) == 200 + 2 * 80
    assert expected_tokens(limited, plan, 1000, saved=whole - 150) == 150 + 2 * 80


@given(st.integers(1, 60), st.integers(1, 60), st.none() | st.integers(80, 5000), st.sampled_from((0.3, 0.5)))
def test_as_many_trials_are_expected_as_the_tokens_suffice_for(num_trials, num_feasible, max_tokens, keep):
    spec = small_spec(num_trials=num_trials, rungs=Rungs(fractions=(0.25, 0.5), keep=keep, adaptive=False))
    plan = schedule(spec)
    found = expected_trials(replace(spec, max_tokens=max_tokens), plan, num_feasible)
    most = min(num_trials, num_feasible)
    assert 1 <= found <= most
    if max_tokens is None:
        assert found == most
        return
    assert expected_tokens(replace(spec, num_trials=found), plan, num_feasible) <= max_tokens
    if found < most:
        assert expected_tokens(replace(spec, num_trials=found + 1), plan, num_feasible) > max_tokens
