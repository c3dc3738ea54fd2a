"""Run real searches whose trials are looked up in a table instead of trained: the driver, the store and Optuna are real.

Tokens are counted as they would have been trained, those of stopped trials included.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from minitron.architecture import Architecture
from nas.driver import Driver, Finished, Next, Verdict
from nas.search import SearchSpec
from nas.storage.memory import InMemoryStore
from nas.trial import Measurement, Point, Trial
from tests.fakes import EPOCH, ManualClock, running_search
from tests.search_bench.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a search knew after so many tokens."""

    num_tokens: int
    """Trained by all trials so far."""
    row: int
    """The architecture with the best final loss seen so far."""


def replay(table: Table, spec: SearchSpec, *, max_tokens: int) -> list[Step]:
    """Return each new best of a search of ``table``, until ``max_tokens`` are trained or nothing is left to try.

    The search sees the losses of one seed of the table, which its own seed chooses.
    """
    store, clock = InMemoryStore(), ManualClock()
    search, lease = running_search(store, spec, clock)
    driver = Driver(search, store, lease, clock)
    return list(_run(driver, table, spec.seed % table.losses_NSP.shape[1], max_tokens))


def _run(driver: Driver, table: Table, seed: int, max_tokens: int) -> Iterator[Step]:
    rows = {architecture: row for row, architecture in enumerate(table.architectures)}
    columns = {tokens: column for column, tokens in enumerate(table.points)}
    points, rungs = driver.schedule.points, driver.schedule.rungs
    tried: dict[int, Architecture] = {}
    standing: dict[int, int] = {}
    """Tokens of each running trial; -1 before its first point."""
    num_tokens, best = 0, float("inf")
    while num_tokens < max_tokens:
        while isinstance(trial := driver.next_trial(), Trial):
            driver.on_attempt(trial.number, "replay")
            tried[trial.number] = trial.architecture
            standing[trial.number] = rungs[trial.rung - 1] if trial.rung else -1
        if trial is Next.DONE:
            return
        number = min(standing, key=lambda each: (standing[each], each))
        architecture = tried[number]
        losses_P = table.losses_NSP[rows[architecture], seed]
        at = min(tokens for tokens in points if tokens > standing[number])
        num_tokens += at - max(standing[number], 0)
        standing[number] = at
        loss = float(losses_P[columns[at]])
        verdict = driver.on_point(number, Point(num_tokens=at, loss=loss, at=EPOCH), f"{number}-{at}")
        if at == points[-1]:
            measurement = Measurement(
                num_tokens=at,
                loss=loss,
                loss_before_retraining=float(losses_P[0]),
                num_parameters=architecture.parameter_count,
                train_seconds=0.0,
            )
            driver.on_end(number, Finished(measurement=measurement, checkpoint="student"))
            if loss < best:
                best = loss
                yield Step(num_tokens=num_tokens, row=rows[architecture])
        if at == points[-1] or verdict is not Verdict.CONTINUE:
            del standing[number]
