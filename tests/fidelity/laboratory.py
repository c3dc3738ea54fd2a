"""Where the papers' findings are tried: one parent, one seed, and what was measured there, kept on disk.

A seed draws other calibration, training and held-out text, another order of training and other random
students. Knows no finding.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from minitron.architecture import Architecture
from minitron.checkpoint import load_parent, save_checkpoint
from minitron.data import Blocks, prepare_blocks
from minitron.evaluate import held_out_loss
from minitron.importance import ImportanceScores
from minitron.iterative import measure_in_steps
from minitron.plan import PruningPlan, plan_pruning, random_plan
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from minitron.teacher import Answer, LiveTeacher, Teacher, build_teacher_cache, open_teacher_cache
from minitron.train import Retraining, block_ids

CPU = torch.device("cpu")
CACHED = DistillationRecipe()
Start = Callable[[], PreTrainedModel]
Losses = list[float]
"""Held-out nats per token, at the points of a protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How students of one parent are made and retrained."""

    name: str
    parent_dir: Path
    width: Architecture
    """The student that gives up width."""
    depth: Architecture
    """One of the same size that gives up layers instead."""
    quarter: Architecture
    """One of a quarter of the parent, not counting embeddings."""
    data: DataRecipe
    calibration: CalibrationRecipe
    training: TrainingRecipe
    correction_rate: float
    """Peak rate of a teacher's correction: a fifth of that of its own training (2408.11796)."""
    points: tuple[int, ...]
    """Token counts at which losses are taken, ascending: none, a few, half, all."""


class Laboratory:
    """What one seed of a protocol has; everything is made when it is first asked for."""

    def __init__(self, protocol: Protocol, seed: int, root: Path) -> None:
        self.protocol = protocol
        self.seed = seed
        self.root = root
        self._kept = root / f"{protocol.name}-{seed}"
        self._kept.mkdir(parents=True, exist_ok=True)

    @property
    def source(self) -> Architecture:
        """The parent's shape."""
        return self.scores.architecture

    @cached_property
    def parent(self) -> PreTrainedModel:
        """The parent, which nothing changes."""
        return load_parent(self.protocol.parent_dir)

    @cached_property
    def blocks(self) -> Blocks:
        """Text of the parent's own kind."""
        return self.blocks_of(self.protocol.data)

    def blocks_of(self, data: DataRecipe) -> Blocks:
        """Return this seed's draw of some text."""
        training = self.protocol.training
        return prepare_blocks(
            replace(data, seed=self.seed),
            self.protocol.parent_dir,
            calibration_blocks=self.protocol.calibration.num_blocks(data.sequence_length),
            training_blocks=training.num_tokens // data.sequence_length,
            root=self.root,
        )

    @cached_property
    def scores(self) -> ImportanceScores:
        """By the protocol's calibration."""
        return self.scores_by(self.protocol.calibration)

    def scores_by(
        self,
        recipe: CalibrationRecipe,
        *,
        model: PreTrainedModel | None = None,
        smallest: Architecture | None = None,
    ) -> ImportanceScores:
        """Return the importance of what a model, by default the parent, is made of; in steps towards the smallest."""
        return measure_in_steps(
            model or self.parent,
            self.blocks.calibration_NT,
            recipe,
            smallest=smallest,
            fingerprint="laboratory",
        )

    def pruned(self, target: Architecture) -> PreTrainedModel:
        """Return the student that the protocol's scores keep."""
        return self.cut(plan_pruning(self.scores, target))

    def drawn(self, target: Architecture, *, number: int = 0) -> PreTrainedModel:
        """Return a student of kept indices that were drawn at random."""
        return self.cut(random_plan(self.source, target, seed=1000 * self.seed + number))

    def cut(self, plan: PruningPlan) -> PreTrainedModel:
        """Return the student of a plan."""
        return prune(self.parent, plan)

    def untrained(self, target: Architecture) -> PreTrainedModel:
        """Return a student of new weights, as its config has them initialised."""
        config = self.pruned(target).config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return AutoModelForCausalLM.from_config(config).eval()

    @cached_property
    def answers(self) -> Teacher:
        """Of the parent, to its own kind of text."""
        return self.answers_of(self.parent, self.blocks, "parent")

    def answers_of(
        self, model: PreTrainedModel, blocks: Blocks, name: str, recipe: DistillationRecipe = CACHED
    ) -> Teacher:
        """Return a teacher's cached answers to training blocks."""
        directory = self._kept / f"answers-{name}"
        build_teacher_cache(
            model,
            blocks.training_NT,
            recipe,
            directory,
            fingerprint=blocks.fingerprint,
            batch_size=self.protocol.training.micro_batch_size,
        )
        return open_teacher_cache(directory, expected_fingerprint=blocks.fingerprint, head=None)

    def live(self, model: PreTrainedModel | None = None) -> Teacher:
        """Return a teacher, by default the parent, that is run beside the student."""
        return LiveTeacher(model or self.parent, "float32")

    def loss(self, name: str, start: Start, blocks: Blocks | None = None) -> float:
        """Return a model's held-out loss."""
        return self._once(name, lambda: [held_out_loss(start(), (blocks or self.blocks).validation_NT)])[0]

    def losses(
        self,
        name: str,
        start: Start,
        teacher: Callable[[], Teacher | None] | None = None,
        *,
        points: tuple[int, ...] | None = None,
        blocks: Blocks | None = None,
        distillation: DistillationRecipe | None = None,
        rate: float = 1.0,
    ) -> Losses:
        """Return the held-out losses of a student on its way, from disk where they were measured before.

        Args:
            name: Of the run, within this seed.
            start: Makes the student.
            teacher: Makes the teacher; by default the parent's cached answers.
            points: Where to measure; by default all of the protocol's.
            blocks: Text to train and to measure on; by default the parent's own kind.
            distillation: What is learnt from the teacher.
            rate: Of the protocol's learning rate.
        """

        def run() -> Losses:
            text = blocks or self.blocks
            base = self.protocol.training
            retraining = _trained(
                start(),
                text,
                teacher() if teacher else self.answers,
                replace(base, seed=self.seed, peak_learning_rate=rate * base.peak_learning_rate),
                distillation or CACHED,
            )
            found = []
            for num_tokens in points or self.protocol.points:
                if num_tokens:
                    retraining.advance(num_tokens)
                found.append(held_out_loss(retraining.student, text.validation_NT))
            return found

        return self._once(name, run)

    def learning(self, blocks: Blocks, *, stages: int = 8) -> Teacher:
        """Return the parent as a teacher that is corrected while it answers, in stages."""
        recipe = replace(
            self.protocol.training, peak_learning_rate=self.protocol.correction_rate, seed=self.seed
        )
        return _Learning(load_parent(self.protocol.parent_dir), blocks, recipe, stages)

    def corrected(self, blocks: Blocks) -> PreTrainedModel:
        """Return the parent, fine-tuned on the labels of other blocks; made once."""

        def correct() -> PreTrainedModel:
            recipe = replace(
                self.protocol.training, peak_learning_rate=self.protocol.correction_rate, seed=self.seed
            )
            model = load_parent(self.protocol.parent_dir)
            _trained(model, blocks, None, recipe, CACHED).advance(recipe.num_tokens)
            return model

        return self._made("corrected", correct)

    def retrained(self, name: str, start: Start) -> PreTrainedModel:
        """Return a student after all of its retraining; made once."""

        def retrain() -> PreTrainedModel:
            recipe = replace(self.protocol.training, seed=self.seed)
            model = start()
            _trained(model, self.blocks, self.answers, recipe, CACHED).advance(recipe.num_tokens)
            return model

        return self._made(name, retrain)

    def _made(self, name: str, make: Start) -> PreTrainedModel:
        path = self._kept / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                save_checkpoint(make(), path, companions=self.protocol.parent_dir)
        return load_parent(path)

    def _once(self, name: str, measure: Callable[[], Losses]) -> Losses:
        path = self._kept / f"{name}.json"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                found = measure()
                assert np.isfinite(found).all(), f"{name}: {found}"
                path.write_text(json.dumps(found), encoding="utf-8")
            return list(json.loads(path.read_text(encoding="utf-8")))


class _Learning:
    """Answers as it was when a stage of its own training began, which goes as far as it is asked."""

    def __init__(
        self, model: PreTrainedModel, blocks: Blocks, recipe: TrainingRecipe, num_stages: int
    ) -> None:
        num_blocks, sequence_length = blocks.training_NT.shape
        self._correction = _trained(model, blocks, None, recipe, CACHED)
        self._live = LiveTeacher(model, "float32")
        order_N = block_ids(0, num_blocks, num_blocks=num_blocks, seed=recipe.seed)
        self._tokens_N = np.argsort(order_N) * sequence_length
        starts = CorrectionRecipe(stages=num_stages).stage_starts(recipe.num_steps(sequence_length))
        self._starts = [start * self._correction.step_tokens for start in starts]

    def answer(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> Answer:
        start = max(start for start in self._starts if start <= self._tokens_N[block_ids_B].min())
        if start > self._correction.num_tokens:
            self._correction.advance(start)
        return self._live.answer(block_ids_B, input_ids_BT)


def _trained(
    model: PreTrainedModel,
    blocks: Blocks,
    teacher: Teacher | None,
    training: TrainingRecipe,
    distillation: DistillationRecipe,
) -> Retraining:
    return Retraining(
        model, blocks.training_NT, teacher, training=training, distillation=distillation, device=CPU
    )
