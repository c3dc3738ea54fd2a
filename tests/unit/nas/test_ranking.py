"""Who is ahead at a rung where a cost is weighed: none that another beats in both before one that nobody does."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nas.budget import Budget
from nas.frontier import best_trial, pareto_front
from nas.proposer import propose
from nas.ranking import by_loss, by_loss_and_cost, fronts, ranking_of
from nas.rungs import decide, losses_by_trial, schedule
from nas.sampling import Objective
from nas.search import Rungs
from nas.space import search_space
from nas.trial import TrialState
from tests.fakes import simulated_loss, small_spec
from tests.searches import make_point, make_trial
from tests.unit.nas.test_samplers import completed, hypervolume

few = st.integers(0, 5)
measured = st.lists(st.tuples(few.map(float), few), min_size=1, max_size=25).map(
    lambda pairs: (
        {number: loss for number, (loss, _) in enumerate(pairs)},
        {number: cost for number, (_, cost) in enumerate(pairs)},
    )
)
"""Losses and costs of trials, many of them equal."""


def beats(one, other, losses, costs):
    ours, theirs = (losses[one], costs[one]), (losses[other], costs[other])
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


@given(measured)
def test_fronts_are_peeled_off_one_after_another(given_):
    losses, costs = given_
    left = set(losses)
    for front in fronts(losses, costs):
        unbeaten = {each for each in left if not any(beats(other, each, losses, costs) for other in left)}
        assert set(front) == unbeaten
        assert front == sorted(front, key=lambda number: (costs[number], losses[number], number))
        left -= unbeaten
    assert not left


@given(measured)
def test_ranks_hold_each_trial_once_and_nobody_is_behind_whom_it_beats(given_):
    losses, costs = given_
    ranked = by_loss_and_cost(losses, costs)
    assert sorted(ranked) == sorted(losses)
    place = {number: index for index, number in enumerate(ranked)}
    assert all(
        place[one] < place[other] for one in losses for other in losses if beats(one, other, losses, costs)
    )


@given(measured)
def test_the_lowest_loss_leads_and_the_cheapest_follows(given_):
    losses, costs = given_
    ranked = by_loss_and_cost(losses, costs)
    best = min((losses[number], costs[number]) for number in losses)
    cheapest = min((costs[number], losses[number]) for number in losses)
    assert (losses[ranked[0]], costs[ranked[0]]) == best
    others = [number for number in ranked if (losses[number], costs[number]) != best]
    if cheapest[::-1] != best:
        assert (costs[others[0]], losses[others[0]]) == cheapest


@given(measured, st.randoms())
def test_the_order_of_what_is_told_decides_nothing(given_, random):
    losses, costs = given_
    shuffled = random.sample(sorted(losses), len(losses))
    assert by_loss_and_cost({each: losses[each] for each in shuffled}, costs) == by_loss_and_cost(
        losses, costs
    )
    assert by_loss({each: losses[each] for each in shuffled}) == by_loss(losses)


@given(measured)
def test_at_one_cost_the_loss_alone_decides(given_):
    losses, costs = given_
    assert by_loss_and_cost(losses, dict.fromkeys(costs, 1)) == by_loss(losses)


def test_of_one_front_the_lonely_come_before_the_crowded():
    """Worked by hand: ends first, then by how far the neighbours lie apart, each axis in shares of the front."""
    losses = {0: 3.0, 1: 2.9, 2: 2.8, 3: 2.0, 4: 1.0, 5: 9.0}
    costs = {0: 0, 1: 10, 2: 20, 3: 60, 4: 100, 5: 50}
    apart = {1: 0.2 / 2 + 20 / 100, 2: 0.9 / 2 + 50 / 100, 3: 1.8 / 2 + 80 / 100}
    assert sorted(apart, key=apart.get, reverse=True) == [3, 2, 1]
    assert by_loss_and_cost(losses, costs) == [4, 0, 3, 2, 1, 5]


def test_a_search_without_an_objective_ranks_by_loss_and_one_with_by_its_cost():
    assert ranking_of(None, []) is by_loss
    space = search_space(small_spec())
    trials = [make_trial(n, architecture=each) for n, each in enumerate((space.largest, space.smallest))]
    ranking = ranking_of(Objective(cost="flops"), trials)
    assert ranking({0: 2.0, 1: 3.0}) == [0, 1]
    assert ranking({0: 2.0, 1: 1.0}) == [1, 0]


def test_what_costs_little_is_not_stopped_for_its_loss():
    """Of four at a rung the best two advance: by loss the two largest, by loss and cost also the smallest."""
    space = search_space(small_spec())
    sizes = sorted(space.architectures, key=lambda each: each.parameter_count)
    trials = [
        make_trial(number, architecture=sizes[place], state=TrialState.WAITING)
        for number, place in enumerate((0, len(sizes) // 3, -2, -1))
    ]
    losses = losses_by_trial(make_point(number, 40, loss) for number, loss in enumerate((4.0, 3.0, 2.1, 2.0)))
    plan, ranking = schedule(small_spec()), ranking_of(Objective(), trials)
    assert decide(trials, losses, plan, asked=HALF, more_to_come=False).advance == (2, 3)
    found = decide(trials, losses, plan, asked=HALF, more_to_come=False, ranking=ranking)
    assert (found.advance, found.stop) == ((0, 3), (1, 2))


HALF = Rungs(fractions=(0.5,), keep=0.5, adaptive=False)
OBJECTIVE = Objective(cost="flops")
WIDE = {
    "budget": Budget(max_parameters=10**6),
    "sampler": "nsga2",
    "objective": OBJECTIVE,
    "rungs": Rungs(fractions=(0.25,), keep=0.5, adaptive=False),
    "num_trials": 60,
}


def front_at(seed, *, rank_of):
    """The front of a search whose trials are compared at a rung, each measured by formula."""
    spec = small_spec(**WIDE, seed=seed)
    space, plan = search_space(spec), schedule(spec)
    trials, points = [], []
    for number in range(spec.num_trials):
        architecture = propose(spec, space, trials, points)
        trials.append(make_trial(number, architecture=architecture, state=TrialState.WAITING))
        points.append(make_point(number, plan.rungs[0], simulated_loss(architecture, plan.rungs[0])))
        more = number + 1 < spec.num_trials
        found = decide(
            trials, losses_by_trial(points), plan, asked=HALF, more_to_come=more, ranking=rank_of(trials)
        )
        for each in found.advance:
            loss = simulated_loss(trials[each].architecture, plan.num_tokens)
            trials[each] = replace(completed(each, trials[each].architecture, loss), rung=1)
            points.append(make_point(each, plan.num_tokens, loss))
        for each in found.stop:
            trials[each] = replace(trials[each], state=TrialState.STOPPED)
    assert all(trial.state.is_final for trial in trials)
    front = pareto_front(trials, OBJECTIVE)
    assert best_trial(trials) in front
    return front


def test_rungs_that_weigh_the_cost_leave_a_better_front_than_rungs_that_do_not():
    """In the mean over seeds, as many trials being stopped at the same rung."""
    architectures = search_space(small_spec(**WIDE)).architectures
    worst = {
        "loss": max(simulated_loss(each, 80) for each in architectures),
        "cost": max(map(OBJECTIVE.of, architectures)),
    }

    def area(rank_of):
        return sum(hypervolume(front_at(seed, rank_of=rank_of), OBJECTIVE, **worst) for seed in range(4))

    weighed = area(lambda trials: ranking_of(OBJECTIVE, trials))
    assert weighed > 1.02 * area(lambda _: by_loss)
