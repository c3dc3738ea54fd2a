"""What all trials of a search share, made once and found again: the parent, its blocks, its importance
scores, the teacher's answers, the parent's own loss.

Everything lies below the artifact root under a name made from its content, so that another search with
the same parent and recipes computes nothing. Knows no Ray; runs in a worker process.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, Timeout
from transformers import PreTrainedModel

from minitron.builtin import materialize
from minitron.checkpoint import (
    fingerprint,
    load_parent,
    load_tokenizer,
    require_chat_template,
    save_checkpoint,
)
from minitron.correct import CORRECTION_VERSION, correct
from minitron.data import BlockArray, Blocks, prepare_blocks
from minitron.device import SMALL_MODEL_PARAMETERS, effective_precision, pick_device
from minitron.errors import ArtifactMismatch
from minitron.evaluate import held_out_loss
from minitron.files import new_file
from minitron.importance import METRIC_VERSION
from minitron.iterative import measure_in_steps
from minitron.optimizer import require_library
from minitron.parents import parent_architecture
from minitron.progress import Progress, Report
from minitron.resumable import forget
from minitron.stage_recipes import CorrectionRecipe
from minitron.teacher import CACHE_VERSION, build_teacher_cache
from nas.disk import delete, least_recently_used, touch
from nas.estimate import estimate, require_memory
from nas.parent import architecture_of, differing_fields
from nas.search import Resources, SearchSpec
from nas.space import search_space
from workers.report import Prepared

logger = logging.getLogger(__name__)

LOCK_POLL_SECONDS = 1.0
TOUCH_SECONDS = 60.0


def prepare(
    spec: SearchSpec, root: Path, report: Report, *, cache_bytes: int | None = None, is_shared: bool = False
) -> Prepared:
    """Make what is missing below ``root`` and return where everything lies.

    Above ``cache_bytes``, what nobody has used for long then goes. ``is_shared``: other machines take part,
    which see nothing but ``root``.

    Raises:
        MinitronError: An unreadable parent, too little data, a full disk.
        InvalidSpec: A device with less memory than a trial takes.
    """
    require_library(spec.training.optimizer_state)
    use_threads(spec)
    _require_device_memory(spec)
    with _alone(root / "locks" / f"{_digest(spec.parent)}.lock", report):
        prepared = _Preparation(spec, root, report, is_shared=is_shared).run()
    if cache_bytes is not None:
        _evict(root, cache_bytes)
    return prepared


def _evict(root: Path, max_bytes: int) -> None:
    """Keep house; a search does not fail because this does."""
    try:
        delete(least_recently_used(root, max_bytes=max_bytes))
    except OSError as error:
        logger.warning("the cache stays as it is: %s", error)


class _Preparation:
    """The stages in their order; the parent is loaded when the first stage needs it."""

    def __init__(self, spec: SearchSpec, root: Path, report: Report, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._spec = spec
        self._root = root
        self._tell = report
        self._used: list[Path] = []
        self._touched_at = 0.0
        self._asked: PreTrainedModel | None = None
        self._corrected_dir: Path | None = None

    def _report(self, progress: Progress) -> None:
        """Pass progress on, and mark what is used meanwhile: a long stage may take longer than a cache is kept."""
        if time.monotonic() - self._touched_at > TOUCH_SECONDS:
            self._touched_at = time.monotonic()
            touch(self._used)
        self._tell(progress)

    def _uses(self, path: Path) -> Path:
        self._used.append(path)
        touch([path])
        return path

    def _is_there(self, path: Path) -> bool:
        """Mark an artifact as in use before looking for it: whoever deletes it sees that."""
        return self._uses(path).exists()

    def run(self) -> Prepared:
        spec = self._spec
        if spec.evaluation and spec.evaluation.chat:
            require_chat_template(load_tokenizer(self._parent_dir), field="evaluation.chat")
        scores_key = _digest(
            self._parent_fingerprint,
            _content(self._blocks.calibration_NT),
            self._scores_of,
        )
        # What asks the parent as it is comes first: the model in memory is the one that learns.
        scores, parent_loss = self._scores(scores_key), self._loss(self._parent_fingerprint)
        corrected_dir = None if spec.correction is None else self._corrected(spec.correction)
        answering = fingerprint(corrected_dir) if corrected_dir else self._parent_fingerprint
        distillation = spec.distillation
        teacher = _digest(
            answering,
            self._blocks.fingerprint,
            {
                # A live teacher answers from bfloat16 weights, a cached one from float32 weights.
                "form": "live" if self._is_live else distillation.cache_form,
                "top_k": distillation.top_k if distillation.cache_form == "top_k" else None,
                "precision": effective_precision(device_of(spec.resources), spec.training.precision),
                "version": CACHE_VERSION,
            },
        )
        return Prepared(
            parent_dir=self._parent_dir,
            parent_fingerprint=self._parent_fingerprint,
            blocks_dir=self._blocks_dir,
            blocks_fingerprint=self._blocks.fingerprint,
            scores_path=scores,
            scores_fingerprint=scores_key,
            teacher_dir=self._teacher(teacher),
            teacher_fingerprint=teacher,
            parent_loss=parent_loss,
            corrected_dir=corrected_dir,
            corrected_loss=self._loss(answering) if corrected_dir else None,
        )

    @cached_property
    def _parent_dir(self) -> Path:
        path = materialize(self._spec.parent, self._root, self._report, is_shared=self._is_shared).resolve()
        differences = differing_fields(parent_architecture(str(path)), architecture_of(self._spec))
        if differences:
            raise ArtifactMismatch(f"{path}: is not what was planned for: {differences}")
        return self._uses(path) if path.is_relative_to(self._root.resolve()) else path

    @cached_property
    def _parent_fingerprint(self) -> str:
        return fingerprint(self._parent_dir)

    @cached_property
    def _blocks(self) -> Blocks:
        spec = self._spec
        sequence_length = spec.data.sequence_length
        return prepare_blocks(
            spec.data,
            self._parent_dir,
            calibration_blocks=spec.calibration.num_blocks(sequence_length),
            training_blocks=spec.training.num_steps(sequence_length)
            * spec.training.blocks_per_step(sequence_length),
            root=self._root,
            report=self._report,
        )

    @cached_property
    def _blocks_dir(self) -> Path:
        return self._uses(self._root / "blocks" / self._blocks.fingerprint)

    def _model(self) -> PreTrainedModel:
        """Return the model that is asked: the parent, or once there is one the corrected parent."""
        if self._asked is None:
            is_corrected = self._corrected_dir is not None
            self._report(Progress(stage=f"loading the {'corrected ' * is_corrected}parent"))
            self._asked = load_parent(self._corrected_dir or self._parent_dir)
            self._asked.to(device_of(self._spec.resources))  # type: ignore[arg-type]  # the stub loses self
        return self._asked

    def _corrected(self, correction: CorrectionRecipe) -> Path:
        """Return the checkpoint of the corrected parent, which is asked from now on."""
        spec, device = self._spec, device_of(self._spec.resources)
        training = correction.training(spec.training)
        key = _digest(
            self._parent_fingerprint,
            self._blocks.fingerprint,
            asdict(training) | {"precision": effective_precision(device, training.precision)},
            {"version": CORRECTION_VERSION},
        )
        directory = self._root / "corrections" / key
        if self._is_there(directory):
            self._report(Progress(stage="correcting the teacher", is_cached=True))
        else:
            state = directory.with_name(f".{key}.state")
            model = self._model()
            correct(
                model, self._blocks.training_NT, training,
                device=device, state=state, save_seconds=spec.checkpoint_seconds, report=self._report,
            )  # fmt: skip
            save_checkpoint(model, directory, companions=self._parent_dir)
            forget(state)
        # What is asked is what was saved, whether or not this process made it.
        self._asked, self._corrected_dir = None, directory
        return directory

    def _scores(self, key: str) -> Path:
        path = self._root / "scores" / f"{key}.safetensors"
        if self._is_there(path):
            self._report(Progress(stage="importance scores", is_cached=True))
        else:
            measure_in_steps(
                self._model(),
                self._blocks.calibration_NT,
                self._spec.calibration,
                smallest=search_space(self._spec).least,
                fingerprint=key,
                report=self._report,
            ).save(path)
        return path

    @cached_property
    def _scores_of(self) -> dict[str, object]:
        """What the scores depend on besides the parent and the blocks: also on what the space asks for, where it tells
        how far importance is measured.
        """
        calibration, least = self._spec.calibration, search_space(self._spec).least
        return calibration.identity | {
            "narrowest": replace(least, num_layers=1).name if calibration.steps > 1 else None,
            "fewest_layers": least.num_layers if calibration.is_told_to_a_depth else None,
            "version": METRIC_VERSION,
        }

    @cached_property
    def _is_live(self) -> bool:
        return self._spec.distillation.asks_live(
            num_tokens=self._blocks.training_NT.size,
            hidden_size=parent_architecture(str(self._parent_dir)).hidden_size,
        )

    def _teacher(self, key: str) -> Path | None:
        spec = self._spec
        if self._is_live:
            return None
        directory = self._root / "teachers" / key
        if self._is_there(directory):
            self._report(Progress(stage="teacher answers", is_cached=True))
        else:
            build_teacher_cache(
                self._model(),
                self._blocks.training_NT,
                spec.distillation,
                directory,
                fingerprint=key,
                batch_size=spec.calibration.batch_size,
                precision=spec.training.precision,
                report=self._report,
            )
        return directory

    def _loss(self, asked: str) -> float:
        """Return the held-out loss of the model with the fingerprint ``asked``."""
        key = _digest(asked, _content(self._blocks.validation_NT))
        path = self._root / "losses" / f"{key}.json"
        if self._is_there(path):
            self._report(Progress(stage="held-out loss", is_cached=True))
            return float(json.loads(path.read_text(encoding="utf-8")))
        loss = held_out_loss(
            self._model(),
            self._blocks.validation_NT,
            batch_size=self._spec.calibration.batch_size,
            report=self._report,
        )
        with new_file(path) as scratch:
            scratch.write_text(json.dumps(loss), encoding="utf-8")
        return loss


def use_threads(spec: SearchSpec) -> None:
    """Set this process's torch threads: the spec's, else as many as a trial's CPUs, else one."""
    threads = spec.resources.threads or max(1, int(spec.resources.cpus))
    is_small = architecture_of(spec).parameter_count < SMALL_MODEL_PARAMETERS
    torch.set_num_threads(1 if is_small and not spec.resources.threads else threads)


def device_of(resources: Resources) -> torch.device:
    """Return the accelerator when a trial gets one, else the CPU."""
    return pick_device() if resources.gpus > 0 else torch.device("cpu")


def _require_device_memory(spec: SearchSpec) -> None:
    device = device_of(spec.resources)
    if device.type == "cuda":
        share = min(1.0, spec.resources.gpus)
        available = int(share * torch.cuda.get_device_properties(device).total_memory)
        trial = estimate(spec, search_space(spec)).trial
        require_memory(trial, available, field="resources.gpus", what="device memory for a trial")


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _content(blocks_NT: BlockArray) -> str:
    """Hash the blocks themselves: their number on the other sides of the split does not matter."""
    return hashlib.sha256(np.ascontiguousarray(blocks_NT).data).hexdigest()


@contextmanager
def _alone(path: Path, report: Report) -> Iterator[None]:
    """Hold a lock between processes, so that two searches on one parent do not compute the same twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while not _is_acquired(lock):
        report(Progress(stage="waiting for another search that prepares the same parent"))
    try:
        yield
    finally:
        lock.release()


def _is_acquired(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=LOCK_POLL_SECONDS)
    except Timeout:
        return False
    return True
