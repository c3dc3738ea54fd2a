"""What every sampler of ``propose`` guarantees. To hold another to it, add its name to ``SAMPLERS``."""

from dataclasses import replace

import pytest

from nas.proposer import next_number, propose
from nas.space import search_space
from nas.storage.store import TrialPoint
from nas.trial import Failure, FailureKind, Measurement, Point, Trial, TrialRole, TrialState
from tests.fakes import EPOCH, simulated_loss, small_spec

SAMPLERS = ("tpe", "random")
FINAL = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED)


@pytest.fixture(params=SAMPLERS)
def spec(request):
    """A search over 19 architectures, few enough to try all of them."""
    spec = small_spec(sampler=request.param, num_trials=8)
    return replace(spec, budget=replace(spec.budget, min_parameters=620_000))


def ended(number, architecture, state=TrialState.COMPLETED, role=TrialRole.SEARCH):
    """A trial with what belongs to its state."""
    measurement = Measurement(
        num_tokens=80,
        loss=simulated_loss(architecture, 80),
        loss_before_retraining=5.0,
        num_parameters=architecture.parameter_count,
        train_seconds=0.0,
    )
    failure = Failure(kind=FailureKind.ERROR, message="the code raised")
    return Trial(
        search_id="s1",
        number=number,
        architecture=architecture,
        role=role,
        state=state,
        measurement=measurement if state is TrialState.COMPLETED else None,
        failure=failure if state is TrialState.FAILED else None,
        created_at=EPOCH,
    )


def measured(trial):
    """The loss of a trial at the first rung."""
    loss = simulated_loss(trial.architecture, 40)
    return TrialPoint(trial_number=trial.number, point=Point(num_tokens=40, loss=loss, at=EPOCH))


def search(spec, num_trials, states=FINAL):
    """Propose one after another, each ending in the next of ``states``."""
    space = search_space(spec)
    trials, points = [], []
    for number in range(num_trials):
        architecture = propose(spec, space, trials, points)
        if architecture is None:
            break
        trials.append(ended(number, architecture, states[number % len(states)]))
        points.append(measured(trials[-1]))
    return trials, points


def test_every_proposal_is_feasible_and_new_until_none_is_left(spec):
    space = search_space(spec)
    trials, points = search(spec, len(space) + 1)
    assert {trial.architecture for trial in trials} == set(space.architectures)
    assert len(trials) == len(space) == 19
    assert propose(spec, space, trials, points) is None


def test_the_same_trials_give_the_same_proposal(spec):
    """Rebuilt from nothing each time, in any number of processes."""
    trials, points = search(spec, 12)
    proposals = {propose(spec, search_space(spec), trials, points) for _ in range(3)}
    assert len(proposals) == 1
    again, _ = search(spec, 12)
    assert again == trials


def test_another_seed_gives_another_search(spec):
    found = {
        tuple(trial.architecture for trial in search(replace(spec, seed=seed), 8)[0]) for seed in range(4)
    }
    assert len(found) == 4


def test_the_number_of_the_next_trial_decides_with_the_seed(spec):
    """So that a trial that ended differently, or not at all, does not repeat the proposal before it."""
    space = search_space(spec)
    trials, points = search(spec, 8)
    later = [*trials, ended(40, trials[0].architecture, TrialState.FAILED, TrialRole.RANDOM_ARCHITECTURE)]
    assert next_number(later) == 41
    proposals = {
        propose(spec, space, [*trials, replace(later[-1], number=number)], points) for number in range(8, 30)
    }
    assert len(proposals) > 1


@pytest.mark.parametrize("state", [TrialState.PROPOSED, TrialState.RUNNING, TrialState.WAITING])
def test_trials_under_way_are_not_proposed_again(spec, state):
    space = search_space(spec)
    trials, points = search(spec, 6)
    for number in range(6, len(space)):
        architecture = propose(spec, space, trials, points)
        assert architecture not in {trial.architecture for trial in trials}
        trials.append(ended(number, architecture, state))
        if state is TrialState.WAITING:
            points.append(measured(trials[-1]))
    assert propose(spec, space, trials, points) is None


def test_architectures_of_baselines_may_be_proposed(spec):
    space = search_space(spec)
    baselines = [
        ended(number, architecture, role=TrialRole.RANDOM_ARCHITECTURE)
        for number, architecture in enumerate(space.architectures)
    ]
    assert propose(spec, space, baselines, []) in space


def test_a_space_of_one_architecture_is_proposed_once(spec):
    lone = search_space(spec).smallest
    spec = replace(spec, budget=replace(spec.budget, max_parameters=lone.parameter_count))
    spec = replace(spec, budget=replace(spec.budget, min_parameters=lone.parameter_count))
    space = search_space(spec)
    assert propose(spec, space, [], []) == lone
    assert propose(spec, space, [ended(0, lone)], []) is None
