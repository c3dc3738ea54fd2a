"""What Ray Tune does beyond what every executor must: see ``tests/contracts/test_executor.py``."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import ray

from nas.clock import utc_now
from nas.driver import Driver
from nas.orders import Cancel, StopTrial
from nas.resources import Resources
from nas.search import Rungs
from nas.storage.memory import InMemoryStore
from nas.trial import TrialState
from tests.fakes import Simulation, running_search, small_spec
from tests.simulated import evaluated, make_simulated
from workers.cluster import no_place
from workers.executor import TuneExecutor, _Stopper
from workers.report import TrialReport

pytestmark = pytest.mark.usefixtures("ray_cluster")


def _forever(_trial):
    for num_tokens in range(1, 10**9):
        time.sleep(0.05)
        yield TrialReport(num_tokens=num_tokens)


def make_forever():
    """Trials that only send signs of life."""
    return _forever


def _hung(_trial):
    yield TrialReport(num_tokens=0)
    time.sleep(10**6)


def make_hung():
    """Trials that report once and never again."""
    return _hung


def _first_hangs(simulation, trial):
    if trial.number == 0:
        yield from _hung(trial)
    yield from evaluated(simulation, trial)


def make_first_hangs(simulation):
    """Trials of which the first hangs."""
    return partial(_first_hangs, simulation)


def _broken(_trial):
    raise RuntimeError("out of luck")


def make_broken():
    """Trials that raise at once."""
    return _broken


class Bench:
    """A running search in memory, and Tune to run it."""

    def __init__(self, directory, **changes):
        self.spec = small_spec(**changes)
        self.store = InMemoryStore()
        self.search, self.lease = running_search(self.store, self.spec, utc_now)
        self.simulation = Simulation(directory=directory, spec=self.spec)
        self.driver = Driver(self.search, self.store, self.lease, utc_now)

    def run(self, make=None, **options):
        TuneExecutor(
            make or partial(make_simulated, self.simulation),
            resources=self.spec.resources,
            max_parallel=self.spec.max_parallel,
            **options,
        ).run(self.driver)

    @property
    def trials(self):
        return self.store.trials("s1")

    def pids(self):
        return {int(attempt.worker.rpartition(":")[2]) for attempt in self.store.attempts("s1")}


@pytest.fixture
def bench(tmp_path):
    return partial(Bench, tmp_path)


def test_a_search_runs_to_its_end_in_reused_workers(bench):
    search = bench(rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False))
    search.run()
    states = [trial.state for trial in search.trials]
    assert states.count(TrialState.COMPLETED) >= 1
    assert set(states) == {TrialState.COMPLETED, TrialState.STOPPED}
    assert len(search.pids()) <= search.spec.max_parallel


def _when_running(search, act):
    """Do something in a thread once every slot has a running trial."""

    def wait():
        while len(search.store.attempts("s1")) < search.spec.max_parallel:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_hung_worker_does_not_outlive_its_search(bench, monkeypatch):
    monkeypatch.setattr("workers.executor.GRACE_SECONDS", 1.0)
    search = bench(max_parallel=1)
    thread = _when_running(search, lambda: search.store.give_order("s1", Cancel(), at=utc_now()))
    search.run(make_hung)
    thread.join()
    assert {trial.state for trial in search.trials} == {TrialState.CANCELLED}
    (pid,) = search.pids()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.searches
def test_a_hung_worker_whose_trial_is_stopped_costs_the_others_no_place(bench, monkeypatch):
    monkeypatch.setattr("workers.executor.GRACE_SECONDS", 1.0)
    search = bench(max_parallel=2, num_trials=4)
    thread = _when_running(
        search, lambda: search.store.give_order("s1", StopTrial(trial_number=0), at=utc_now())
    )
    search.run(partial(make_first_hangs, search.simulation))
    thread.join()
    states = [trial.state for trial in search.trials]
    assert (states[0], len(states)) == (TrialState.CANCELLED, 4)
    assert set(states[1:]) <= {TrialState.COMPLETED, TrialState.STOPPED}
    assert all(attempt.failure is None for attempt in search.store.attempts("s1"))
    for stretches in search.simulation.trained().values():
        assert len(stretches) == len(set(stretches))


def test_a_trial_that_finds_no_place_is_told_of_and_orders_are_seen_meanwhile(bench, monkeypatch):
    """Each of two asks for all CPUs that there are."""
    for name in ("PATIENCE_SECONDS", "LOOK_SECONDS", "GRACE_SECONDS"):
        monkeypatch.setattr(f"workers.executor.{name}", 0.2)
    cpus = ray.cluster_resources()["CPU"]
    search = bench(max_parallel=2, resources=Resources(cpus=cpus))
    told = []

    def cancel_once_told():
        while not told:
            progress = search.store.get_search("s1").progress
            stage = progress.stage if progress else ""
            told.extend([stage] if stage.startswith("waiting for room") else [])
            time.sleep(0.05)
        search.store.give_order("s1", Cancel(), at=utc_now())

    thread = threading.Thread(target=cancel_once_told, daemon=True)
    thread.start()
    search.run(make_forever, no_place=lambda count: no_place(search.spec.resources, count=count))
    thread.join()
    assert f"asks Ray for {cpus:g} CPU; free now: " in told[0]
    assert {trial.state for trial in search.trials} == {TrialState.CANCELLED}


def test_a_failed_trial_takes_the_end_of_the_log_along(bench):
    search = bench(max_parallel=1, num_trials=1)
    search.run(make_broken, log_tail=lambda: "last words")
    (trial,) = search.trials
    assert trial.failure.log_tail == "last words"
    assert "out of luck" in trial.failure.traceback
    (attempt,) = search.store.attempts("s1")
    assert attempt.failure == trial.failure


def test_told_to_stop_it_leaves_trials_unfinished(bench):
    search = bench()
    stop = threading.Event()
    thread = _when_running(search, stop.set)
    search.run(make_forever, should_stop=stop.is_set)
    thread.join()
    assert {trial.state for trial in search.trials} == {TrialState.RUNNING}


def test_an_idle_worker_that_dies_costs_no_trial(bench):
    """Tune may hand a trial to a reused worker that has just died."""
    search = bench(num_trials=8, max_parallel=1)
    killed = []
    save = search.store.save_trial

    def save_and_kill(trial, *rest):
        save(trial, *rest)
        if trial.state is TrialState.COMPLETED and not killed:
            killed.extend(search.pids())
            os.kill(killed[0], signal.SIGKILL)

    search.store.save_trial = save_and_kill
    search.run()
    assert killed
    assert {trial.state for trial in search.trials} <= {TrialState.COMPLETED, TrialState.STOPPED}


def test_tune_giving_up_costs_no_trial(bench, monkeypatch):
    """As it does at a death that it did not expect; what was in flight is another Tune's then."""
    crashes = []
    stop_all = _Stopper.stop_all

    def crash_once(stopper):
        if len(search.store.points("s1")) > 3 and not crashes:
            crashes.append(True)
            raise RuntimeError("caught unexpected exception")
        return stop_all(stopper)

    monkeypatch.setattr(_Stopper, "stop_all", crash_once)
    search = bench()
    search.run()
    assert crashes
    assert {trial.state for trial in search.trials} == {TrialState.COMPLETED, TrialState.STOPPED}
    for stretches in search.simulation.trained().values():
        assert len(stretches) == len(set(stretches))
