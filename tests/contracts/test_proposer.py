"""What every sampler of ``propose`` guarantees. To hold another to it, add what asks for it to ``SAMPLERS``."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.proposer import next_number, propose
from nas.sampling import Objective
from nas.search import Rungs
from nas.space import search_space
from nas.storage.store import TrialPoint
from nas.trial import Failure, FailureKind, Measurement, Point, Trial, TrialRole, TrialState
from tests.fakes import EPOCH, simulated_loss, small_spec
from tests.latencies import latency, table_of

SAMPLERS = {
    "tpe": {},
    "tpe with a hint": {"sampler": "tpe"},
    "random": {"sampler": "random"},
    "exhaustive": {"sampler": "exhaustive"},
    "exhaustive, shuffled": {"sampler": "exhaustive", "order": "shuffled"},
    "nearest-budget": {"sampler": "nearest-budget"},
    "nsga2, parameters": {"sampler": "nsga2", "objective": Objective(cost="parameters")},
    "nsga2, memory": {"sampler": "nsga2", "objective": Objective(cost="memory", batch=8)},
    "nsga2 with rungs": {"sampler": "nsga2", "objective": Objective(), "rungs": Rungs(fractions=(0.5,))},
    "nsga2, latency": {
        "sampler": "nsga2",
        "objective": Objective(cost="latency"),
        "budget": replace(small_spec().budget, latency=latency(max_ms=None, table=table_of(small_spec()))),
    },
    "nsga2, flops with a hint": {"sampler": "nsga2", "objective": Objective(cost="flops")},
}
IN_A_FIXED_ORDER = {"exhaustive", "nearest-budget"}
"""What these propose no seed changes."""
BY_ITS_NUMBER = SAMPLERS.keys() - IN_A_FIXED_ORDER - {"exhaustive, shuffled"}
"""What these propose the number of the next trial changes."""
FINAL = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED)


def spec_of(name):
    """A search over 19 architectures, few enough to try all of them."""
    spec = replace(small_spec(num_trials=8, rungs=Rungs(fractions=()), name=name), **SAMPLERS[name])
    return replace(spec, budget=replace(spec.budget, min_parameters=620_000))


def deep(architecture):
    """A hint that no space is ordered by."""
    return architecture.num_layers - architecture.hidden_size / 1000


def proposed(spec, space, trials, points):
    hint = deep if spec.name.endswith("with a hint") else None
    return propose(spec, space, trials, points, hint=hint)


@pytest.fixture(params=SAMPLERS)
def name(request):
    return request.param


@pytest.fixture
def spec(name):
    return spec_of(name)


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
        architecture = proposed(spec, space, trials, points)
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
    assert proposed(spec, space, trials, points) is None


def test_the_same_trials_give_the_same_proposal(spec):
    """Rebuilt from nothing each time, in any number of processes."""
    trials, points = search(spec, 12)
    proposals = {proposed(spec, search_space(spec), trials, points) for _ in range(3)}
    assert len(proposals) == 1
    again, _ = search(spec, 12)
    assert again == trials


def names_of(spec):
    """The first dozen proposals, by name."""
    return [trial.architecture.name for trial in search(spec, 12)[0]]


def test_another_process_proposes_the_same():
    """Whatever the seed of its hashes, by which sets are ordered."""
    root = Path(__file__).parents[2]
    script = (
        "import json; from tests.contracts.test_proposer import SAMPLERS, names_of, spec_of; "
        "print(json.dumps({name: names_of(spec_of(name)) for name in SAMPLERS}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout) == {name: names_of(spec_of(name)) for name in SAMPLERS}


def test_what_is_told_in_another_order_is_told_the_same(spec):
    """A store may list trials and points as it likes."""
    space = search_space(spec)
    trials, points = search(spec, 12)
    assert proposed(spec, space, trials[::-1], points[::-1]) == proposed(spec, space, trials, points)


def test_another_seed_gives_another_search_unless_the_order_is_fixed(name, spec):
    found = {
        tuple(trial.architecture for trial in search(replace(spec, seed=seed), 8)[0]) for seed in range(4)
    }
    assert len(found) == (1 if name in IN_A_FIXED_ORDER else 4)


@pytest.mark.parametrize("name", sorted(BY_ITS_NUMBER))
def test_the_number_of_the_next_trial_decides_with_the_seed(spec):
    """So that a trial that ended differently, or not at all, does not repeat the proposal before it."""
    space = search_space(spec)
    trials, points = search(spec, 8)
    later = [*trials, ended(40, trials[0].architecture, TrialState.FAILED, TrialRole.RANDOM_ARCHITECTURE)]
    assert next_number(later) == 41
    proposals = {
        proposed(spec, space, [*trials, replace(later[-1], number=number)], points) for number in range(8, 30)
    }
    assert len(proposals) > 1


@pytest.mark.parametrize("state", [TrialState.PROPOSED, TrialState.RUNNING, TrialState.WAITING])
def test_trials_under_way_are_not_proposed_again(spec, state):
    space = search_space(spec)
    trials, points = search(spec, 6)
    for number in range(6, len(space)):
        architecture = proposed(spec, space, trials, points)
        assert architecture not in {trial.architecture for trial in trials}
        trials.append(ended(number, architecture, state))
        if state is TrialState.WAITING:
            points.append(measured(trials[-1]))
    assert proposed(spec, space, trials, points) is None


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.STOPPED, TrialState.CANCELLED])
def test_a_search_of_which_nothing_completes_is_proposed_to_its_end(spec, state):
    space = search_space(spec)
    trials, points = search(spec, len(space) + 1, states=(state,))
    assert {trial.architecture for trial in trials} == set(space.architectures)
    assert proposed(spec, space, trials, points) is None


def test_what_people_enqueued_is_not_proposed_again(spec):
    """Nor is a search thrown off by it."""
    space = search_space(spec)
    trials = [ended(0, space.at(7)), ended(1, space.at(3)), ended(5, space.at(11))]
    assert proposed(spec, space, trials, []) in set(space.architectures) - {
        trial.architecture for trial in trials
    }


def test_architectures_of_baselines_may_be_proposed(spec):
    space = search_space(spec)
    baselines = [
        ended(number, architecture, role=TrialRole.RANDOM_ARCHITECTURE)
        for number, architecture in enumerate(space.architectures)
    ]
    assert proposed(spec, space, baselines, []) in space


def test_a_space_of_one_architecture_is_proposed_once(spec):
    lone = search_space(spec).smallest
    spec = replace(spec, budget=replace(spec.budget, max_parameters=lone.parameter_count))
    spec = replace(spec, budget=replace(spec.budget, min_parameters=lone.parameter_count))
    space = search_space(spec)
    assert proposed(spec, space, [], []) == lone
    assert proposed(spec, space, [ended(0, lone)], []) is None
