"""Corrects the parent while trials run: in stages, before each of which it answers the blocks that students learn from in it.

What a student learns at some token is so a function of spec and token alone, whoever is ahead: a trial that has come
to a stage whose answers are not there yet waits. Knows no Ray; runs in a worker process of its own.
"""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minitron.checkpoint import fingerprint, load_parent, save_checkpoint
from minitron.correct import CORRECTING, correction_of
from minitron.data import Blocks, open_blocks
from minitron.progress import Progress, Report
from minitron.resumable import forget, take_up, train_on
from minitron.teacher import build_teacher_cache
from minitron.train import Retraining, block_ids
from nas.search import SearchSpec
from workers.artifacts import loss_of
from workers.device import device_of, use_threads
from workers.keys import alone
from workers.report import Prepared, Stage

logger = logging.getLogger(__name__)


def correct_alongside(spec: SearchSpec, prepared: Prepared, root: Path, report: Report) -> float:
    """Make what the stages of ``prepared`` name and is missing, in their order.

    Returns:
        The held-out loss of the corrected parent, in nats per token.

    Raises:
        DivergedTraining: A loss or gradient is not finite.
        OutOfSpace: The disk is full.
    """
    use_threads(spec)
    end = prepared.stages[-1].model_dir
    blocks = open_blocks(prepared.blocks_dir)
    with alone(root / "locks" / f"{end.name}.lock", report):
        if all(is_made(stage, spec, is_last=stage is prepared.stages[-1]) for stage in prepared.stages):
            report(Progress(stage=CORRECTING, is_cached=True))
        else:
            _Correction(spec, prepared, blocks, report).run()
    loaded = partial(load_parent, end, device=device_of(spec.resources))
    return loss_of(loaded, fingerprint(end), blocks, spec=spec, root=root, report=report)


def is_made(stage: Stage, spec: SearchSpec, *, is_last: bool = False) -> bool:
    """Return whether all of a stage is there: what students ask in it, and the end of the correction."""
    needs_model = is_last or (not stage.is_empty and _asks_model(stage, spec))
    is_answered = stage.is_empty or stage.teacher_dir is None or stage.teacher_dir.exists()
    return is_answered and (not needs_model or stage.model_dir.exists())


def _asks_model(stage: Stage, spec: SearchSpec) -> bool:
    return stage.teacher_dir is None or spec.distillation.cache_form == "hidden"


class _Correction:
    """One parent's training, with its answers on the way."""

    def __init__(self, spec: SearchSpec, prepared: Prepared, blocks: Blocks, report: Report) -> None:
        assert spec.correction is not None
        self._spec = spec
        self._recipe = spec.correction.training(spec.training)
        self._prepared = prepared
        self._blocks_NT = blocks.training_NT
        self._report = report
        end = prepared.stages[-1].model_dir
        self._state = end.with_name(f".{end.name}.state")

    def run(self) -> None:
        """Train from stage to stage, from what an interrupted process left."""
        retraining, sequence_length = self._taken_up(), self._blocks_NT.shape[1]
        stages = self._prepared.stages
        goal = stages[-1].first_block * sequence_length
        for stage in stages:
            start = stage.first_block * sequence_length
            if start > retraining.num_tokens:
                train_on(
                    retraining,
                    total=start,
                    goal=goal,
                    stage=CORRECTING,
                    state=self._state,
                    report=self._report,
                    save_seconds=self._spec.checkpoint_seconds,
                )
            if start == retraining.num_tokens:
                self._make(stage, retraining)
        forget(self._state)

    def _taken_up(self) -> Retraining:
        """Return the training where it was left, or from its beginning where what it passed has gone since."""
        retraining = self._begun()
        take_up(retraining, self._state)
        passed = retraining.num_tokens // self._blocks_NT.shape[1]
        if all(is_made(stage, self._spec) for stage in self._prepared.stages if stage.first_block < passed):
            return retraining
        forget(self._state)
        return self._begun()

    def _begun(self) -> Retraining:
        self._report(Progress(stage="loading the parent"))
        device = device_of(self._spec.resources)
        parent = load_parent(self._prepared.parent_dir, device=device)
        return correction_of(parent, self._blocks_NT, self._recipe, device=device)

    def _make(self, stage: Stage, retraining: Retraining) -> None:
        """Keep what the parent, as it is now, answers in a stage."""
        spec, model, stages = self._spec, retraining.student, self._prepared.stages
        if (stage is stages[-1] or _asks_model(stage, spec)) and not stage.model_dir.exists():
            save_checkpoint(model, stage.model_dir, companions=self._prepared.parent_dir)
        if stage.teacher_dir is not None and not stage.is_empty:
            build_teacher_cache(
                model,
                self._blocks_NT[blocks_of(stage, spec, num_blocks=len(self._blocks_NT))],
                spec.distillation,
                stage.teacher_dir,
                fingerprint=stage.fingerprint,
                batch_size=spec.calibration.batch_size,
                precision=spec.training.precision,
                report=self._report,
            )
        logger.info("the teacher is corrected to %d tokens", retraining.num_tokens)


def blocks_of(stage: Stage, spec: SearchSpec, *, num_blocks: int) -> npt.NDArray[np.int64]:
    """Return the rows of the training blocks that students see in a stage, in their order."""
    count = stage.end_block - stage.first_block
    return block_ids(stage.first_block, count, num_blocks=num_blocks, seed=spec.training.seed)
