"""The samplers one by one: what each is for."""

import itertools
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.axes import Axes, Range
from nas.budget import Budget, MemoryBudget, WorkBudget
from nas.driver import Driver
from nas.earlier import Prior
from nas.errors import InvalidSpec
from nas.frontier import best_trial, pareto_front
from nas.proposer import propose
from nas.samplers import learned
from nas.samplers.ordered import shuffled, zero_shot_choice
from nas.samplers.sampler import HINTED_DRAWS, Draws, Past
from nas.samplers.told import ask
from nas.sampling import Objective
from nas.search import Rungs
from nas.service import SearchService
from nas.space import search_space
from nas.spec import parse_spec, spec_to_json
from nas.storage.memory import InMemoryStore
from nas.trial import Measurement, Origin, Trial, TrialRole, TrialState
from tests.fakes import (
    EPOCH,
    FakeExecutor,
    ManualClock,
    Simulation,
    running_search,
    simulated_loss,
    small_spec,
)

NOTHING = Past(trials=(), losses={})


def completed(number, architecture, loss=None):
    measurement = Measurement(
        num_tokens=80,
        loss=simulated_loss(architecture, 80) if loss is None else loss,
        loss_before_retraining=5.0,
        num_parameters=architecture.parameter_count,
        train_seconds=0,
    )
    return Trial(
        search_id="s1",
        number=number,
        architecture=architecture,
        state=TrialState.COMPLETED,
        measurement=measurement,
        created_at=EPOCH,
    )


def searched(spec, num_trials):
    """Trials that all complete, proposed one after another."""
    space, trials = search_space(spec), []
    for number in range(num_trials):
        trials.append(completed(number, propose(spec, space, trials, [])))
    return trials


def test_exhaustive_goes_through_the_space_in_its_order():
    spec = small_spec(sampler="exhaustive")
    space = search_space(spec)
    assert [trial.architecture for trial in searched(spec, 20)] == list(space.architectures[:20])


def test_a_shuffle_goes_on_from_what_a_shorter_search_tried():
    """As many trials more, the same ones before: it is one order, whatever happens on the way."""
    spec = small_spec(sampler="exhaustive", order="shuffled")
    space = search_space(spec)
    trials = searched(spec, 20)
    order = [space.at(row) for row in shuffled(len(space), spec.seed)]
    assert [trial.architecture for trial in trials] == order[:20]
    assert propose(spec, space, [*trials[:5], *trials[6:]], []) == trials[5].architecture
    assert order[:20] != list(space.architectures[:20])


@given(num=st.integers(0, 200), seed=st.integers(-(2**63), 2**63))
def test_a_shuffle_has_every_number_once(num, seed):
    assert sorted(shuffled(num, seed)) == list(range(num))


def test_every_order_of_three_comes_as_often():
    orders = Counter(tuple(shuffled(3, seed)) for seed in range(3000))
    assert set(orders) == set(itertools.permutations(range(3)))
    assert max(orders.values()) < 1.3 * min(orders.values())


def test_a_shuffle_of_a_large_space_is_not_listed():
    assert len(set(itertools.islice(shuffled(10**15, 0), 1000))) == 1000


def test_nearest_budget_begins_at_the_upper_end_and_goes_down():
    spec = small_spec(sampler="nearest-budget")
    counts = [spec.budget.count(trial.architecture) for trial in searched(spec, 30)]
    assert counts == sorted(map(spec.budget.count, search_space(spec).architectures), reverse=True)[:30]


def test_the_largest_come_first_and_equals_in_the_order_of_the_space():
    spec = small_spec(budget=Budget(max_parameters=640_000, min_parameters=300_000))
    space = search_space(spec)
    count = spec.budget.count
    ordered = sorted(space.architectures, key=lambda each: -count(each))
    assert len({count(each) for each in ordered}) < len(ordered), "there are equals"
    assert list(space.largest_first()) == ordered


def test_nearest_budget_counts_as_its_budget_does():
    spec = small_spec(sampler="nearest-budget")
    budget = Budget(max_parameters=500_000, counting="non_embedding")
    spec = small_spec(sampler="nearest-budget", budget=budget)
    counts = [trial.architecture.non_embedding_parameters for trial in searched(spec, 30)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == max(each.non_embedding_parameters for each in search_space(spec).architectures)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(memory=MemoryBudget(max_bytes=1_800_000, context=512)),
        Budget(work=WorkBudget(max_flops=5_000_000, context=4096)),
    ],
    ids=["memory", "work"],
)
def test_nearest_budget_goes_by_what_the_budget_bounds(budget):
    """Which is not by parameters where these are not bounded."""
    spec = small_spec(sampler="nearest-budget", budget=budget)
    (bounded,) = (limit for limit in budget.limits if limit.most is not None)
    tried = [trial.architecture for trial in searched(spec, 30)]
    costs = [bounded.measure(each) for each in tried]
    assert costs == sorted(map(bounded.measure, search_space(spec).architectures), reverse=True)[:30]
    sizes = [each.parameter_count for each in tried]
    assert sizes != sorted(sizes, reverse=True)


def test_the_rule_of_nearest_budget_takes_the_best_before_retraining():
    """Which need not be the best after it."""
    architectures = [trial.architecture for trial in searched(small_spec(sampler="nearest-budget"), 3)]
    trials = [completed(0, architectures[0], 1.0), completed(1, architectures[1], 2.0)]
    trials.append(completed(2, architectures[2], 0.5))
    losses = {0: {0: 5.0, 80: 1.0}, 1: {0: 4.0, 80: 2.0}, 2: {80: 0.5}}
    assert zero_shot_choice(trials, losses) == trials[1]
    assert best_trial(trials) == trials[2]
    assert zero_shot_choice(trials, {}) is None


def test_a_baseline_is_none_of_what_the_rule_looked_at():
    (trial,) = searched(small_spec(sampler="nearest-budget"), 1)
    baseline = Trial(
        search_id="s1",
        number=1,
        architecture=trial.architecture,
        role=TrialRole.RANDOM_ARCHITECTURE,
        created_at=EPOCH,
    )
    assert zero_shot_choice([trial, baseline], {0: {0: 5.0}, 1: {0: 4.0}}) == trial


COSTS = [Objective(cost="parameters"), Objective(cost="memory", batch=32), Objective(cost="flops")]


def hypervolume(front, objective, *, loss, cost):
    """The area below ``loss`` and ``cost`` that a front dominates."""
    total, before = 0.0, loss
    for trial in front:
        total += (before - trial.measurement.loss) * (cost - objective.of(trial.architecture))
        before = trial.measurement.loss
    return total


def test_nsga2_finds_a_better_front_than_even_draws():
    """In the mean over seeds, in as many trials of some thousand architectures."""
    objective = Objective(cost="flops")
    axes = Axes(
        num_layers=(2, 3, 4, 5, 6),
        hidden_size=Range(start=64, stop=128, step=4),
        intermediate_size=Range(start=32, stop=256, step=8),
        num_attention_heads=(4, 8),
    )
    wide = {
        "axes": axes,
        "budget": Budget(max_parameters=10**6),
        "num_trials": 100,
        "rungs": Rungs(fractions=()),
    }
    architectures = search_space(small_spec(**wide)).architectures
    worst = {
        "loss": max(simulated_loss(each, 80) for each in architectures),
        "cost": max(map(objective.of, architectures)),
    }

    def area(seed, **sampled):
        trials = searched(small_spec(**wide, seed=seed, **sampled), 100)
        return hypervolume(pareto_front(trials, objective), objective, **worst)

    by_nsga2 = [area(seed, sampler="nsga2", objective=objective) for seed in range(5)]
    by_chance = [area(seed, sampler="random") for seed in range(5)]
    assert sum(by_nsga2) > 1.005 * sum(by_chance)


@pytest.mark.parametrize("objective", COSTS, ids=lambda each: each.cost)
def test_nsga2_is_told_loss_and_cost_of_whole_generations(objective, monkeypatch):
    told = []

    def listen(sampler, trials, *args, **options):
        told.append(trials)
        return ask(sampler, trials, *args, **options)

    monkeypatch.setattr(learned, "ask", listen)
    spec = small_spec(num_trials=16, rungs=Rungs(fractions=()), sampler="nsga2", objective=objective)
    trials = searched(spec, 16)
    assert len(told) == 11
    assert [each.values for each in told[-1]] == [
        [trial.measurement.loss, objective.of(trial.architecture)] for trial in trials[:15]
    ]
    generations = [each.system_attrs["NSGAIISampler:generation"] for each in told[-1]]
    assert generations == [0] * 15
    generations = [each.system_attrs["NSGAIISampler:generation"] for each in told[-2]]
    assert generations == [0] * 10 + [1] * 4, "what is not whole yet has no children"


def test_children_of_nsga2_have_the_best_of_all_before_as_parents(monkeypatch):
    """Optuna's own attribute says which are before: were it renamed, none would have parents."""
    parents = []
    select = learned.NSGAIISampler.select_parent

    def listen(sampler, study, generation):
        selected = select(sampler, study, generation)
        parents.append((generation, {trial.number for trial in selected}))
        return selected

    monkeypatch.setattr(learned.NSGAIISampler, "select_parent", listen)
    objective = Objective()
    spec = small_spec(num_trials=16, rungs=Rungs(fractions=()), sampler="nsga2", objective=objective)
    trials = searched(spec, 16)
    assert len(parents) == 11
    for number, (generation, selected) in zip(range(5, 16), parents, strict=True):
        before = trials[: number // 5 * 5]
        assert generation == 1
        assert len(selected) == 5
        front = {trial.number for trial in pareto_front(before, objective)}
        assert front <= selected or selected <= front


def test_what_came_before_are_the_first_parents_of_nsga2(monkeypatch):
    """Told before the search's own, and each in the place of an even draw."""
    told = []

    def listen(sampler, trials, *args, **options):
        told.append(trials)
        return ask(sampler, trials, *args, **options)

    monkeypatch.setattr(learned, "ask", listen)
    objective = Objective(cost="memory")
    spec = small_spec(num_trials=16, rungs=Rungs(fractions=()), sampler="nsga2", objective=objective)
    space, trials = search_space(spec), []
    origin = Origin(search_id="earlier", trial_number=0)
    priors = [
        Prior(architecture=space.at(row), loss=2.0 + row, standing=0.3, source=origin) for row in (3, 9)
    ]
    for number in range(9):
        trials.append(completed(number, propose(spec, space, trials, [], priors=priors)))
    assert len(told) == 6, "the first three are even draws: five are a generation"
    of_priors = told[-1][:2]
    assert [each.values for each in of_priors] == [
        [0.3, objective.of(prior.architecture)] for prior in priors
    ]
    assert [each.system_attrs["NSGAIISampler:generation"] for each in told[-1]] == [0] * 10
    assert [each.system_attrs["NSGAIISampler:generation"] for each in told[-2]] == [0] * 5 + [1] * 4
    alone = [completed(number, propose(spec, space, trials[:number], [])) for number in range(9)]
    assert [t.architecture for t in alone[:3]] == [t.architecture for t in trials[:3]]
    again = [propose(spec, space, trials, [], priors=priors) for _ in range(2)]
    assert again[0] == again[1]


def test_nsga2_goes_on_for_thousands_of_trials():
    spec = small_spec(num_trials=40, rungs=Rungs(fractions=()), sampler="nsga2", objective=Objective())
    space = search_space(small_spec(budget=Budget(max_parameters=10**6)))
    trials = [completed(number, space.at(number % (len(space) - 1))) for number in range(6000)]
    assert propose(spec, space, trials, []) == space.at(len(space) - 1)


@pytest.mark.parametrize("objective", COSTS, ids=lambda each: each.cost)
def test_a_front_is_of_what_the_search_weighs(objective):
    """None of it is beaten by another that costs no more, and all else is."""
    trials = searched(small_spec(sampler="random", num_trials=60), 60)
    front = pareto_front(trials, objective)
    placed = [(objective.of(each.architecture), each.measurement.loss) for each in trials]
    for trial, (cost, loss) in zip(trials, placed, strict=True):
        is_beaten = any(other != (cost, loss) and other[0] <= cost and other[1] <= loss for other in placed)
        assert is_beaten != (trial in front)
    assert best_trial(trials) in front


def test_costs_are_those_of_the_architecture():
    (trial,) = searched(small_spec(), 1)
    shape = trial.architecture
    assert Objective().of(shape) == shape.parameter_count
    memory = Objective(cost="memory", batch=3, context=100, dtype="float32")
    cache = 3 * 100 * 2 * shape.num_layers * shape.num_key_value_heads * shape.head_dim * 4
    assert memory.of(shape) == 4 * shape.parameter_count + cache
    assert Objective(cost="flops", context=100).of(shape) == shape.flops_per_token(context=100)


def test_a_hint_picks_the_likeliest_of_a_few_even_draws():
    space = search_space(small_spec())
    asked = []

    def hint(architecture):
        asked.append(architecture)
        return architecture.hidden_size

    found = Draws(hint=hint).propose(space, NOTHING, Random(0))
    assert len(set(asked)) == HINTED_DRAWS
    assert set(asked) <= set(space.architectures)
    assert found.hidden_size == max(each.hidden_size for each in asked)


def test_a_hint_leads_the_first_trials_alone():
    """Then what was measured does."""
    spec = small_spec(num_trials=20, prior="importance_kept")
    space = search_space(spec)

    def first(hint):
        trials = []
        for number in range(10):
            trials.append(completed(number, propose(spec, space, trials, [], hint=hint)))
        return trials

    narrow = first(lambda architecture: -architecture.hidden_size)
    even = first(None)
    assert sum(t.architecture.hidden_size for t in narrow) < sum(t.architecture.hidden_size for t in even)
    assert propose(spec, space, even, [], hint=lambda _: 1 / 0) is not None


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"sampler": "nsga2"}, "objective", "found none, allowed with sampler nsga2: a cost"),
        ({"objective": {"cost": "flops"}}, "objective", "allowed with sampler tpe: none"),
        ({"order": "shuffled"}, "order", "found shuffled, allowed with sampler tpe: space"),
        ({"sampler": "random", "prior": "importance_kept"}, "prior", "allowed with sampler random: none"),
        ({"sampler": "nsga2", "objective": {"batch": 0}}, "objective.batch", "found 0, allowed: 1 to"),
        (
            {"sampler": "nsga2", "objective": {"cost": "joy"}},
            "objective.cost",
            "'parameters', 'memory', 'flops' or",
        ),
        ({"sampler": "grid"}, "sampler", "'tpe', 'nsga2', 'random', 'exhaustive' or 'nearest-budget'"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused_with_field_and_reason(asked, field, reason):
    content = {**spec_to_json(small_spec(rungs=Rungs(fractions=()))), **asked}
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(content)
    ((found, told),) = refused.value.problems
    assert found == field
    assert reason in told


def test_specs_that_were_stored_before_keep_their_meaning():
    content = spec_to_json(small_spec())
    for later in ("order", "objective", "prior"):
        del content[later]
    assert parse_spec(content) == small_spec()


def test_a_spec_of_nsga2_reads_as_it_was_written():
    objective = Objective(cost="memory", batch=4, context=8192, dtype="float16")
    spec = small_spec(
        sampler="nsga2", objective=objective, rungs=Rungs(fractions=()), prior="importance_kept"
    )
    assert parse_spec(spec_to_json(spec)) == spec


@pytest.fixture
def played(tmp_path):
    """Run a search by its driver, and return the store it lies in."""

    def play(**changes):
        store = InMemoryStore()
        clock = ManualClock()
        spec = small_spec(rungs=Rungs(fractions=()), **changes)
        search, lease = running_search(store, spec, clock)
        executor = FakeExecutor(Simulation(directory=tmp_path, spec=spec))
        executor.run(Driver(search, store, lease, clock))
        return store

    return play


@pytest.mark.parametrize("sampler", ["exhaustive", "nearest-budget"])
def test_a_whole_space_is_searched_where_as_many_trials_are_asked_for(played, sampler):
    """And no more than there is."""
    budget = Budget(min_parameters=620_000, max_parameters=640_000)
    store = played(sampler=sampler, budget=budget, num_trials=100, max_parallel=3)
    trials = store.trials("s1")
    assert {trial.architecture for trial in trials} == set(
        search_space(small_spec(budget=budget)).architectures
    )
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert len(trials) == 19


def test_as_many_trials_as_are_asked_for_cap_an_exhaustive_search(played):
    assert len(played(sampler="exhaustive", num_trials=4).trials("s1")) == 4


def test_the_front_that_is_served_is_of_what_the_search_weighs(played, tmp_path):
    objective = Objective(cost="flops", context=65_536)
    store = played(sampler="nsga2", objective=objective, num_trials=40)
    trials = store.trials("s1")
    front = SearchService(store, artifact_root=tmp_path).front("s1")
    assert front == pareto_front(trials, objective)
    assert front != pareto_front(trials)
    assert best_trial(trials) == front[-1]
