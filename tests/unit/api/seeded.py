"""Stores with searches in them, made by the real driver; only the training is a formula.

``python -m tests.unit.api.seeded HOME`` fills the store of ``NAS_HOME=HOME``, to look at the pages.
"""

import math
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from minitron.progress import Progress
from nas.axis_importance import axis_importance
from nas.driver import Driver
from nas.finals import Evaluated
from nas.ledger import Ledger
from nas.promoting import left_to_promote, settled
from nas.search import Comparisons, Rungs, Search, SearchSpec, SearchState, Winner
from nas.service import SearchService
from nas.spec import load_spec
from nas.storage.store import Lease, SearchStore
from nas.trial import Failure, FailureKind, Measurement, Point, Trial, TrialRole
from nas.verdicts import Failed, Finished, Next, Verdict
from tests.fakes import END_OF_TIME, ManualClock
from tests.searches import make_scores

DEMO = Path(__file__).parents[3] / "deploy" / "examples" / "tiny.yaml"
NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
PARENT_LOSS = 2.3104
TRACEBACK = """Traceback (most recent call last):
  File "workers/trial.py", line 118, in advance
    loss = self._training.advance(to_tokens=point)
RuntimeError: mat1 and mat2 shapes cannot be multiplied (16x128 and 96x128)
"""


LOG_TAIL = """2025-06-01 06:58:11,204 INFO workers.runner: search: RUNNING
(TrialTrainable pid=4003) Traceback (most recent call last):
2025-06-01 06:59:02,117 ERROR workers.runner: search: RuntimeError"""


def demo_spec(**changes: Any) -> SearchSpec:
    """Return the spec of the demo, of a length that does not change when the demo's is tuned."""
    rungs = Rungs(fractions=(0.75,), keep=0.5, adaptive=False)
    return replace(load_spec(DEMO), **({"num_trials": 12, "rungs": rungs, "prior": "none"} | changes))


class Played:
    """A search that is run by the driver in no time; at most two trials side by side."""

    def __init__(self, store: SearchStore, clock: ManualClock, search_id: str) -> None:
        self.store = store
        self.clock = clock
        self.id = search_id
        lease = store.claim(self.id, "runner", at=clock(), until=END_OF_TIME)
        assert lease
        self.lease: Lease = lease
        self._running: dict[int, Trial] = {}
        self._driver: Driver | None = None

    @property
    def search(self) -> Search:
        """The search as stored."""
        return self.store.get_search(self.id)

    def move(self, state: SearchState, **changes: Any) -> "Played":
        """Move the search to another state."""
        self.store.save_search(self.search.moved(state, self.clock(), **changes), self.lease)
        return self

    def prepare(self, stage: str, done: int, total: int, unit: str) -> "Played":
        """Leave the search while it prepares."""
        at = Progress(stage=stage, done=done, total=total, unit=unit)
        return self.move(SearchState.PREPARING, progress=at)

    def train(self, *, num_points: float = math.inf, failing: tuple[int, ...] = ()) -> "Played":
        """Run trials until ``num_points`` are stored, or to their end; those ``failing`` raise."""
        if self._driver is None:
            self.move(SearchState.PREPARING).move(
                SearchState.RUNNING, parent_loss=PARENT_LOSS, corrected_loss=PARENT_LOSS - 0.125
            )
            self._driver = Driver(self.search, self.store, self.lease, self.clock)
        while len(self.store.points(self.id)) < num_points:
            while len(self._running) < 2:
                trial = self._driver.next_trial()
                if not isinstance(trial, Trial):
                    break
                self._running[trial.number] = trial
                self._driver.on_attempt(trial.number, f"host:{4000 + trial.number}")
            if not self._running:
                assert trial is Next.DONE
                break
            number = next(iter(self._running))
            trial = self._running.pop(number)
            if self._step(self._driver, trial, fails=number in failing):
                self._running[number] = trial
        return self

    def promote(self, *, num_points: float = math.inf) -> "Played":
        """Run the promotions that are wanted, until they have ``num_points`` points or to their end."""
        while left := left_to_promote(self.search, self.store.trials(self.id)):
            driver = Driver(self.search, self.store, self.lease, self.clock, promotion=left[0])
            while isinstance(trial := driver.next_trial(), Trial):
                driver.on_attempt(trial.number, "host:5000")
                while self._step(driver, trial, fails=False):
                    if (
                        sum(each.trial_number >= trial.number for each in self.store.points(self.id))
                        >= num_points
                    ):
                        return self
        return self

    def succeed(self, artifact_root: Path) -> "Played":
        """Export a winner of two small files, and end."""
        view = SearchService(self.store, artifact_root=artifact_root, clock=self.clock).get(self.id)
        assert view.best
        self.weigh()
        winner, choice = settled(self.search.spec, self.store.trials(self.id))
        assert winner
        path = f"searches/{self.id}/winner"
        (artifact_root / path).mkdir(parents=True)
        (artifact_root / path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
        (artifact_root / path / "model.safetensors").write_bytes(random.Random(0).randbytes(3_000_000))
        evaluated = (
            Evaluated(trial_number=None, scores=make_scores(arc_easy=0.6125)),
            Evaluated(trial_number=view.best.number, scores=make_scores(arc_easy=0.4375)),
        )
        return self.move(
            SearchState.SUCCEEDED,
            winner=Winner(trial_number=winner.number, path=path),
            choice=choice,
            evaluated=evaluated,
        )

    def weigh(self) -> "Played":
        """Store how much each axis matters, as the runner does beside its trials."""
        importance = axis_importance(self.search, self.store.trials(self.id), self.store.points(self.id))
        if importance:
            self.store.save_importance(importance, self.lease)
        return self

    def end_trials(self) -> "Played":
        """Make every trial final, as a runner does before its search ends early."""
        ledger = Ledger(self.store, self.lease)
        for trial in ledger.trials:
            if not trial.state.is_final:
                ledger.close_attempt(trial.number, self.clock())
                ledger.save(trial.cancelled(self.clock()))
        return self

    def _loss(self, trial: Trial, share: float) -> float:
        if trial.promoted_from is None:
            return _loss(trial, share)
        source = self.store.trials(self.id)[trial.promoted_from].measurement
        assert source
        return source.loss - 0.06 * (1 - math.exp(-3 * share))

    def _step(self, driver: Driver, trial: Trial, *, fails: bool) -> bool:
        """Train a trial to its next point; return whether it goes on."""
        seen = [
            each.point.num_tokens for each in self.store.points(self.id) if each.trial_number == trial.number
        ]
        tokens = min(point for point in driver.schedule.points if point > max(seen, default=-1))
        self.clock.advance(2.5)
        if fails and tokens:
            failure = Failure(kind=FailureKind.ERROR, message=TRACEBACK.splitlines()[-1], traceback=TRACEBACK)
            driver.on_end(trial.number, Failed(failure=failure))
            return False
        driver.on_pruned(trial.number, _kept_layers(trial))
        loss = self._loss(trial, tokens / driver.schedule.num_tokens)
        at = self.clock()
        point = Point(
            num_tokens=tokens, loss=loss, train_loss=loss / 3 if tokens else None, seconds=2.4, at=at
        )
        verdict = driver.on_point(trial.number, point, f"trials/{trial.number}")
        if tokens == driver.schedule.num_tokens:
            measurement = Measurement(
                num_tokens=tokens,
                loss=loss,
                loss_before_retraining=self._loss(trial, 0.0),
                num_parameters=trial.architecture.parameter_count,
                train_seconds=10.0,
                shard_losses=_shard_losses(trial, loss),
            )
            driver.on_end(
                trial.number, Finished(measurement=measurement, checkpoint=f"trials/{trial.number}")
            )
            return False
        return verdict is Verdict.CONTINUE


def _shard_losses(trial: Trial, loss: float) -> tuple[float, ...]:
    """Return losses on shards of a promotion, most of whose differences the shard makes, and little the student."""
    if trial.promotion is None:
        return ()
    shards, draw = trial.promotion.num_shards, random.Random(trial.architecture.name)
    own = [0.2 * math.sin(shard) + draw.gauss(0, 0.025) for shard in range(shards)]
    return tuple(loss + each - sum(own) / shards for each in own)


def _kept_layers(trial: Trial) -> tuple[int, ...]:
    """Return the layers of the tiny parent without a block in its middle; a random baseline drops the first ones."""
    dropped = 6 - trial.architecture.num_layers
    first = 0 if trial.role is TrialRole.RANDOM_INDICES else 3
    return tuple(layer for layer in range(6) if not first <= layer < first + dropped)


def _loss(trial: Trial, share: float) -> float:
    shape = trial.architecture
    noise = random.Random(f"{shape.name} {trial.role}").gauss(0, 0.015)
    lost = 0.5 * (1 - shape.hidden_size / 128) + 0.35 * (1 - shape.intermediate_size / 256)
    end = PARENT_LOSS + 0.08 + lost + 0.05 * (6 - shape.num_layers) + noise
    begin = 3.2 + 2.5 * lost + (1.4 if trial.role is TrialRole.RANDOM_INDICES else 0)
    end += 0.25 * (trial.role is TrialRole.RANDOM_INDICES)
    return end + (begin - end) * math.exp(-4 * share)


def fill(
    store: SearchStore, artifact_root: Path, now: datetime, clock: ManualClock | None = None
) -> dict[str, Played]:
    """Store a search in every state that a page shows differently; return them by name."""
    clock = clock or ManualClock()
    service = SearchService(store, artifact_root=artifact_root, clock=clock)
    played: dict[str, Played] = {}

    def new(name: str, ago: timedelta, **changes: Any) -> Played:
        clock.now = now - ago
        played[name] = Played(store, clock, service.create(demo_spec(name=name, **changes)).id)
        return played[name]

    new("succeeded", timedelta(days=1)).train(failing=(3,)).succeed(artifact_root)
    new("failed", timedelta(hours=5)).train(num_points=9)
    failure = Failure(
        kind=FailureKind.ERROR, message=TRACEBACK.splitlines()[-1], traceback=TRACEBACK, log_tail=LOG_TAIL
    )
    played["failed"].end_trials().move(SearchState.FAILED, failure=failure)
    new("cancelled", timedelta(hours=3)).train(num_points=12).end_trials().move(SearchState.CANCELLED)
    new("preparing", timedelta(minutes=1)).prepare("teacher answers", 61_440, 98_304, "tokens")
    new("running", timedelta(minutes=2), comparisons=Comparisons(random_architectures=2)).train(
        num_points=31, failing=(2,)
    )
    clock.now = now
    service.create(demo_spec(name="queued"))
    return played


def main() -> None:
    """Fill the store of a home that the command line names."""
    from nas.settings import Settings
    from nas.storage.sql import open_store

    settings = Settings(home=Path(sys.argv[1]))
    store = open_store(settings.database_url)
    for name, played in fill(store, settings.artifact_root, datetime.now(UTC)).items():
        print(name, played.id)


if __name__ == "__main__":
    main()
