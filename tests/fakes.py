"""Stand-ins for what is slow or far away: time, training, workers. Nothing here imports torch or Ray.

``Simulation`` trains by formula and keeps its state in files, as a real trial does, so that any
executor in any process can run it; ``FakeExecutor`` runs it in this one. ``Fuse`` ends the runner
between any two steps.
"""

import json
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.errors import DivergedTraining
from minitron.parents import parent_architecture
from minitron.recipe import DataRecipe, TrainingRecipe
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.clock import Clock
from nas.driver import Driver
from nas.parent import architecture_of
from nas.rungs import Schedule, schedule
from nas.search import Rungs, Search, SearchSpec, SearchState
from nas.space import search_space
from nas.storage.store import Lease, SearchStore
from nas.trial import Failure, FailureKind, Measurement, Point, Trial, TrialRole
from nas.verdicts import Failed, Finished, Next, Verdict

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time that passes by ``step`` at each look, and when told to."""

    def __init__(self, now: datetime = EPOCH, *, step: timedelta = timedelta(0)) -> None:
        self.now = now
        self.step = step

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


def small_spec(**changes: Any) -> SearchSpec:
    """Return a search of a few trials over a few hundred architectures of the tiny parent.

    Ten steps of 8 tokens: points at 0, 16, 32, ... 80 tokens, rungs at 40 and 80.
    """
    return replace(
        SearchSpec(
            parent="builtin:tiny",
            budget=Budget(min_parameters=520_000, max_parameters=640_000),
            axes=Axes(
                num_layers=(4, 5, 6),
                hidden_size=Range(start=80, stop=128, step=8),
                intermediate_size=Range(start=96, stop=256, step=16),
                num_attention_heads=(4, 8),
            ),
            data=DataRecipe(sequence_length=8, validation_tokens=8),
            training=TrainingRecipe(num_tokens=80, batch_tokens=8),
            num_points=5,
            num_trials=6,
            max_parallel=2,
            rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False),
        ),
        **changes,
    )


def running_search(
    store: SearchStore, spec: SearchSpec, clock: Clock, *, search_id: str = "s1", **known: Any
) -> tuple[Search, Lease]:
    """Store a search of which more may be known, claim and prepare it; return what a driver needs."""
    store.add_search(
        Search(
            id=search_id,
            spec=spec,
            num_feasible=len(search_space(spec)),
            parent_parameters=architecture_of(spec).parameter_count,
            created_at=clock(),
            **known,
        )
    )
    return taken_over(store, clock, owner="runner 1", search_id=search_id)


END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


def taken_over(
    store: SearchStore, clock: Clock, *, owner: str, search_id: str = "s1"
) -> tuple[Search, Lease]:
    """Claim a search as a new runner does, and prepare it again; the lease holds until this is called again."""
    now = clock()
    lease = store.claim(search_id, owner, at=END_OF_TIME, until=END_OF_TIME)
    assert lease is not None
    search = store.get_search(search_id).moved(SearchState.PREPARING, now)
    search = replace(search.moved(SearchState.RUNNING, now), parent_loss=1.0)
    store.save_search(search, lease)
    return search, lease


def simulated_loss(architecture: Architecture, num_tokens: int, role: TrialRole = TrialRole.SEARCH) -> float:
    """Held-out nats per token by formula: wide students end best, deep ones lead before retraining."""
    parent = parent_architecture("builtin:tiny")
    depth = architecture.num_layers / parent.num_layers
    width = architecture.hidden_size / parent.hidden_size
    neurons = architecture.intermediate_size / parent.intermediate_size
    heads = architecture.num_attention_heads / parent.num_attention_heads
    ends_at = 1.0 + (1 - width) ** 2 + 0.5 * (1 - neurons) ** 2 + 0.2 * (1 - depth) + 0.1 * (1 - heads)
    begins_above = 2.0 + 3.0 * (1 - depth)
    random_indices = 0.5 * (role is TrialRole.RANDOM_INDICES)
    return ends_at + random_indices + begins_above * math.exp(-num_tokens / 20)


class LostWorker(Exception):
    """The worker process is to die here, without a word."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong in which trials, by number; always after the first point, at 0 tokens."""

    lost_workers: Mapping[int, int] = field(default_factory=dict)
    """How many workers die of a trial."""
    diverging: frozenset[int] = frozenset()
    raising: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class SimulatedReport:
    """What a worker says after each stretch of training."""

    num_tokens: int
    point: Point | None = None
    checkpoint: str | None = None
    finished: Measurement | None = None
    kept_layers: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Trials of one spec whose training is a formula; picklable, its state lies in ``directory``."""

    directory: Path
    spec: SearchSpec
    faults: Faults = field(default_factory=Faults)

    @property
    def schedule(self) -> Schedule:
        """Where trials are evaluated and compared."""
        return schedule(self.spec)

    def open(self, trial: Trial) -> "SimulatedTrial":
        """Return a trial where its own state, or else its checkpoint, says that it stands."""
        return SimulatedTrial(self, trial)

    def trained(self) -> dict[str, list[tuple[int, int]]]:
        """Return the stretches of tokens trained on, by student, in order of training.

        A student is an architecture with its indices; it may have been trained by several trials.
        """
        stretches: dict[str, list[tuple[int, int]]] = {}
        for path in sorted(self.directory.glob("trained-*")):
            lines = path.read_text(encoding="utf-8").splitlines()
            for student, before, after in map(json.loads, lines):
                stretches.setdefault(student, []).append((before, after))
        return {student: sorted(each) for student, each in stretches.items()}


class SimulatedTrial:
    """One trial, advanced half a stretch between points at a time."""

    def __init__(self, simulation: Simulation, trial: Trial) -> None:
        self.simulation = simulation
        self.trial = trial
        self.checkpoint = f"state-{trial.number:03}.json"
        begun = self._load(self.checkpoint)
        start = begun or (self._load(trial.checkpoint) if trial.checkpoint else {})
        self.num_tokens = start.get("num_tokens", 0)
        self.num_lost = begun.get("num_lost", 0)
        self.is_silent = True
        """Whether the point where the trial stands is still to be told."""

    def advance(self) -> SimulatedReport:
        """Train up to half way to the next point and report; the first report is where it stands."""
        points = self.simulation.schedule.points
        if not self.is_silent:
            self._fail_if_told()
            following = min(point for point in points if point > self.num_tokens)
            before = max(point for point in points if point <= self.num_tokens)
            self._train(following if self.num_tokens > before else (before + following) // 2)
        self.is_silent = False
        if self.num_tokens not in points:
            return SimulatedReport(num_tokens=self.num_tokens)
        return SimulatedReport(
            num_tokens=self.num_tokens,
            point=Point(num_tokens=self.num_tokens, loss=self._loss(self.num_tokens), at=EPOCH),
            checkpoint=self.checkpoint if self.num_tokens in self.simulation.schedule.rungs else None,
            finished=self._measurement() if self.num_tokens == points[-1] else None,
            kept_layers=tuple(range(self.trial.architecture.num_layers)),
        )

    def _fail_if_told(self) -> None:
        number, faults = self.trial.number, self.simulation.faults
        if self.num_lost < faults.lost_workers.get(number, 0):
            self.num_lost += 1
            self._save()
            raise LostWorker
        if number in faults.diverging:
            raise DivergedTraining(f"loss is nan after {self.num_tokens} tokens")
        if number in faults.raising:
            raise RuntimeError("the code raised")

    def _train(self, to_tokens: int) -> None:
        student = self.trial.architecture.name
        if self.trial.role is TrialRole.RANDOM_INDICES:
            student += f"-random-{self.trial.number}"
        if self.trial.role is TrialRole.PROMOTION:
            student += f"-promoted-{self.trial.number}"
        with (self.simulation.directory / f"trained-{self.trial.number:03}").open(
            "a", encoding="utf-8"
        ) as file:
            file.write(json.dumps([student, self.num_tokens, to_tokens]) + "\n")
        self.num_tokens = to_tokens
        self._save()

    def _load(self, checkpoint: str) -> dict[str, int]:
        path = self.simulation.directory / checkpoint
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _save(self) -> None:
        state = json.dumps({"num_tokens": self.num_tokens, "num_lost": self.num_lost})
        (self.simulation.directory / self.checkpoint).write_text(state, encoding="utf-8")

    def _loss(self, num_tokens: int) -> float:
        if self.trial.promotion is not None and self.trial.promotion.start == "student":
            num_tokens += 80  # that it was trained on before
        return simulated_loss(self.trial.architecture, num_tokens, self.trial.role)

    def _shard_losses(self) -> tuple[float, ...]:
        promotion, loss = self.trial.promotion, self._loss(self.num_tokens)
        return tuple(loss + shard / 100 for shard in range(promotion.num_shards)) if promotion else ()

    def _measurement(self) -> Measurement:
        return Measurement(
            num_tokens=self.num_tokens,
            loss=self._loss(self.num_tokens),
            loss_before_retraining=self._loss(0),
            num_parameters=self.trial.architecture.parameter_count,
            train_seconds=0.0,
            shard_losses=self._shard_losses(),
        )


class RunnerKilled(BaseException):
    """The runner's process ends here; nothing may catch it."""


class Fuse:
    """Kills the runner at the given step, counted over the store's writes and the executor's steps."""

    def __init__(self, steps: float = math.inf) -> None:
        self.steps = steps
        self.num_burnt = 0

    def burn(self) -> None:
        """Take one step, or be killed before it."""
        if self.num_burnt >= self.steps:
            raise RunnerKilled
        self.num_burnt += 1


class FusedStore:
    """A store that kills the runner before or after any of its writes."""

    def __init__(self, store: SearchStore, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in {"save_search", "save_priors", "save_trial", "add_point", "save_attempt"}:
            return method

        def write(*args: Any) -> None:
            self._fuse.burn()
            method(*args)
            self._fuse.burn()

        return write


class FakeExecutor:
    """Runs simulated trials in this process, in an order that depends only on how far each is.

    What was not told yet is told, then the trial with the fewest tokens trains, so that after a crash
    the order goes on as it was.
    ``is_replacing``: whether a lost worker is replaced here, or its trial reported as ended.
    """

    def __init__(
        self,
        simulation: Simulation,
        *,
        concurrency: int = 2,
        is_replacing: bool = True,
        fuse: Fuse | None = None,
    ) -> None:
        self.simulation = simulation
        self.concurrency = concurrency
        self.is_replacing = is_replacing
        self.fuse = fuse or Fuse()
        self.most_running = 0
        self._num_workers = 0
        self._running: dict[int, SimulatedTrial] = {}

    def run(self, driver: Driver) -> None:
        """Run the search to its end."""
        while not self._is_done(driver):
            if self._step(driver, number := min(self._running, key=self._turn)):
                del self._running[number]

    def _turn(self, number: int) -> tuple[bool, int, int]:
        running = self._running[number]
        return not running.is_silent, running.num_tokens, number

    def _is_done(self, driver: Driver) -> bool:
        while len(self._running) < self.concurrency:
            trial = driver.next_trial()
            if trial is Next.DONE:
                return True
            if trial is Next.WAIT:
                break
            self._begin(driver, trial)
        assert self._running, "told to wait for nothing"
        return False

    def _begin(self, driver: Driver, trial: Trial) -> None:
        assert trial.number not in self._running
        self.fuse.burn()
        self._num_workers += 1
        self._running[trial.number] = self.simulation.open(trial)
        self.most_running = max(self.most_running, len(self._running))
        driver.on_attempt(trial.number, f"worker {self._num_workers}")

    def _step(self, driver: Driver, number: int) -> bool:
        """Train a little and report; return whether the trial's execution has ended."""
        running = self._running[number]
        try:
            report = running.advance()
        except (LostWorker, DivergedTraining, RuntimeError) as error:
            if (
                self.is_replacing
                and isinstance(error, LostWorker)
                and running.num_lost % driver.spec.max_attempts
            ):
                del self._running[number]
                self._begin(driver, running.trial)
                return False
            driver.on_end(number, Failed(failure=_failure(error)))
            return True
        self.fuse.burn()
        if report.kept_layers is not None:
            driver.on_pruned(number, report.kept_layers)
        if report.point is None:
            verdict = driver.on_tokens(number, report.num_tokens)
        else:
            verdict = driver.on_point(number, report.point, report.checkpoint)
        if report.finished and verdict is Verdict.CONTINUE:
            self.fuse.burn()
            driver.on_end(number, Finished(measurement=report.finished, checkpoint=running.checkpoint))
        return bool(report.finished) or verdict is not Verdict.CONTINUE


def _failure(error: Exception) -> Failure:
    kinds = {LostWorker: FailureKind.WORKER_LOST, DivergedTraining: FailureKind.NON_FINITE}
    kind = kinds.get(type(error), FailureKind.ERROR)
    trace = "".join(traceback.format_exception(error))
    return Failure(kind=kind, message=str(error) or "worker died", traceback=trace)
