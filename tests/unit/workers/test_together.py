"""Several processes evaluate a trial: one driver, one result, and whoever dies takes only the attempt along."""

import os
import signal
from collections import Counter
from functools import partial

import pytest
from ray.util import placement_group_table

from minitron.errors import DatasetTooSmall
from minitron.progress import Progress
from nas.clock import utc_now
from nas.driver import Driver
from nas.resources import Resources
from nas.search import Rungs
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.trial import FailureKind, Trial, TrialState
from tests.fakes import Simulation, running_search, small_spec
from tests.simulated import evaluated
from workers.cluster import run_task
from workers.executor import TuneExecutor
from workers.report import TrialReport
from workers.together import EvaluateTogether

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.searches]

TWO = Resources(cpus=1, processes=2)


def _nothing():
    """Every process here may run trials."""


def _in_step(simulation, fault, group, trial):
    """Rank 0 reports what is simulated; the other keeps step with it, and fails as it is told to."""
    reports = evaluated(simulation, trial) if group.rank == 0 else None
    (simulation.directory / f"rank-{group.rank}-{os.getpid()}").touch()
    while True:
        report = next(reports, None) if reports else None
        if not group.first(report is not None):
            return
        if group.rank:
            fault(simulation.directory, trial)
        try:
            yield report or TrialReport(num_tokens=0)
        except GeneratorExit:
            group.first(False)
            raise


def _no_fault(_directory, _trial):
    """All goes well."""


def _dies_once(directory, trial):
    mark = directory / "died"
    if trial.number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _raises(_directory, trial):
    if trial.number == 1:
        raise DatasetTooSmall("data.source: found nothing on this process")


def _member(simulation, fault, group):
    return partial(_in_step, simulation, fault, group)


def _make(simulation, fault):
    return EvaluateTogether(partial(_member, simulation, fault), TWO, _nothing)


def _ran(directory, fault):
    """Return the store of a search of three trials that has ended."""
    spec = small_spec(num_trials=3, max_parallel=1, rungs=Rungs(fractions=(0.5,), keep=0.4, adaptive=False))
    store = InMemoryStore()
    search, lease = running_search(store, spec, utc_now)
    simulation = Simulation(directory=directory, spec=spec)
    executor = TuneExecutor(partial(_make, simulation, fault), resources=TWO, max_parallel=1)
    executor.run(Driver(search, store, lease, utc_now))
    return store


def test_the_same_processes_evaluate_one_trial_after_another(tmp_path):
    """Also where trials end early, at a rung."""
    states = Counter(trial.state for trial in _ran(tmp_path, _no_fault).trials("s1"))
    assert states[TrialState.COMPLETED] >= 1
    assert states[TrialState.STOPPED] >= 1
    assert sum(states.values()) == 3
    ranks = [path.name.split("-")[1] for path in tmp_path.glob("rank-*")]
    assert sorted(ranks) == ["0", "1"]


def test_a_lost_process_is_a_lost_worker(tmp_path):
    """The trial is handed out again, to a new process beside the one that is left."""
    store = _ran(tmp_path, _dies_once)
    lost = [attempt for attempt in store.attempts("s1") if attempt.failure]
    assert [(attempt.trial_number, attempt.failure.kind) for attempt in lost] == [
        (1, FailureKind.WORKER_LOST)
    ]
    assert "one of 2 processes of the trial died" in lost[0].failure.message
    assert {trial.state for trial in store.trials("s1")} == {TrialState.COMPLETED, TrialState.STOPPED}


def test_what_another_process_raised_is_what_is_told(tmp_path):
    store = _ran(tmp_path, _raises)
    failed = store.trials("s1")[1]
    assert failed.state is TrialState.FAILED
    assert failed.failure.message == "DatasetTooSmall: data.source: found nothing on this process"
    assert {trial.state for trial in store.trials("s1")} > {TrialState.FAILED}


def _trained(simulation, report):
    """Evaluate a trial to its end, as work beside any driver."""
    trial = Trial(
        search_id="s1",
        number=0,
        architecture=search_space(simulation.spec).architectures[0],
        created_at=utc_now(),
    )
    for told in _make(simulation, _no_fault)(trial):
        report(Progress(stage="again", done=told.num_tokens))
        if told.finished:  # as the simulation knows no end
            break


def test_work_that_is_no_trial_may_start_processes_beside_its_own(tmp_path):
    simulation = Simulation(directory=tmp_path, spec=small_spec(rungs=Rungs(fractions=())))
    told = []
    run_task(partial(_trained, simulation), resources=TWO, max_attempts=1, report=told.append, processes=2)
    assert told[-1].done == 80
    ranks = [path.name.split("-")[1] for path in tmp_path.glob("rank-*")]
    assert sorted(ranks) == ["0", "1"]
    states = {group["state"] for group in placement_group_table().values()}
    assert states <= {"REMOVED"}, "their places are given back"
