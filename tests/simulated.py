"""Simulated trials as real worker processes evaluate them: what ``tests.fakes`` raises kills for real."""

import os
import signal
from collections.abc import Iterator
from functools import partial

from nas.trial import Trial
from tests.fakes import LostWorker, Simulation
from workers.executor import TuneExecutor
from workers.report import Evaluate, TrialReport


def evaluated(simulation: Simulation, trial: Trial) -> Iterator[TrialReport]:
    """Advance a simulated trial from report to report; a lost worker is killed without a word."""
    running = simulation.open(trial)
    while True:
        try:
            report = running.advance()
        except LostWorker:
            os.kill(os.getpid(), signal.SIGKILL)
        yield TrialReport(
            num_tokens=report.num_tokens,
            point=report.point,
            checkpoint=report.checkpoint,
            finished=report.finished,
            kept_layers=report.kept_layers,
        )


def make_simulated(simulation: Simulation) -> Evaluate:
    """Return how a worker evaluates the trials of a simulation."""
    return partial(evaluated, simulation)


def tune_executor(simulation: Simulation) -> TuneExecutor:
    """Return Ray Tune on the connected cluster, to run a simulation."""
    return TuneExecutor(
        partial(make_simulated, simulation),
        resources=simulation.spec.resources,
        max_parallel=simulation.spec.max_parallel,
    )
