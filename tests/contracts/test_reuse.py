"""What was measured before is taken over and not trained again, over every store."""

from dataclasses import replace
from datetime import timedelta

import pytest

from nas.budget import Budget
from nas.driver import Driver
from nas.earlier import HistoryUse
from nas.frontier import best_trial
from nas.orders import Enqueue
from nas.rungs import decide, schedule
from nas.search import Artifacts, Comparisons, Rungs
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.tally import tally_of
from nas.trial import Origin, TrialRole, TrialState
from tests.fakes import (
    FakeExecutor,
    Fuse,
    FusedStore,
    ManualClock,
    RunnerKilled,
    Simulation,
    running_search,
    small_spec,
    taken_over,
)

MADE_FROM = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
EVERY = {
    "budget": Budget(min_parameters=630_000, max_parameters=640_000),
    "num_trials": 1000,
    "rungs": Rungs(fractions=()),
    "sampler": "random",
}
"""All of a small space: whatever is proposed was proposed before."""


class Bench:
    """Searches in one store, run one after another."""

    def __init__(self, store, directory):
        self.store = store
        self.directory = directory
        self.clock = ManualClock(step=timedelta(milliseconds=1))

    def run(self, search_id, *, fuse=None, made_from=MADE_FROM, workspace="default", **changes):
        """Run a search to its end, and return its trials."""
        spec = small_spec(**changes)
        search, lease = running_search(
            self.store, spec, self.clock, search_id=search_id, made_from=made_from, workspace=workspace
        )
        self.go_on(search, lease, fuse)
        return self.store.trials(search_id)

    def go_on(self, search, lease, fuse=None):
        store = FusedStore(self.store, fuse) if fuse else self.store
        FakeExecutor(self.simulation(search.id, search.spec)).run(Driver(search, store, lease, self.clock))

    def simulation(self, search_id, spec=None):
        directory = self.directory / search_id
        directory.mkdir(exist_ok=True)
        return Simulation(directory=directory, spec=spec or small_spec())

    def trained(self, search_id):
        """Return how many students of a search were trained."""
        return len(self.simulation(search_id).trained())

    def points(self, search_id, number):
        return [each.point for each in self.store.points(search_id, [number])]


@pytest.fixture
def bench(store, tmp_path):
    return Bench(store, tmp_path)


def test_the_same_search_again_trains_nothing(bench):
    first = bench.run("s1", **EVERY)
    second = bench.run("s2", **EVERY, seed=5)
    assert len(second) == len(first) > 5
    assert bench.trained("s1") == len(first)
    assert bench.trained("s2") == 0
    earlier = {trial.architecture: trial for trial in first}
    for trial in second:
        same = earlier[trial.architecture]
        assert trial.reused_from == Origin(search_id="s1", trial_number=same.number)
        assert (trial.state, trial.measurement, trial.kept_layers, trial.checkpoint) == (
            TrialState.COMPLETED, same.measurement, same.kept_layers, same.checkpoint,
        )  # fmt: skip
        assert bench.points("s2", trial.number) == bench.points("s1", same.number)
        assert trial.num_attempts == 0
    assert best_trial(second).measurement == best_trial(first).measurement
    assert bench.store.attempts("s2") == []


def test_a_reused_trial_costs_nothing_and_tells_what_it_saved(bench, tmp_path):
    first = bench.run("s1", **EVERY)
    before = bench.store.totals()
    bench.run("s2", **EVERY)
    tallies = bench.store.tallies(["s1", "s2"])
    service = SearchService(bench.store, artifact_root=tmp_path)
    view = service.get("s2")
    assert (view.tokens_done, view.tokens_saved) == (0, 80 * len(first))
    assert view.compute_seconds == 0
    assert tallies["s1"].saved_tokens == 0
    after = bench.store.totals()
    assert (after.trained_tokens, after.training_gigaflops) == (
        before.trained_tokens, before.training_gigaflops,
    )  # fmt: skip
    assert len(bench.store.history.measurements(limit=1000)) == len(first)  # none of it is new


def test_a_third_search_reuses_what_was_trained_and_not_what_was_reused(bench):
    for search_id in ("s1", "s2", "s3"):
        trials = bench.run(search_id, **EVERY)
    assert {trial.reused_from.search_id for trial in trials} == {"s1"}


def test_what_is_new_is_trained_beside_what_is_reused(bench):
    narrow = bench.run("s1", **EVERY)
    wide = bench.run("s2", **EVERY | {"budget": Budget(min_parameters=625_000, max_parameters=640_000)})
    known = {trial.architecture for trial in narrow}
    assert {trial.architecture for trial in wide if trial.reused_from} == known
    assert bench.trained("s2") == len(wide) - len(narrow) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"made_from": replace(MADE_FROM, scores="other")},
        {"made_from": None},
        {"workspace": "another"},
        {"history": HistoryUse(reuse=False)},
        {"num_points": 3},  # its losses were never measured at these tokens
        {"training": replace(small_spec().training, peak_learning_rate=1e-4)},
    ],
    ids=str,
)
def test_what_is_not_known_to_be_the_same_is_trained(tmp_path, changes):
    bench = Bench(InMemoryStore(), tmp_path)
    bench.run("s1", **EVERY)
    trials = bench.run("s2", **EVERY | changes)
    assert not any(trial.reused_from for trial in trials)
    assert bench.trained("s2") == len(trials)


def test_points_between_those_that_are_wanted_go_into_the_next(bench):
    bench.run("s1", **EVERY | {"num_points": 10})
    trials = bench.run("s2", **EVERY | {"num_points": 5})
    for trial in trials:
        points = bench.points("s2", trial.number)
        assert [point.num_tokens for point in points] == [0, 16, 32, 48, 64, 80]
        found = {point.num_tokens: point.loss for point in bench.points("s1", trial.reused_from.trial_number)}
        assert [point.loss for point in points] == [found[point.num_tokens] for point in points]
    assert bench.trained("s2") == 0


def test_a_reused_trial_holds_its_place_at_a_rung(bench):
    """It was never there, yet what waits behind it is stopped, as behind any trial that advanced."""
    bench.run("s1", num_trials=1, rungs=Rungs(fractions=()))
    (ours,) = bench.run("s2", num_trials=1, rungs=Rungs(fractions=(0.4,)))
    assert (ours.rung, ours.state) == (1, TrialState.COMPLETED)
    losses = {0: {point.num_tokens: point.loss for point in bench.points("s2", 0)}}
    losses[1] = {32: losses[0][32] + 1}
    plan = schedule(bench.store.get_search("s2").spec)
    other = replace(ours, number=1, state=TrialState.WAITING, rung=0, reused_from=None, measurement=None)
    decided = decide([ours, other], losses, plan, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False)
    assert (decided.advance, decided.stop) == ((), (1,))
    alone = decide([other], losses, plan, asked=Rungs(keep=0.5, adaptive=False), more_to_come=False)
    assert (alone.advance, alone.stop) == ((1,), ())


def test_what_people_enqueue_is_reused_too(bench):
    first = bench.run("s1", **EVERY)
    wanted = first[3].architecture
    spec = small_spec(**EVERY | {"num_trials": 1})
    _, lease = running_search(bench.store, spec, bench.clock, search_id="s2", made_from=MADE_FROM)
    bench.store.give_order("s2", Enqueue(architecture=wanted), at=bench.clock(), by="Ann")
    bench.go_on(bench.store.get_search("s2"), lease)
    (trial,) = bench.store.trials("s2")
    assert (trial.architecture, trial.enqueued_by) == (wanted, "Ann")
    assert trial.reused_from == Origin(search_id="s1", trial_number=3)


def test_random_architectures_are_reused_and_random_indices_are_trained(bench):
    """What indices are kept at random follows from the trial's number, which is another."""
    comparisons = Comparisons(random_architectures=2, random_indices=1)
    few = {"num_trials": 2, "rungs": Rungs(fractions=()), "comparisons": comparisons}
    bench.run("s1", **few)
    trials = bench.run("s2", **few)
    baselines = {trial.role: trial for trial in trials}
    assert baselines[TrialRole.RANDOM_ARCHITECTURE].reused_from
    assert not baselines[TrialRole.RANDOM_INDICES].reused_from


def test_a_runner_killed_anywhere_leaves_a_search_that_trains_nothing_still(tmp_path):
    for steps in range(1, 22, 4):
        bench = Bench(InMemoryStore(), tmp_path / str(steps))
        bench.directory.mkdir()
        first = bench.run("s1", **EVERY)
        with pytest.raises(RunnerKilled):
            bench.run("s2", **EVERY, fuse=Fuse(steps))
        search, lease = taken_over(bench.store, bench.clock, owner="runner 2", search_id="s2")
        bench.go_on(search, lease)
        trials = bench.store.trials("s2")
        assert {trial.architecture for trial in trials} == {trial.architecture for trial in first}
        assert bench.trained("s2") == 0
        for trial in trials:
            assert trial.reused_from
            assert [point.num_tokens for point in bench.points("s2", trial.number)] == [0, 16, 32, 48, 64, 80]


def test_what_a_tally_says_of_a_reused_trial(bench):
    bench.run("s1", **EVERY)
    (trial, *_) = bench.run("s2", **EVERY)
    points = bench.points("s2", trial.number)
    tally = tally_of([(trial, points, [])])
    assert [(group.num_tokens, group.size) for group in tally.groups] == [(0, 1)]
    assert tally.saved_tokens == 80
