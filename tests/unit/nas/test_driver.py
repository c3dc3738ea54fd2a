"""The driver decides as promised, whatever fails and whenever its process is killed."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from minitron.progress import Progress
from nas.comparisons import random_draws
from nas.driver import Driver
from nas.errors import LostLease
from nas.frontier import best_trial, compare
from nas.orders import Cancel
from nas.sampling import Objective
from nas.search import Comparisons, Rungs, SearchState
from nas.storage.memory import InMemoryStore
from nas.trial import Failure, FailureKind, Measurement, Point, TrialRole, TrialState
from nas.verdicts import Failed, Finished, Next, Verdict
from tests.fakes import (
    EPOCH,
    FakeExecutor,
    Faults,
    Fuse,
    FusedStore,
    ManualClock,
    RunnerKilled,
    Simulation,
    running_search,
    small_spec,
    taken_over,
)

ERROR = Failed(failure=Failure(kind=FailureKind.ERROR, message="the code raised", traceback="Traceback"))
LOST = Failed(failure=Failure(kind=FailureKind.WORKER_LOST, message="worker died"))


class Bench:
    """A store with one running search, and drivers and executors to run it."""

    def __init__(self, directory, *, faults=None, **changes):
        self.spec = small_spec(**changes)
        self.clock = ManualClock(step=timedelta(milliseconds=1))
        self.store = InMemoryStore(self.clock)
        self.search, self.lease = running_search(self.store, self.spec, self.clock)
        self.simulation = Simulation(directory=directory, spec=self.spec, faults=faults or Faults())
        directory.mkdir(exist_ok=True)

    def driver(self, fuse=None):
        return Driver(self.search, FusedStore(self.store, fuse or Fuse()), self.lease, self.clock)

    def run(self, fuse=None, **options):
        driver = self.driver(fuse)
        executor = FakeExecutor(self.simulation, fuse=fuse, **options)
        executor.run(driver)
        return driver, executor

    def take_over(self, owner):
        self.search, self.lease = taken_over(self.store, self.clock, owner=owner)

    @property
    def trials(self):
        return self.store.trials("s1")

    @property
    def attempts(self):
        return self.store.attempts("s1")

    def decisions(self):
        """Everything that a restart must not change: no times, no attempts."""
        return [
            (trial.number, trial.architecture, trial.role, trial.state, trial.rung, trial.measurement)
            for trial in self.trials
        ]


@pytest.fixture
def bench(tmp_path):
    def make(**changes):
        return Bench(tmp_path / "bench", **changes)

    return make


def states(bench, role=TrialRole.SEARCH):
    return [str(trial.state) for trial in bench.trials if trial.role is role]


def point(num_tokens, loss=2.0):
    return Point(num_tokens=num_tokens, loss=loss, at=EPOCH)


def finished(loss):
    measurement = Measurement(
        num_tokens=80, loss=loss, loss_before_retraining=3.0, num_parameters=1, train_seconds=0
    )
    return Finished(measurement=measurement, checkpoint="checkpoint")


def begin(driver):
    trial = driver.next_trial()
    driver.on_attempt(trial.number, f"worker of {trial.number}")
    return trial.number


def finish(driver, number, loss):
    """Report a trial's points after where it stands and its end."""
    for num_tokens in driver.schedule.points:
        if driver.on_point(number, point(num_tokens, loss), "checkpoint") is not Verdict.CONTINUE:
            return
    driver.on_end(number, finished(loss))


def test_the_layers_that_a_worker_keeps_are_stored_once(bench):
    bench = bench()
    driver = bench.driver()
    number = begin(driver)
    kept = tuple(range(bench.trials[number].architecture.num_layers))
    driver.on_pruned(number, kept)
    num_events = bench.store.last_sequence()
    driver.on_pruned(number, kept)
    driver.on_pruned(99, kept)
    assert bench.trials[number].kept_layers == kept
    assert bench.store.last_sequence() == num_events


# The whole way


def test_a_search_runs_to_its_end(bench):
    bench = bench(num_trials=8)
    driver, executor = bench.run()
    assert driver.failure is None
    assert states(bench).count("COMPLETED") + states(bench).count("STOPPED") == 8
    assert states(bench).count("COMPLETED") >= 2
    assert len({trial.architecture for trial in bench.trials}) == 8
    assert all(trial.architecture in driver.space for trial in bench.trials)
    assert [trial.number for trial in bench.trials] == list(range(8))
    assert bench.store.get_search("s1").state is SearchState.COMPLETING
    assert all(attempt.ended_at and attempt.failure is None for attempt in bench.attempts)
    assert executor.most_running == 2


def test_stopped_trials_were_compared_and_are_worse_than_all_that_passed_with_them(bench):
    bench = bench(num_trials=8, max_parallel=1)
    bench.run()
    at_rung = {
        each.trial_number: each.point.loss for each in bench.store.points("s1") if each.point.num_tokens == 40
    }
    passed = [trial.number for trial in bench.trials if trial.state is TrialState.COMPLETED]
    assert len(at_rung) == 8
    assert len(passed) >= 4
    assert min(at_rung, key=at_rung.__getitem__) in passed
    stopped = [trial for trial in bench.trials if trial.state is TrialState.STOPPED]
    assert all(trial.rung == 0 and trial.checkpoint for trial in stopped)


def test_no_more_run_at_once_than_asked_for_however_much_room_there_is(bench):
    _, executor = bench(max_parallel=3).run(concurrency=10)
    assert executor.most_running == 3


def test_a_space_smaller_than_the_number_of_trials_is_searched_whole(bench):
    spec = small_spec()
    axes = replace(spec.axes, num_layers=(5,), hidden_size=(104,), num_attention_heads=(8,))
    bench = bench(axes=axes, num_trials=50, rungs=Rungs(fractions=()))
    driver, _ = bench.run()
    assert states(bench) == ["COMPLETED"] * len(driver.space)
    assert len(driver.space) < 50


# Restarts


@pytest.mark.parametrize("max_parallel", [1, 3])
def test_tokens_end_a_search_and_a_runner_killed_at_any_step_changes_nothing_of_that(tmp_path, max_parallel):
    changes = {"num_trials": 50, "max_tokens": 200, "max_parallel": max_parallel, "num_points": 2}
    undisturbed, fuse = Bench(tmp_path / "undisturbed", **changes), Fuse()
    undisturbed.run(fuse)
    taken = sum(80 if state == "COMPLETED" else 40 for state in states(undisturbed))
    assert 160 < taken <= 200 + 40
    assert undisturbed.store.get_search("s1").progress.total == 200
    for steps in range(0, fuse.num_burnt, 3):
        killed = Bench(tmp_path / str(steps), **changes)
        with pytest.raises(RunnerKilled):
            killed.run(Fuse(steps))
        killed.take_over("runner 2")
        killed.run()
        assert killed.decisions() == undisturbed.decisions()


def test_a_search_that_weighs_a_cost_compares_by_both_at_its_rungs_and_so_does_a_restart(tmp_path):
    changes = {
        "num_trials": 8,
        "max_parallel": 1,
        "num_points": 2,
        "sampler": "nsga2",
        "objective": Objective(),
    }
    undisturbed, fuse = Bench(tmp_path / "undisturbed", **changes), Fuse()
    undisturbed.run(fuse)
    by_size = sorted(undisturbed.trials, key=lambda trial: trial.architecture.parameter_count)
    assert by_size[0].state is TrialState.COMPLETED
    assert best_trial(undisturbed.trials) is not None
    assert "STOPPED" in states(undisturbed)
    for steps in range(0, fuse.num_burnt, 5):
        killed = Bench(tmp_path / str(steps), **changes)
        with pytest.raises(RunnerKilled):
            killed.run(Fuse(steps))
        killed.take_over("runner 2")
        killed.run()
        assert killed.decisions() == undisturbed.decisions()


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_a_runner_killed_at_any_step_changes_nothing(tmp_path, max_parallel):
    """The kill falls before or after any write and any step of training."""
    changes = {
        "num_trials": 4,
        "max_parallel": max_parallel,
        "num_points": 2,
        "comparisons": Comparisons(random_architectures=1, random_indices=1),
    }
    undisturbed = Bench(tmp_path / "undisturbed", **changes)
    fuse = Fuse()
    undisturbed.run(fuse)
    assert fuse.num_burnt > 80
    for steps in range(fuse.num_burnt):
        killed = Bench(tmp_path / str(steps), **changes)
        with pytest.raises(RunnerKilled):
            killed.run(Fuse(steps))
        killed.take_over("runner 2")
        killed.run()
        assert killed.decisions() == undisturbed.decisions()
        assert killed.simulation.trained() == undisturbed.simulation.trained()
        assert killed.store.get_search("s1").state is SearchState.COMPLETING
        assert all(trial.state.is_final for trial in killed.trials)
        assert all(attempt.ended_at for attempt in killed.attempts)


def test_a_runner_killed_again_and_again_comes_to_the_same_end(tmp_path):
    changes = {"num_trials": 8, "comparisons": Comparisons(random_architectures=2, random_indices=1)}
    undisturbed = Bench(tmp_path / "undisturbed", **changes)
    undisturbed.run()
    killed = Bench(tmp_path / "killed", **changes)
    for restarts in range(100):
        killed.take_over(f"runner {restarts}")
        try:
            killed.run(Fuse(29))
            break
        except RunnerKilled:
            continue
    assert restarts > 10
    assert killed.decisions() == undisturbed.decisions()
    assert killed.simulation.trained() == undisturbed.simulation.trained()


def test_what_a_lost_runner_left_is_handed_out_first(bench):
    bench = bench(max_parallel=3)
    lost = bench.driver()
    running = [begin(lost), begin(lost)]
    proposed = lost.next_trial().number
    bench.take_over("runner 2")
    driver = bench.driver()
    assert [driver.next_trial().number for _ in range(3)] == [*running, proposed]
    assert len(bench.trials) == 3
    assert [attempt.failure.kind for attempt in bench.attempts] == [FailureKind.WORKER_LOST] * 2


def test_a_row_exists_before_a_trial_is_handed_out(bench):
    bench = bench()
    trial = bench.driver().next_trial()
    assert bench.trials == [trial]
    assert trial.state is TrialState.PROPOSED


def test_a_runner_that_lost_its_lease_is_stopped_at_once(bench):
    bench = bench()
    driver = bench.driver()
    number = begin(driver)
    bench.take_over("runner 2")
    with pytest.raises(LostLease):
        driver.on_point(number, point(0), None)


# Rungs


def test_a_trial_waits_at_a_rung_until_enough_were_measured_there(bench):
    driver = bench(num_trials=4).driver()
    first, second = begin(driver), begin(driver)
    assert driver.on_point(first, point(40, 2.0), "a") is Verdict.WAIT_AT_RUNG
    assert driver.on_point(second, point(40, 3.0), "b") is Verdict.WAIT_AT_RUNG
    trial = driver.next_trial()
    assert (trial.number, trial.checkpoint, trial.rung) == (first, "a", 1)
    assert trial.state is TrialState.WAITING


def test_a_trial_that_may_advance_at_once_goes_on_in_the_same_attempt(bench):
    bench = bench(num_trials=4)
    driver = bench.driver()
    first, second = begin(driver), begin(driver)
    driver.on_point(first, point(40, 2.0), "a")
    assert driver.on_point(second, point(40, 1.0), "b") is Verdict.CONTINUE
    assert bench.trials[second].rung == 1
    assert bench.trials[second].checkpoint == "b"
    assert [attempt.ended_at is None for attempt in bench.attempts] == [False, True]


def test_the_last_to_reach_a_rung_may_be_stopped_there_at_once(bench):
    bench = bench(num_trials=2)
    driver = bench.driver()
    first, second = begin(driver), begin(driver)
    driver.on_point(first, point(40, 2.0), "a")
    assert driver.on_point(second, point(40, 3.0), "b") is Verdict.STOP
    assert states(bench) == ["WAITING", "STOPPED"]
    assert bench.trials[second].checkpoint == "b"


def test_a_point_sent_twice_changes_nothing(bench):
    bench = bench(num_trials=4)
    driver = bench.driver()
    number = begin(driver)
    for _ in range(2):
        assert driver.on_point(number, point(16), None) is Verdict.CONTINUE
    for _ in range(2):
        assert driver.on_point(number, point(40), "a") is Verdict.WAIT_AT_RUNG
    assert [each.point.num_tokens for each in bench.store.points("s1")] == [16, 40]
    assert len(bench.attempts) == 1


# Failures


def test_a_lost_worker_is_replaced_and_the_trial_goes_on(bench):
    bench = bench(faults=Faults(lost_workers={1: 2}))
    bench.run()
    attempts = [attempt for attempt in bench.attempts if attempt.trial_number == 1]
    kinds = [attempt.failure.kind if attempt.failure else None for attempt in attempts]
    assert kinds[:3] == [FailureKind.WORKER_LOST, FailureKind.WORKER_LOST, None]
    assert len({attempt.worker for attempt in attempts[:3]}) == 3
    assert bench.trials[1].state in {TrialState.COMPLETED, TrialState.STOPPED}


@pytest.mark.parametrize("is_replacing", [True, False])
def test_a_trial_that_loses_too_many_workers_fails(bench, is_replacing):
    """Whether the executor replaces workers or reports them lost makes no difference."""
    bench = bench(faults=Faults(lost_workers={1: 99}))
    bench.run(is_replacing=is_replacing)
    attempts = [attempt for attempt in bench.attempts if attempt.trial_number == 1]
    assert [attempt.failure.kind for attempt in attempts] == [FailureKind.WORKER_LOST] * 3
    assert bench.trials[1].state is TrialState.FAILED
    assert bench.trials[1].failure.kind is FailureKind.WORKER_LOST
    assert states(bench).count("FAILED") == 1


def test_a_lost_runner_is_no_fault_of_its_trials(bench):
    bench = bench(max_attempts=2)
    for owner in range(5):
        bench.take_over(f"runner {owner}")
        begin(bench.driver())
    driver = bench.driver()
    number = begin(driver)
    driver.on_end(number, LOST)
    assert bench.trials[number].state is TrialState.RUNNING
    assert driver.next_trial().number == number


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (Faults(diverging=frozenset({1, 2})), FailureKind.NON_FINITE),
        (Faults(raising=frozenset({1, 2})), FailureKind.ERROR),
    ],
)
def test_a_failed_trial_is_not_retried_and_the_search_goes_on(bench, faults, kind):
    bench = bench(faults=faults)
    driver, _ = bench.run()
    assert driver.failure is None
    failed = [trial for trial in bench.trials if trial.state is TrialState.FAILED]
    assert [trial.number for trial in failed] == [1, 2]
    assert {trial.failure.kind for trial in failed} == {kind}
    assert all(trial.num_attempts == 1 and trial.failure.traceback for trial in failed)
    assert states(bench).count("COMPLETED") >= 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial_and_is_not_stored(bench, loss):
    bench = bench()
    driver = bench.driver()
    number = begin(driver)
    assert driver.on_point(number, point(0, loss), None) is Verdict.STOP
    assert bench.trials[number].failure.kind is FailureKind.NON_FINITE
    assert bench.store.points("s1") == []
    assert bench.attempts[0].failure.kind is FailureKind.NON_FINITE


def test_a_search_whose_first_trials_all_raise_is_given_up(bench):
    bench = bench(num_trials=20, faults=Faults(raising=frozenset(range(20))))
    driver, _ = bench.run()
    assert driver.failure.kind is FailureKind.ERROR
    assert driver.failure.message == "the first 3 trials to end all failed, the first with: the code raised"
    assert "RuntimeError: the code raised" in driver.failure.traceback
    assert states(bench).count("FAILED") == 3
    assert all(trial.state.is_final for trial in bench.trials)
    assert len(bench.trials) <= 4
    assert bench.driver().next_trial() is Next.DONE


def test_a_search_without_a_completed_trial_is_given_up(bench):
    bench = bench(num_trials=4, faults=Faults(diverging=frozenset(range(4))))
    driver, _ = bench.run()
    assert driver.failure.kind is FailureKind.NON_FINITE
    assert driver.failure.message.startswith("no trial completed, the first with: loss is nan")
    assert states(bench) == ["FAILED"] * 4


def test_one_that_worked_among_the_first_keeps_a_search_going(bench):
    bench = bench(num_trials=8, max_parallel=1, faults=Faults(raising=frozenset({0, 1, 3, 4})))
    driver, _ = bench.run()
    assert driver.failure is None
    assert len(bench.trials) == 8


def test_late_news_of_a_final_trial_is_ignored(bench):
    bench = bench()
    driver = bench.driver()
    number = begin(driver)
    driver.on_end(number, ERROR)
    failed = bench.trials[number]
    driver.on_attempt(number, "another worker")
    driver.on_end(number, finished(1.0))
    assert driver.on_tokens(number, 8) is Verdict.STOP
    assert driver.on_point(number, point(16), None) is Verdict.STOP
    assert bench.trials[number] == failed
    assert len(bench.attempts) == 1


# Cancel, progress


def test_a_cancelled_search_stops_what_runs_and_hands_out_nothing(bench):
    bench = bench(max_parallel=3)
    driver = bench.driver()
    waiting, running = begin(driver), begin(driver)
    driver.on_point(waiting, point(40), "a")
    proposed = driver.next_trial().number
    bench.store.give_order("s1", Cancel(), at=bench.clock())
    bench.clock.advance(1)
    assert driver.on_tokens(running, 8) is Verdict.STOP
    assert driver.is_cancelled
    assert driver.next_trial() is Next.DONE
    assert [bench.trials[number].state for number in (waiting, running, proposed)] == [
        TrialState.CANCELLED
    ] * 3
    assert all(attempt.ended_at for attempt in bench.attempts)


@pytest.mark.parametrize("ask", [Driver.next_trial, lambda driver: driver.on_point(0, point(0), None)])
def test_a_cancel_is_seen_at_every_call_and_by_a_new_driver(bench, ask):
    bench = bench()
    begin(bench.driver())
    bench.store.give_order("s1", Cancel(), at=bench.clock())
    bench.take_over("runner 2")
    driver = bench.driver()
    assert ask(driver) in {Next.DONE, Verdict.STOP}
    assert states(bench) == ["CANCELLED"]


def test_an_executor_ends_when_a_search_is_cancelled_under_way(bench):
    bench = bench(num_trials=8)
    bench.clock.step = timedelta(seconds=1)
    bench.store.give_order("s1", Cancel(), at=bench.clock())
    driver, _ = bench.run()
    assert driver.is_cancelled
    assert bench.trials == []


def test_progress_is_stored_at_most_once_a_second(bench):
    bench = bench(num_trials=4, comparisons=Comparisons(random_indices=1))
    bench.clock.step = timedelta(0)
    driver = bench.driver()
    number = begin(driver)
    before = len(bench.store.events(search_id="s1"))
    for num_tokens in range(1, 16):
        driver.on_tokens(number, num_tokens)
    assert len(bench.store.events(search_id="s1")) == before
    bench.clock.advance(1)
    driver.on_tokens(number, 15)
    # Four trials to the first rung at 40 tokens, two from there to 80, one baseline of 80.
    expected = Progress(stage="trials", done=15, total=4 * 40 + 2 * 40 + 80, unit="tokens")
    assert bench.store.get_search("s1").progress == expected


# Baselines


def test_baselines_run_to_the_last_rung_and_never_win(bench):
    bench = bench(num_trials=5, comparisons=Comparisons(random_architectures=4, random_indices=2))
    driver, _ = bench.run()
    baselines = [trial for trial in bench.trials if trial.role is not TrialRole.SEARCH]
    assert [trial.role for trial in baselines].count(TrialRole.RANDOM_INDICES) == 2
    assert {trial.state for trial in baselines} == {TrialState.COMPLETED}
    assert {trial.measurement.num_tokens for trial in baselines} == {80}
    winner = best_trial(bench.trials)
    assert winner.role is TrialRole.SEARCH
    assert {t.architecture for t in baselines if t.role is TrialRole.RANDOM_INDICES} == {winner.architecture}
    search = bench.store.get_search("s1")
    found = compare(search, set(random_draws(search.spec, driver.space)), bench.trials)
    assert (len(found.random_architectures), len(found.random_indices)) == (4, 2)
    assert found.winner_loss == winner.measurement.loss
    assert found.parent_loss == 1.0


def test_baselines_train_nothing_that_the_search_has_trained(bench):
    """With every architecture searched, each draw is one that was completed or stopped at a rung."""
    spec = small_spec()
    axes = replace(spec.axes, num_layers=(5,), hidden_size=(104,), num_attention_heads=(8,))
    bench = bench(axes=axes, num_trials=50, comparisons=Comparisons(random_architectures=50))
    driver, _ = bench.run()
    num_stopped = states(bench).count("STOPPED")
    baselines = [trial for trial in bench.trials if trial.role is TrialRole.RANDOM_ARCHITECTURE]
    assert num_stopped == len(baselines) > 1
    assert {trial.state for trial in baselines} == {TrialState.COMPLETED}
    for stretches in bench.simulation.trained().values():
        assert [before for before, _ in stretches] == [0, *(after for _, after in stretches[:-1])]
        assert stretches[-1][1] == 80
    search = bench.store.get_search("s1")
    found = compare(search, set(random_draws(search.spec, driver.space)), bench.trials)
    assert len(found.random_architectures) == len(driver.space)


def test_the_search_is_completing_once_its_own_trials_are_final(bench):
    bench = bench(num_trials=1, rungs=Rungs(fractions=()), comparisons=Comparisons(random_indices=1))
    driver = bench.driver()
    number = begin(driver)
    assert driver.next_trial() is Next.WAIT
    assert bench.store.get_search("s1").state is SearchState.RUNNING
    finish(driver, number, 2.0)
    baseline = begin(driver)
    assert bench.store.get_search("s1").state is SearchState.COMPLETING
    assert driver.next_trial() is Next.WAIT
    driver.on_end(baseline, ERROR)
    assert driver.next_trial() is Next.DONE
    assert driver.failure is None
