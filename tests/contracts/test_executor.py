"""What every executor does for a driver, judged by what stands in the store afterwards.

To hold another executor to it, add a parameter to ``executor_of``: a function from a ``Simulation``
to an ``Executor`` that runs its trials, two at a time. A ``Simulation`` is picklable and keeps its
state in files, so trials may run in other processes: ``simulation.open(trial)`` there gives an object
whose ``advance`` trains a little and returns what to report. Where it raises ``LostWorker``, a real
worker process is to die.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from minitron.recipe import DataRecipe, TrainingRecipe
from nas.driver import Driver
from nas.errors import LostLease
from nas.frontier import best_trial, ranked_trials
from nas.orders import Cancel, Kill, Pause, Resume, StopTrial
from nas.promotion import Promotion
from nas.search import Artifacts, Comparisons, Rungs, SearchState
from nas.storage.memory import InMemoryStore
from nas.trial import FailureKind, TrialRole, TrialState
from tests.fakes import FakeExecutor, Faults, Simulation, running_search, small_spec, taken_over


@pytest.fixture(params=["fake", "fake that reports lost workers", "tune"])
def executor_of(request):
    """Return what makes the executor under test."""
    if request.param == "fake":
        return FakeExecutor
    if request.param == "tune":
        from tests.simulated import tune_executor

        request.getfixturevalue("ray_cluster")
        return tune_executor
    return lambda simulation: FakeExecutor(simulation, is_replacing=False)


def now():
    return datetime.now(UTC)


PROMOTION = Promotion(
    training=TrainingRecipe(num_tokens=160, batch_tokens=8), top_k=2, num_points=4, num_shards=2
)


class StoreThatEnds:
    """A store on which something happens once so many points have been stored."""

    def __init__(self, store, num_points, happen):
        self._store = store
        self._num_points = num_points
        self._happen = happen

    def __getattr__(self, name):
        return getattr(self._store, name)

    def add_point(self, point, lease):
        """Store a point, or let happen what is to happen first."""
        self._num_points -= 1
        if self._num_points == 0:
            self._happen()
        self._store.add_point(point, lease)


class Bench:
    """One running search, its store, and what ran it."""

    def __init__(self, directory, executor_of, *, faults=None, made_from=None, **changes):
        self.store = InMemoryStore(now)
        self.search, self.lease = running_search(self.store, small_spec(**changes), now, made_from=made_from)
        self.simulation = Simulation(directory=directory, spec=self.search.spec, faults=faults or Faults())
        self.executor_of = executor_of

    def run(self, store=None, promotion=None):
        driver = Driver(self.search, store or self.store, self.lease, now, promotion=promotion)
        self.executor_of(replace(self.simulation, spec=driver.spec)).run(driver)
        return driver

    @property
    def promotions(self):
        return [trial for trial in self.trials if trial.role is TrialRole.PROMOTION]

    @property
    def trials(self):
        return self.store.trials("s1")

    def attempts(self, trial_number=None):
        return [
            attempt
            for attempt in self.store.attempts("s1")
            if trial_number is None or attempt.trial_number == trial_number
        ]

    def assert_nothing_is_open(self):
        assert all(trial.state.is_final for trial in self.trials)
        assert all(attempt.ended_at for attempt in self.attempts())


@pytest.fixture
def bench(executor_of, tmp_path):
    def make(**changes):
        return Bench(tmp_path, executor_of, **changes)

    return make


def test_a_search_runs_to_its_end(bench):
    bench = bench(comparisons=Comparisons(random_architectures=2, random_indices=1))
    driver = bench.run()
    assert driver.failure is None
    bench.assert_nothing_is_open()
    searched = [trial for trial in bench.trials if trial.role is TrialRole.SEARCH]
    assert len(searched) == 6
    assert {trial.state for trial in bench.trials} == {TrialState.COMPLETED, TrialState.STOPPED}
    assert best_trial(bench.trials).measurement.num_tokens == 80
    assert bench.store.get_search("s1").state is SearchState.COMPLETING


def test_what_was_measured_before_is_given_to_no_executor(bench, executor_of, tmp_path):
    made_from = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
    whole = {"rungs": Rungs(fractions=()), "sampler": "random"}
    first = bench(num_trials=3, made_from=made_from, **whole)
    first.run()
    spec, directory = small_spec(num_trials=5, **whole), tmp_path / "second"
    directory.mkdir()
    search, lease = running_search(first.store, spec, now, search_id="s2", made_from=made_from)
    executor_of(Simulation(directory=directory, spec=spec)).run(Driver(search, first.store, lease, now))
    trials = first.store.trials("s2")
    assert [trial.reused_from and trial.reused_from.trial_number for trial in trials] == [0, 1, 2, None, None]
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert {attempt.trial_number for attempt in first.store.attempts("s2")} == {3, 4}
    assert len(Simulation(directory=directory, spec=spec).trained()) == 2


def test_every_point_on_the_way_is_stored_with_its_loss(bench):
    bench = bench(num_trials=2, rungs=Rungs(fractions=()))
    driver = bench.run()
    for trial in bench.trials:
        points = [each.point for each in bench.store.points("s1") if each.trial_number == trial.number]
        assert tuple(point.num_tokens for point in points) == driver.schedule.points
        assert points[0].loss == trial.measurement.loss_before_retraining
        assert points[-1].loss == trial.measurement.loss


def test_the_layers_that_each_student_keeps_are_stored(bench):
    bench = bench()
    bench.run()
    assert [trial.kept_layers for trial in bench.trials] == [
        tuple(range(trial.architecture.num_layers)) for trial in bench.trials
    ]


def test_no_more_trials_run_at_once_than_asked_for(bench):
    bench = bench(max_parallel=2, num_trials=8)
    bench.run()
    spans = [(attempt.started_at, attempt.ended_at) for attempt in bench.attempts()]
    for started, _ in spans:
        assert sum(other <= started < end for other, end in spans) <= 2


def test_nothing_is_trained_twice_or_left_out(bench):
    bench = bench(comparisons=Comparisons(random_architectures=3, random_indices=1))
    bench.run()
    for stretches in bench.simulation.trained().values():
        assert [before for before, _ in stretches] == [0, *(after for _, after in stretches[:-1])]


def test_a_trial_that_advances_goes_on_from_its_checkpoint(bench):
    bench = bench(num_trials=8)
    bench.run()
    resumed = [
        trial for trial in bench.trials if trial.num_attempts > 1 and trial.state is TrialState.COMPLETED
    ]
    assert resumed
    trained = bench.simulation.trained()
    assert all(len(trained[trial.architecture.name]) == 12 for trial in resumed)


def test_a_lost_worker_is_retried_from_where_it_was(bench):
    bench = bench(faults=Faults(lost_workers={0: 2, 1: 1}))
    bench.run()
    bench.assert_nothing_is_open()
    for number, times in ((0, 2), (1, 1)):
        attempts = bench.attempts(number)
        lost = [attempt for attempt in attempts if attempt.failure]
        assert [attempt.failure.kind for attempt in lost] == [FailureKind.WORKER_LOST] * times
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert bench.trials[number].state in {TrialState.COMPLETED, TrialState.STOPPED}
    for stretches in bench.simulation.trained().values():
        assert len(stretches) == len(set(stretches))


def test_a_trial_that_loses_worker_after_worker_fails(bench):
    bench = bench(max_attempts=2, faults=Faults(lost_workers={1: 99}))
    driver = bench.run()
    bench.assert_nothing_is_open()
    assert driver.failure is None
    assert bench.trials[1].failure.kind is FailureKind.WORKER_LOST
    assert len(bench.attempts(1)) == 2
    assert [trial.number for trial in bench.trials if trial.state is TrialState.FAILED] == [1]


@pytest.mark.parametrize(
    ("faults", "kind", "message"),
    [
        (Faults(diverging=frozenset({1})), FailureKind.NON_FINITE, "loss is nan after 0 tokens"),
        (Faults(raising=frozenset({1})), FailureKind.ERROR, "the code raised"),
    ],
)
def test_a_failure_ends_its_trial_with_a_traceback_and_no_other(bench, faults, kind, message):
    bench = bench(faults=faults)
    driver = bench.run()
    bench.assert_nothing_is_open()
    failed = bench.trials[1]
    assert (failed.state, failed.failure.kind) == (TrialState.FAILED, kind)
    assert message in failed.failure.message
    assert message in failed.failure.traceback
    assert len(bench.attempts(1)) == 1
    assert driver.failure is None
    assert len(bench.trials) == 6
    assert [trial.number for trial in bench.trials if trial.state is TrialState.FAILED] == [1]


def test_a_search_that_is_given_up_ends(bench):
    bench = bench(num_trials=30, faults=Faults(raising=frozenset(range(30))))
    driver = bench.run()
    bench.assert_nothing_is_open()
    assert driver.failure.kind is FailureKind.ERROR
    assert len(bench.trials) <= 5


def test_a_cancel_under_way_ends_what_runs(bench):
    bench = bench(num_trials=30)

    def cancel():
        bench.store.give_order("s1", Cancel(), at=now())
        time.sleep(1.0)  # a cancel is looked for once a second

    driver = bench.run(StoreThatEnds(bench.store, 5, cancel))
    bench.assert_nothing_is_open()
    assert driver.is_cancelled
    assert TrialState.CANCELLED in {trial.state for trial in bench.trials}
    assert len(bench.trials) < 30


def test_a_pause_under_way_ends_what_runs_and_the_next_run_ends_as_if_it_had_not_been(bench):
    bench = bench(max_parallel=1)

    def pause():
        bench.store.give_order("s1", Pause(), at=now())
        time.sleep(1.0)

    driver = bench.run(StoreThatEnds(bench.store, 5, pause))
    assert driver.is_paused
    assert TrialState.RUNNING not in {trial.state for trial in bench.trials}
    assert all(attempt.ended_at and attempt.failure is None for attempt in bench.attempts())
    bench.store.save_search(bench.store.get_search("s1").moved(SearchState.PAUSED, now()), bench.lease)
    bench.store.give_order("s1", Resume(), at=now())
    bench.search, bench.lease = taken_over(bench.store, now, owner="runner 2")
    bench.run()
    bench.assert_nothing_is_open()
    assert len(bench.trials) == 6
    for stretches in bench.simulation.trained().values():
        assert [before for before, _ in stretches] == [0, *(after for _, after in stretches[:-1])]


def test_one_trial_is_stopped_under_way_and_the_others_go_on(bench):
    bench = bench(num_trials=4)

    def stop():
        bench.store.give_order("s1", StopTrial(trial_number=0), at=now())
        time.sleep(1.0)

    driver = bench.run(StoreThatEnds(bench.store, 3, stop))
    bench.assert_nothing_is_open()
    assert driver.failure is None
    states = [trial.state for trial in bench.trials]
    assert states.index(TrialState.CANCELLED) == 0
    assert states.count(TrialState.CANCELLED) == 1
    assert len(bench.trials) == 4


def test_a_kill_under_way_ends_the_run(bench):
    bench = bench(num_trials=30)

    def kill():
        bench.store.give_order("s1", Kill(), at=now())

    with pytest.raises(LostLease):
        bench.run(StoreThatEnds(bench.store, 5, kill))
    bench.assert_nothing_is_open()
    assert bench.store.get_search("s1").state is SearchState.CANCELLED


def test_a_runner_that_lost_its_search_ends_and_the_next_goes_on(bench):
    """From the trials' own checkpoints, whether their workers have ended by then or not."""
    bench = bench()
    undisturbed = bench.lease

    def lose():
        bench.search, bench.lease = taken_over(bench.store, now, owner="runner 2")

    with pytest.raises(LostLease):
        bench.run(StoreThatEnds(bench.store, 9, lose))
    assert bench.lease != undisturbed
    assert TrialState.RUNNING in {trial.state for trial in bench.trials}
    driver = bench.run()
    bench.assert_nothing_is_open()
    assert driver.failure is None
    assert len(bench.trials) == 6
    for stretches in bench.simulation.trained().values():
        assert len(stretches) == len(set(stretches))


# Promotions, after a search whose held-out tokens make two shards

TWO_SHARDS = {"num_trials": 3, "data": DataRecipe(sequence_length=8, validation_tokens=16)}


def promoted(bench, **changes):
    """Return a bench whose search is done but for its promotions."""
    made = bench(promotion=PROMOTION, **{**TWO_SHARDS, **changes})
    made.run()
    assert made.promotions == []
    return made


def test_the_best_students_are_promoted_after_all_trials(bench):
    bench = promoted(bench, rungs=Rungs(fractions=()), comparisons=Comparisons(random_indices=1))
    before = bench.trials
    driver = bench.run(promotion=PROMOTION)
    bench.assert_nothing_is_open()
    best = ranked_trials(before)[:2]
    assert [trial.promoted_from for trial in bench.promotions] == [trial.number for trial in best]
    assert bench.trials[: len(before)] == before
    for trial in bench.promotions:
        points = [each.point for each in bench.store.points("s1", [trial.number])]
        assert tuple(point.num_tokens for point in points) == driver.schedule.points == (0, 40, 80, 120, 160)
        assert trial.measurement.num_tokens == 160
        assert len(trial.measurement.shard_losses) == 2
        assert trial.state is TrialState.COMPLETED
    assert bench.run(promotion=PROMOTION).failure is None
    assert len(bench.promotions) == 2


def test_a_promotion_that_loses_a_worker_goes_on_and_one_that_raises_fails_alone(bench):
    bench = promoted(bench, rungs=Rungs(fractions=()))
    first = len(bench.trials)
    bench.simulation = replace(
        bench.simulation, faults=Faults(lost_workers={first: 2}, raising=frozenset({first + 1}))
    )
    driver = bench.run(promotion=PROMOTION)
    bench.assert_nothing_is_open()
    assert driver.failure is None
    lost, failed = bench.promotions
    assert (lost.state, failed.state) == (TrialState.COMPLETED, TrialState.FAILED)
    kinds = [attempt.failure and attempt.failure.kind for attempt in bench.attempts(lost.number)]
    assert kinds == [FailureKind.WORKER_LOST] * 2 + [None]
    assert "the code raised" in failed.failure.message
    assert bench.store.get_search("s1").state is SearchState.COMPLETING


def test_promotions_that_are_paused_go_on_where_they_were(bench):
    bench = promoted(bench, max_parallel=1)

    def pause():
        bench.store.give_order("s1", Pause(), at=now())
        time.sleep(1.0)

    driver = bench.run(StoreThatEnds(bench.store, 3, pause), promotion=PROMOTION)
    assert driver.is_paused
    bench.store.save_search(bench.store.get_search("s1").moved(SearchState.PAUSED, now()), bench.lease)
    bench.store.give_order("s1", Resume(), at=now())
    bench.search, bench.lease = taken_over(bench.store, now, owner="runner 2")
    assert bench.run().failure is None
    bench.run(promotion=PROMOTION)
    bench.assert_nothing_is_open()
    for stretches in bench.simulation.trained().values():
        assert [before for before, _ in stretches] == [0, *(after for _, after in stretches[:-1])]


def test_a_runner_that_lost_its_promotions_ends_and_the_next_goes_on(bench):
    bench = promoted(bench)

    def lose():
        bench.search, bench.lease = taken_over(bench.store, now, owner="runner 2")

    with pytest.raises(LostLease):
        bench.run(StoreThatEnds(bench.store, 4, lose), promotion=PROMOTION)
    before = bench.promotions
    assert bench.run().failure is None
    assert [trial.number for trial in bench.promotions] == [trial.number for trial in before]
    bench.run(promotion=PROMOTION)
    bench.assert_nothing_is_open()
    assert {trial.state for trial in bench.promotions} == {TrialState.COMPLETED}
    for stretches in bench.simulation.trained().values():
        assert len(stretches) == len(set(stretches))


def test_one_promotion_is_stopped_under_way_and_the_other_goes_on(bench):
    bench = promoted(bench, rungs=Rungs(fractions=()))
    first = len(bench.trials)

    def stop():
        bench.store.give_order("s1", StopTrial(trial_number=first), at=now())
        time.sleep(1.0)

    bench.run(StoreThatEnds(bench.store, 2, stop), promotion=PROMOTION)
    bench.assert_nothing_is_open()
    assert [trial.state for trial in bench.promotions] == [TrialState.CANCELLED, TrialState.COMPLETED]
