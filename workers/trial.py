"""Evaluates one trial: prune the parent, retrain by distillation, measure the held-out loss on the way.

Knows no Ray and no driver. A trial writes resumable states named by their tokens below its directory;
since everything is a function of spec, trial and tokens, it does not matter which worker goes on from
which state, only how much is done again.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from minitron.checkpoint import load_parent, save_checkpoint
from minitron.data import Blocks, open_blocks
from minitron.device import forget_peak_memory, peak_memory_bytes
from minitron.evaluate import held_out_loss
from minitron.files import new_directory
from minitron.importance import ImportanceScores
from minitron.plan import PruningPlan, plan_pruning, random_plan, whole_plan
from minitron.prune import prune
from minitron.sharding import ALONE, Group
from minitron.streamed_prune import gathered, prune_checkpoint
from minitron.train import Retraining
from nas.layout import source_directory, states_directory, student_directory
from nas.rungs import schedule
from nas.search import SearchSpec
from nas.trial import Measurement, Point, Trial, TrialRole
from workers.device import device_of, use_threads
from workers.report import Prepared, TrialReport
from workers.teachers import Teachers

logger = logging.getLogger(__name__)

SLICE_SECONDS = 2.0
"""At most this much training between two reports, so that a cancelled trial ends soon."""

WAIT_SECONDS = 0.5
"""Between two looks for a teacher that is being corrected."""

HISTORY_FILE = "history.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What has been measured of a trial so far; part of its resumable state."""

    points: tuple[Point, ...] = ()
    seconds: float = 0.0
    """Of training since the last point."""
    loss_sum: float = 0.0
    """Distillation loss times tokens since the last point."""

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), default=datetime.isoformat), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read what ``write`` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        points = (point | {"at": datetime.fromisoformat(point["at"])} for point in data.pop("points"))
        return cls(points=tuple(Point(**point) for point in points), **data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What a student begins from."""

    model_dir: Path
    plan: PruningPlan
    """What is taken of that model."""
    kept_layers: tuple[int, ...] | None
    """Of the parent; None where the trial that made the model did not tell."""
    told: str
    """In words."""


class TrialEvaluator:
    """Evaluates trials of one search one after another, in one process or with others.

    The processes of a group each have one of these and are given the same trials. The one of rank 0 writes, and
    says when a trial ends early; what the others report holds nothing new.

    Args:
        spec: Of the search, or by which its promotions are run.
        prepared: Its shared artifacts; loaded with the first trial, kept for the others.
        root: The artifact root.
        group: The processes that evaluate each trial together.
    """

    def __init__(self, spec: SearchSpec, prepared: Prepared, root: Path, group: Group = ALONE) -> None:
        self._spec = spec
        self._prepared = prepared
        self._root = root
        self._group = group
        self._is_alone = group.count == 1

    def __call__(self, trial: Trial) -> Iterator[TrialReport]:
        """Evaluate ``trial`` and report on the way; see ``workers.report.Evaluate``.

        Raises:
            DivergedTraining: A loss or gradient that is not finite.
            OutOfSpace: The disk is full.
        """
        for report in self._reports(trial):
            try:
                yield report
            except GeneratorExit:
                self._group.first(False)
                raise
            if not self._group.first(True):
                return

    def _reports(self, trial: Trial) -> Iterator[TrialReport]:
        use_threads(self._spec)
        forget_peak_memory(device_of(self._spec.resources))
        states = states_directory(self._root, trial)
        stops = schedule(self._spec)
        yield from self._waits(0)
        origin = self._origin(trial)
        retraining, history = self._taken_up(trial, origin, states)
        for point in history.points:
            # The runner may have died before it heard of these; hearing twice changes nothing.
            yield self._reached(point, origin, states)
        saved_at = time.monotonic()
        for target in stops.points[len(history.points) :]:
            while retraining.num_tokens < target:
                yield from self._waits(retraining.num_tokens)
                self._teachers.renew(retraining)
                history = _advanced(
                    retraining, history, min(target, self._teachers.end(retraining.num_tokens))
                )
                if retraining.num_tokens == target:
                    break
                if self._group.first(time.monotonic() - saved_at > self._spec.checkpoint_seconds):
                    self._save(retraining, history, states)
                    saved_at = time.monotonic()
                yield TrialReport(num_tokens=retraining.num_tokens)
            history = self._measured(retraining, history)
            if target and target in stops.rungs[:-1]:  # before any training, pruning anew is as quick
                self._save(retraining, history, states)
                saved_at = time.monotonic()
            if target < stops.num_tokens:
                yield self._reached(history.points[-1], origin, states)
        yield self._finished(trial, retraining.student, history)

    def _waits(self, num_tokens: int) -> Iterator[TrialReport]:
        """Wait until a student with so many tokens can be taught, and report that it still is there."""
        while not self._group.first(self._teachers.is_ready(num_tokens)):
            yield TrialReport(num_tokens=num_tokens)
            time.sleep(WAIT_SECONDS)

    def _taken_up(self, trial: Trial, origin: "_Origin", states: Path) -> tuple[Retraining, History]:
        """Return the trial's student at its latest state, or as it begins."""
        retraining = Retraining(
            self._student(origin),
            self._blocks.training_NT,
            self._teachers.first(),
            training=self._spec.training,
            distillation=self._spec.distillation,
            device=self._device,
            group=self._group,
        )
        state = self._state_of(trial, states)
        if state is None:
            learnt = self._spec.distillation.described(retraining.states)
            logger.info("trial %d: %s, learns from %s", trial.number, origin.told, learnt)
            return retraining, History()
        retraining.load(state)
        logger.info("trial %d: goes on from %s", trial.number, state)
        return retraining, History.read(state / HISTORY_FILE)

    def _state_of(self, trial: Trial, states: Path) -> Path | None:
        """Return the state to go on from: the same for all processes, also where some see a file later."""
        state = _latest_state(states)
        if state is None and trial.checkpoint is not None:
            elsewhere = self._root / trial.checkpoint
            state = elsewhere if (elsewhere / HISTORY_FILE).exists() else None
        if self._is_alone:
            return state
        num_tokens = self._group.first(-1 if state is None else int(state.name))
        if num_tokens < 0:
            return None
        found = states / str(num_tokens)
        return found if found.exists() or trial.checkpoint is None else self._root / trial.checkpoint

    def _origin(self, trial: Trial) -> "_Origin":
        """Return what the student of a trial begins from: the parent, or what another trial made of it."""
        if trial.promotion is not None and trial.promotion.start == "student":
            return _Origin(
                model_dir=source_directory(self._root, trial),
                plan=whole_plan(trial.architecture),
                kept_layers=trial.kept_layers,
                told=f"goes on from the student of trial {trial.promoted_from}",
            )
        plan = self._plan(trial)
        return _Origin(
            model_dir=self._prepared.parent_dir,
            plan=plan,
            kept_layers=plan.layers,
            told=f"pruned to {trial.architecture.name}",
        )

    def _student(self, origin: "_Origin") -> PreTrainedModel:
        if not self._is_alone:
            return prune_checkpoint(origin.model_dir, origin.plan, self._group, device=self._device)
        if origin.model_dir == self._prepared.parent_dir:
            return prune(self._parent, origin.plan)
        return load_parent(origin.model_dir)

    def _plan(self, trial: Trial) -> PruningPlan:
        if trial.role is TrialRole.RANDOM_INDICES:
            # Both count, so that neither two baselines nor two searches keep the same indices.
            seed = self._spec.seed * 1_000_003 + trial.number
            source = self._scores.architecture
            return random_plan(source, trial.architecture, seed=seed, recipe=self._spec.pruning)
        return plan_pruning(self._scores, trial.architecture, self._spec.pruning)

    def _measured(self, retraining: Retraining, history: History) -> History:
        """Return the history with a point at the present tokens."""
        num_tokens = retraining.num_tokens
        trained = num_tokens - history.points[-1].num_tokens if history.points else 0
        point = Point(
            num_tokens=num_tokens,
            loss=self._held_out_loss(retraining.student, self._blocks.validation_NT),
            train_loss=history.loss_sum / trained if trained else None,
            seconds=history.seconds,
            at=datetime.now(UTC),
        )
        return History(points=(*history.points, point))

    def _held_out_loss(self, student: PreTrainedModel, blocks_NT: npt.NDArray[np.int32]) -> float:
        at_once = self._spec.training.blocks_at_once(self._spec.data.sequence_length, self._group.count)
        return held_out_loss(student, blocks_NT, batch_size=at_once, group=self._group)

    def _shard_losses(self, trial: Trial, student: PreTrainedModel) -> tuple[float, ...]:
        """Return the losses of a promotion's student on shards of neighbouring blocks, which differ by a block at most."""
        if trial.promotion is None:
            return ()
        shards = np.array_split(self._blocks.validation_NT, trial.promotion.num_shards)
        return tuple(self._held_out_loss(student, shard_NT) for shard_NT in shards)

    def _reached(self, point: Point, origin: "_Origin", states: Path) -> TrialReport:
        state = _latest_state(states)
        checkpoint = state.relative_to(self._root).as_posix() if state else None
        return TrialReport(
            num_tokens=point.num_tokens, point=point, checkpoint=checkpoint, kept_layers=origin.kept_layers
        )

    def _finished(self, trial: Trial, student: PreTrainedModel, history: History) -> TrialReport:
        """Save the student, without its optimiser, and return the last report."""
        first, last = history.points[0], history.points[-1]
        shard_losses = self._shard_losses(trial, student)
        whole = gathered(student, self._group)
        if whole is None:
            return TrialReport(num_tokens=last.num_tokens)
        path = student_directory(self._root, trial)
        save_checkpoint(whole, path, companions=self._prepared.parent_dir)
        return TrialReport(
            num_tokens=last.num_tokens,
            point=last,
            checkpoint=path.relative_to(self._root).as_posix(),
            finished=Measurement(
                num_tokens=last.num_tokens,
                loss=last.loss,
                loss_before_retraining=first.loss,
                num_parameters=sum(parameter.numel() for parameter in whole.parameters()),
                train_seconds=sum(point.seconds for point in history.points),
                peak_memory_bytes=peak_memory_bytes(student.device),
                shard_losses=shard_losses,
            ),
        )

    def _save(self, retraining: Retraining, history: History, states: Path) -> None:
        """Write the resumable state, then drop the one before it."""
        if self._group.rank:
            retraining.save(states)
            return
        state = states / str(retraining.num_tokens)
        with new_directory(state) as scratch:
            retraining.save(scratch)
            history.write(scratch / HISTORY_FILE)
        for other in states.iterdir():
            if other != state:
                shutil.rmtree(other, ignore_errors=True)

    @property
    def _device(self) -> torch.device:
        return device_of(self._spec.resources)

    @cached_property
    def _parent(self) -> PreTrainedModel:
        return load_parent(self._prepared.parent_dir)

    @cached_property
    def _blocks(self) -> Blocks:
        return open_blocks(self._prepared.blocks_dir)

    @cached_property
    def _scores(self) -> ImportanceScores:
        prepared = self._prepared
        return ImportanceScores.load(prepared.scores_path, expected_fingerprint=prepared.scores_fingerprint)

    @cached_property
    def _teachers(self) -> Teachers:
        return Teachers(
            self._spec,
            self._prepared,
            lambda: self._parent,
            self._scores.architecture,
            num_blocks=len(self._blocks.training_NT),
            group=self._group,
        )


def _advanced(retraining: Retraining, history: History, target: int) -> History:
    """Train one slice towards ``target`` tokens."""
    tokens_before, began = retraining.num_tokens, time.perf_counter()
    loss = retraining.advance(target, max_seconds=SLICE_SECONDS)
    return replace(
        history,
        seconds=history.seconds + time.perf_counter() - began,
        loss_sum=history.loss_sum + loss * (retraining.num_tokens - tokens_before),
    )


def _latest_state(states: Path) -> Path | None:
    return max(states.glob("[0-9]*"), key=lambda path: int(path.name), default=None)
