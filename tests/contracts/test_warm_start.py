"""What searches measured before is where another begins, over every store: told, never counted, settled once."""

from dataclasses import replace

import pytest

from nas.budget import Budget
from nas.driver import Driver
from nas.earlier import HistoryUse, Prior
from nas.errors import LostLease
from nas.priors import MOST_PRIORS, standings, told_losses
from nas.sampling import Objective
from nas.search import Comparisons, Rungs
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.storage.store import Lease
from nas.trial import Origin
from tests.contracts.test_reuse import MADE_FROM, Bench
from tests.fakes import Fuse, FusedStore, ManualClock, RunnerKilled, running_search, small_spec, taken_over
from tests.searches import make_trial

OTHER_RECIPE = {"training": replace(small_spec().training, peak_learning_rate=1e-4)}
FEW = {"num_trials": 5, "rungs": Rungs(fractions=()), "sampler": "random"}


@pytest.fixture
def bench(store, tmp_path):
    return Bench(store, tmp_path)


@pytest.fixture
def quick(tmp_path):
    return Bench(InMemoryStore(), tmp_path)


def begun(bench, search_id="new", *, made_from=MADE_FROM, workspace="default", **changes):
    """A search that a driver has taken up and of which nothing was proposed yet, and its priors."""
    search, lease = running_search(
        bench.store,
        small_spec(**changes),
        bench.clock,
        search_id=search_id,
        made_from=made_from,
        workspace=workspace,
    )
    Driver(search, bench.store, lease, bench.clock)
    priors = bench.store.priors(search_id)
    assert bench.store.get_search(search_id).num_priors == len(priors)
    return priors


def test_what_was_settled_first_stands(store):
    prior = Prior(
        architecture=make_trial().architecture, loss=2.5, standing=0.25,
        source=Origin(search_id="earlier", trial_number=3),
    )  # fmt: skip
    clock = ManualClock()
    search, lease = running_search(store, small_spec(), clock)
    assert (search.num_priors, store.priors("s1")) == (None, [])
    with pytest.raises(LostLease):
        store.save_priors([prior], Lease(search_id="s1", owner="another"))
    store.save_priors([prior, replace(prior, standing=None)], lease)
    store.save_priors([], lease)
    store.save_search(replace(store.get_search("s1"), num_priors=None, parent_loss=3.0), lease)
    assert store.priors("s1") == [prior, replace(prior, standing=None)]
    assert store.get_search("s1").num_priors == 2


def test_a_search_with_another_recipe_begins_from_ranks(bench):
    trials = bench.run("s1", **FEW)
    priors = begun(bench, **OTHER_RECIPE)
    assert {prior.architecture: prior.loss for prior in priors} == {
        trial.architecture: trial.measurement.loss for trial in trials
    }
    by_loss = sorted(priors, key=lambda prior: prior.loss)
    assert [prior.standing for prior in by_loss] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert {prior.source for prior in priors} == {
        Origin(search_id="s1", trial_number=number) for number in range(5)
    }
    assert bench.store.trials("new") == []  # they are no trials


def test_where_recipe_and_data_are_the_same_losses_compare(quick):
    quick.run("s1", **FEW)
    budget = Budget(min_parameters=500_000, max_parameters=640_000)
    assert [prior.standing for prior in begun(quick, budget=budget)] == [None] * 5


def test_what_tells_nothing_of_the_space_is_left_out(quick):
    comparisons = Comparisons(random_indices=1)
    quick.run("s1", **FEW, comparisons=comparisons)
    assert len(begun(quick, **OTHER_RECIPE)) == 5  # of six trials; random indices tell of no architecture
    axes = replace(small_spec().axes, num_layers=(6,))
    deep = begun(quick, "deep", axes=axes, **OTHER_RECIPE)
    assert {prior.architecture.num_layers for prior in deep} == {6}
    assert 0 < len(deep) < 5


@pytest.mark.parametrize(
    "changes",
    [
        {"made_from": replace(MADE_FROM, parent="another")},
        {"workspace": "another"},
        {"history": HistoryUse(warm_start=False)},
        {"sampler": "random"},
        {"history": HistoryUse(warm_start_from=("s2",))},
    ],
    ids=str,
)
def test_what_is_not_asked_is_not_told(quick, changes):
    quick.run("s1", **FEW)
    assert begun(quick, **OTHER_RECIPE, **changes) == []


def test_each_sampler_that_learns_begins_from_them_and_proposes_otherwise_than_without(quick):
    quick.run("s1", **FEW)
    for name, sampled in {"t": {}, "n": {"sampler": "nsga2", "objective": Objective()}}.items():
        changes = {"num_trials": 12, "max_parallel": 1, "seed": 5, **OTHER_RECIPE, **sampled}
        with_them = quick.run(f"{name}-with", **changes)
        without = quick.run(f"{name}-without", **changes, history=HistoryUse(reuse=False, warm_start=False))
        assert quick.store.get_search(f"{name}-with").num_priors >= 5
        assert [t.architecture for t in with_them] != [t.architecture for t in without]


def test_searches_may_be_named(quick):
    quick.run("s1", **FEW)
    quick.run("s2", **FEW, seed=1, history=HistoryUse(reuse=False))
    priors = begun(quick, **OTHER_RECIPE, history=HistoryUse(warm_start_from=("s2",)))
    assert {prior.source.search_id for prior in priors} == {"s2"}


def test_students_outside_the_budget_stand_for_the_nearest_inside_at_the_loss_of_that_size(quick):
    trials = quick.run("s1", **FEW | {"num_trials": 30})
    budget = Budget(min_parameters=300_000, max_parameters=560_000)
    priors = begun(quick, budget=budget, num_trials=30)
    space = search_space(small_spec(budget=budget))
    by_number = {trial.number: trial for trial in trials}
    assert {prior.architecture in space for prior in priors} == {True}
    assert len({prior.architecture for prior in priors}) == len(priors)
    outside = [
        (prior, by_number[prior.source.trial_number])
        for prior in priors
        if by_number[prior.source.trial_number].architecture not in space
    ]
    assert outside
    for prior, trial in outside:
        is_smaller = prior.architecture.parameter_count < trial.architecture.parameter_count
        assert (prior.loss > trial.measurement.loss) == is_smaller


def test_only_so_many_are_taken_good_ones_and_bad(quick):
    trials = quick.run("s1", **FEW | {"num_trials": 120})
    losses = sorted(trial.measurement.loss for trial in trials)
    told = [prior.loss for prior in begun(quick, num_trials=8, **OTHER_RECIPE)]
    assert len(told) == 8
    assert min(told) == losses[0]
    assert max(told) > losses[len(losses) * 3 // 4]
    assert len(begun(quick, "long", num_trials=500, **OTHER_RECIPE)) == MOST_PRIORS


def test_a_search_that_has_begun_takes_nothing_any_more(quick):
    """One of an earlier version was never asked; what it proposed would not be proposed again."""
    quick.run("s1", **FEW)
    search, lease = running_search(
        quick.store, small_spec(**OTHER_RECIPE), quick.clock, search_id="new", made_from=MADE_FROM
    )
    quick.store.save_trial(
        make_trial(search_id="new", architecture=search_space(search.spec).smallest), lease
    )
    Driver(search, quick.store, lease, quick.clock)
    assert quick.store.get_search("new").num_priors == 0


@pytest.mark.parametrize(
    "sampled", [{}, {"sampler": "nsga2", "objective": Objective()}], ids=["tpe", "nsga2"]
)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 9, 20])
def test_a_restart_decides_the_same_whatever_was_measured_meanwhile(tmp_path, steps, sampled):
    found = []
    for kill in (None, Fuse(steps)):
        bench = Bench(InMemoryStore(), tmp_path / str(len(found)))
        bench.directory.mkdir()
        bench.run("s1", **FEW)
        spec = small_spec(num_trials=4, max_parallel=1, **OTHER_RECIPE, **sampled)
        search, lease = running_search(bench.store, spec, bench.clock, search_id="new", made_from=MADE_FROM)
        if kill:
            with pytest.raises(RunnerKilled):
                bench.go_on(search, lease, kill)
            if bench.store.get_search("new").num_priors is not None:
                bench.run("meanwhile", **FEW, seed=7)
            search, lease = taken_over(bench.store, bench.clock, owner="runner 2", search_id="new")
        bench.go_on(search, lease)
        found.append(
            [(trial.architecture, trial.state, trial.measurement) for trial in bench.store.trials("new")]
        )
    assert found[0] == found[1]


def test_own_losses_are_told_as_they_are_where_nothing_came_before():
    assert told_losses({3: 2.5, 1: 2.0}, ()) == ({3: 2.5, 1: 2.0}, ())


def test_what_compares_is_ranked_together_and_the_rest_by_its_standing():
    prior = Prior(
        architecture=make_trial().architecture, loss=2.2, source=Origin(search_id="s", trial_number=0)
    )
    values, told = told_losses({0: 2.5, 1: 2.0}, [prior, replace(prior, loss=9.0, standing=0.4)])
    assert values == {0: pytest.approx(5 / 6), 1: pytest.approx(1 / 6)}
    assert told == (pytest.approx(0.5), 0.4)


def test_standings_lie_evenly_between_0_and_1():
    assert standings([]) == []
    assert standings([7.0]) == [0.5]
    assert standings([3.0, 1.0, 2.0, 2.0]) == [0.875, 0.125, 0.375, 0.625]


def test_a_driver_writes_its_priors_before_its_first_trial(quick):
    quick.run("s1", **FEW)
    search, lease = running_search(
        quick.store, small_spec(**OTHER_RECIPE), quick.clock, search_id="new", made_from=MADE_FROM
    )
    fuse = Fuse(1)
    with pytest.raises(RunnerKilled):
        Driver(search, FusedStore(quick.store, fuse), lease, quick.clock)
    assert quick.store.get_search("new").num_priors == 5
