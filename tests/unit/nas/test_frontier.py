"""The best trial, the front, the gap and the comparison are read from trials alone."""

import pytest

from nas.comparisons import random_draws
from nas.frontier import Comparison, best_trial, compare, gap_closed, pareto_front
from nas.search import Comparisons
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.trial import Measurement, Trial, TrialRole, TrialState
from tests.fakes import EPOCH, ManualClock, running_search, small_spec

SPEC = small_spec(comparisons=Comparisons(random_architectures=3, random_indices=2))
SPACE = search_space(SPEC)


def measured(loss, *, num_parameters=100, num_tokens=80, before=5.0):
    return Measurement(
        num_tokens=num_tokens,
        loss=loss,
        loss_before_retraining=before,
        num_parameters=num_parameters,
        train_seconds=1.0,
    )


def completed(number, loss, *, architecture=None, role=TrialRole.SEARCH, **numbers):
    return Trial(
        search_id="s1",
        number=number,
        architecture=architecture or SPACE.architectures[number],
        role=role,
        state=TrialState.COMPLETED,
        measurement=measured(loss, **numbers),
        created_at=EPOCH,
    )


def test_the_best_trial_has_the_lowest_loss_then_fewest_parameters_then_lowest_number():
    trials = [completed(0, 2.0), completed(1, 1.5, num_parameters=90), completed(2, 1.5, num_parameters=80)]
    assert best_trial(trials).number == 2
    assert best_trial([*trials, completed(3, 1.5, num_parameters=80)]).number == 2
    assert best_trial([*trials, completed(4, 1.4, num_parameters=999)]).number == 4


def test_only_completed_search_trials_can_win():
    baseline = completed(1, 1.0, role=TrialRole.RANDOM_ARCHITECTURE)
    unfinished = Trial(
        search_id="s1",
        number=2,
        architecture=SPACE.architectures[2],
        state=TrialState.RUNNING,
        created_at=EPOCH,
    )
    assert best_trial([completed(0, 2.0), baseline, unfinished]).number == 0
    assert best_trial([baseline, unfinished]) is None
    assert best_trial([]) is None


def test_trials_compete_at_equal_tokens_only():
    assert best_trial([completed(0, 1.0, num_tokens=40), completed(1, 2.0)]).number == 1


def test_the_front_holds_what_no_smaller_one_beats():
    trials = [
        completed(0, 3.0, num_parameters=50),
        completed(1, 2.0, num_parameters=70),
        completed(2, 2.5, num_parameters=80),
        completed(3, 1.0, num_parameters=90),
        completed(4, 1.5, num_parameters=90),
        completed(5, 0.1, num_parameters=10, role=TrialRole.RANDOM_INDICES),
        completed(6, 0.1, num_parameters=10, num_tokens=40),
    ]
    assert [trial.number for trial in pareto_front(trials)] == [0, 1, 3]
    assert pareto_front([]) == ()


@pytest.mark.parametrize(
    ("loss", "before", "parent", "share"),
    [
        (2.0, 5.0, 2.0, 1.0),
        (3.5, 5.0, 2.0, 0.5),
        (5.0, 5.0, 2.0, 0.0),
        (1.0, 5.0, 3.0, 2.0),
        (1.0, 2.0, 2.0, None),
    ],
)
def test_the_gap_closed_is_a_share_of_what_pruning_lost(loss, before, parent, share):
    assert gap_closed(loss, pruned_loss=before, parent_loss=parent) == share


def test_a_comparison_counts_the_draws_that_the_search_completed():
    clock = ManualClock()
    search, _ = running_search(InMemoryStore(clock), SPEC, clock)
    first, second, _ = random_draws(SPEC, SPACE)
    others = [each for each in SPACE.architectures if each not in {first, second}]
    winner = completed(0, 1.5, architecture=others[0])
    trials = [
        winner,
        completed(1, 1.8, architecture=first),
        completed(2, 1.9, architecture=others[1]),
        completed(3, 2.2, architecture=second, role=TrialRole.RANDOM_ARCHITECTURE),
        completed(4, 2.5, architecture=others[0], role=TrialRole.RANDOM_INDICES),
    ]
    assert compare(search, set(random_draws(SPEC, SPACE)), trials) == Comparison(
        winner_loss=1.5, parent_loss=1.0, random_architectures=(1.8, 2.2), random_indices=(2.5,)
    )
    assert compare(search, set(random_draws(SPEC, SPACE)), trials[3:]) is None
