"""Which baselines a winner is judged by follows from spec, space and trials."""

from dataclasses import replace

from nas.comparisons import Baseline, missing_baselines, random_draws
from nas.search import Comparisons
from nas.space import search_space
from nas.trial import Trial, TrialRole, TrialState
from tests.fakes import EPOCH, small_spec

SPEC = small_spec(comparisons=Comparisons(random_architectures=3, random_indices=2))
SPACE = search_space(SPEC)
DRAWS = random_draws(SPEC, SPACE)


def trial(number, architecture, state=TrialState.COMPLETED, **changes):
    return Trial(
        search_id="s1", number=number, architecture=architecture, state=state, created_at=EPOCH, **changes
    )


WINNER = trial(0, next(each for each in SPACE.architectures if each not in DRAWS))


def missing(*trials):
    return missing_baselines(SPEC, SPACE, [WINNER, *trials], WINNER)


def fresh(architecture):
    return Baseline(role=TrialRole.RANDOM_ARCHITECTURE, architecture=architecture)


INDICES = Baseline(role=TrialRole.RANDOM_INDICES, architecture=WINNER.architecture)


def test_draws_are_distinct_feasible_and_fixed_by_the_seed():
    assert len(set(DRAWS)) == 3
    assert all(draw in SPACE for draw in DRAWS)
    assert random_draws(SPEC, SPACE) == DRAWS
    assert random_draws(replace(SPEC, seed=1), SPACE) != DRAWS


def test_more_draws_than_architectures_take_them_all():
    spec = small_spec(comparisons=Comparisons(random_architectures=1_000))
    assert set(random_draws(spec, SPACE)) == set(SPACE.architectures)


def test_at_first_all_are_missing():
    assert missing() == (*map(fresh, DRAWS), INDICES, INDICES)


def test_a_draw_that_the_search_completed_is_its_own_baseline():
    assert missing(trial(1, DRAWS[1])) == (fresh(DRAWS[0]), fresh(DRAWS[2]), INDICES, INDICES)


def test_a_draw_that_the_search_stopped_goes_on_from_where_it_stopped():
    stopped = trial(1, DRAWS[0], TrialState.STOPPED, rung=1, checkpoint="searches/s1/trials/1")
    going_on = replace(fresh(DRAWS[0]), checkpoint="searches/s1/trials/1", rung=1)
    assert missing(stopped) == (going_on, fresh(DRAWS[1]), fresh(DRAWS[2]), INDICES, INDICES)


def test_a_draw_that_failed_would_fail_again():
    assert fresh(DRAWS[0]) not in missing(trial(1, DRAWS[0], TrialState.FAILED))


def test_a_baseline_that_exists_is_not_made_again_whatever_became_of_it():
    drawn = [
        trial(1, DRAWS[0], role=TrialRole.RANDOM_ARCHITECTURE),
        trial(2, DRAWS[1], TrialState.FAILED, role=TrialRole.RANDOM_ARCHITECTURE),
        trial(3, DRAWS[2], TrialState.PROPOSED, role=TrialRole.RANDOM_ARCHITECTURE),
    ]
    indices = [trial(4 + n, WINNER.architecture, role=TrialRole.RANDOM_INDICES) for n in range(2)]
    assert missing(*drawn) == (INDICES, INDICES)
    assert missing(*drawn, indices[0]) == (INDICES,)
    assert missing(*drawn, *indices) == ()
