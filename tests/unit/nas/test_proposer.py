"""Proposals by TPE are worth their name, quick, quiet and told the truth about the trials."""

import logging
import statistics
import time

import optuna
import pytest

from nas.proposer import propose
from nas.space import search_space
from nas.storage.store import TrialPoint
from nas.trial import Measurement, Point, Trial, TrialRole, TrialState
from tests.fakes import EPOCH, simulated_loss, small_spec


def completed(number, architecture):
    loss = simulated_loss(architecture, 80)
    measurement = Measurement(
        num_tokens=80, loss=loss, loss_before_retraining=5.0, num_parameters=1, train_seconds=0
    )
    return Trial(
        search_id="s1",
        number=number,
        architecture=architecture,
        state=TrialState.COMPLETED,
        measurement=measurement,
        created_at=EPOCH,
    )


def best_loss(sampler, seed, *, num_trials=20):
    spec = small_spec(num_trials=num_trials, sampler=sampler, seed=seed)
    space = search_space(spec)
    trials = []
    for number in range(num_trials):
        trials.append(completed(number, propose(spec, space, trials, [])))
    return min(trial.measurement.loss for trial in trials)


def test_tpe_finds_better_students_than_random_draws():
    """In the median over seeds, in as many trials of a space of 135."""
    tpe = statistics.median(best_loss("tpe", seed) for seed in range(9))
    random = statistics.median(best_loss("random", seed) for seed in range(9))
    assert tpe < random - 0.003


def test_the_first_proposals_are_the_same_even_draws_for_every_sampler():
    spaces = {sampler: search_space(small_spec()) for sampler in ("tpe", "random")}
    first = {
        sampler: propose(small_spec(sampler=sampler, num_trials=20), space, [], [])
        for sampler, space in spaces.items()
    }
    assert first["tpe"] == first["random"]


def test_a_proposal_after_hundreds_of_trials_takes_a_moment():
    spec = small_spec(num_trials=500)
    space = search_space(spec)
    trials = [completed(number, each) for number, each in enumerate(space.architectures[:-5])]
    points = [
        TrialPoint(trial_number=trial.number, point=Point(num_tokens=num_tokens, loss=2.0, at=EPOCH))
        for trial in trials
        for num_tokens in (0, 16, 40, 80)
    ]
    started = time.perf_counter()
    assert propose(spec, space, trials, points) in space.architectures[-5:]
    assert time.perf_counter() - started < 5


def test_optuna_says_nothing_and_keeps_its_verbosity(capfd):
    spec = small_spec(num_trials=2)
    space = search_space(spec)
    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        assert propose(spec, space, [completed(0, space.smallest)], []) is not None
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(logging.INFO)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def told(monkeypatch):
    """The trials that Optuna is told of at each proposal."""
    told = []
    add_trials = optuna.Study.add_trials

    def listen(study, trials):
        told.append(list(trials))
        add_trials(study, trials)

    monkeypatch.setattr(optuna.Study, "add_trials", listen)
    return told


def test_optuna_is_told_how_each_search_trial_stands_and_of_no_other(told):
    spec = small_spec(num_trials=2)
    space = search_space(spec)
    architectures = space.architectures

    def trial(number, state, role=TrialRole.SEARCH):
        return Trial(
            search_id="s1",
            number=number,
            architecture=architectures[number],
            state=state,
            role=role,
            created_at=EPOCH,
        )

    trials = [
        completed(0, architectures[0]),
        trial(1, TrialState.STOPPED),
        trial(2, TrialState.RUNNING),
        trial(3, TrialState.WAITING),
        trial(4, TrialState.PROPOSED),
        trial(5, TrialState.FAILED),
        trial(6, TrialState.COMPLETED, TrialRole.RANDOM_INDICES),
    ]
    points = [
        TrialPoint(trial_number=number, point=Point(num_tokens=num_tokens, loss=loss, at=EPOCH))
        for number, num_tokens, loss in ((1, 0, 5.0), (1, 40, 3.0), (3, 40, 2.0), (6, 40, 1.0))
    ]
    propose(spec, space, trials, points)
    (found,) = told
    assert [each.state.name for each in found] == [
        "COMPLETE", "PRUNED", "RUNNING", "RUNNING", "RUNNING", "FAIL",
    ]  # fmt: skip
    assert found[0].value == simulated_loss(architectures[0], 80)
    assert found[1].intermediate_values == {0: 5.0, 40: 3.0}
    searched = {name for name, num in space.num_ordinals.items() if num > 1}
    assert [each.params for each in found] == [
        {name: ordinal for name, ordinal in space.ordinals(each).items() if name in searched}
        for each in architectures[:6]
    ]


def test_what_optuna_wishes_for_is_made_feasible(monkeypatch):
    """The nearest architecture that was not tried, and Optuna's wishes are not all feasible."""
    wishes = []
    ask = optuna.Study.ask

    def listen(study, distributions):
        wishes.append(ask(study, distributions))
        return wishes[-1]

    monkeypatch.setattr(optuna.Study, "ask", listen)
    spec = small_spec(num_trials=20)
    space = search_space(spec)
    trials, infeasible = [], 0
    for number in range(20):
        proposed = propose(spec, space, trials, [])
        if wishes:
            wish = wishes[-1].params
            assert proposed == space.nearest(wish, {trial.architecture for trial in trials})
            infeasible += space.ordinals(proposed) != wish
        trials.append(completed(number, proposed))
    assert len(wishes) == 10
    assert infeasible > 0
