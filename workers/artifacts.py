"""What all trials of a search share, made once and found again: the parent, its blocks, its importance
scores, the teacher's answers, the parent's own loss.

Everything lies below the artifact root under a name made from its content, so that another search with
the same parent and recipes computes nothing. Knows no Ray; runs in a worker process.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedModel

from minitron.builtin import materialize
from minitron.checkpoint import (
    fingerprint,
    load_parent,
    load_tokenizer,
    require_chat_template,
    save_checkpoint,
)
from minitron.correct import CORRECTING, CORRECTION_VERSION, correct
from minitron.data import Blocks, prepare_blocks
from minitron.device import effective_precision
from minitron.errors import ArtifactMismatch
from minitron.evaluate import held_out_loss
from minitron.files import new_file
from minitron.importance import METRIC_VERSION
from minitron.iterative import measure_in_steps
from minitron.optimizer import require_library
from minitron.parents import parent_architecture
from minitron.progress import Progress, Report
from minitron.recipe import TrainingRecipe
from minitron.resumable import forget
from minitron.stage_recipes import CorrectionRecipe
from minitron.teacher import CACHE_VERSION, build_teacher_cache
from nas.disk import delete, least_recently_used, touch
from nas.parent import architecture_of, differing_fields
from nas.search import SearchSpec
from nas.space import search_space
from workers.device import device_of, require_device_memory, use_threads
from workers.keys import alone, content, digest
from workers.report import Prepared, Stage

logger = logging.getLogger(__name__)

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
    require_device_memory(spec)
    with alone(root / "locks" / f"{digest(spec.parent)}.lock", report):
        prepared = _Preparation(spec, root, report, is_shared=is_shared).run()
    if cache_bytes is not None:
        _evict(root, cache_bytes)
    return prepared


def prepare_promotions(
    spec: SearchSpec, base: Prepared, root: Path, report: Report, *, is_shared: bool = False
) -> Prepared:
    """Make what promotions need beside what their search prepared, ``base``: more blocks, and the answers to them.

    Args:
        spec: By which they are run.
        base: Of the search, with the teacher that answers at the end of its correction.
        root: The artifact root.
        report: Told how far that is.
        is_shared: As ``prepare``.

    Raises:
        ArtifactMismatch: With so many training tokens other text would be held out, so that losses would not compare.
        MinitronError: Too little data, a full disk.
        InvalidSpec: A device with less memory than a promotion takes.
    """
    require_library(spec.training.optimizer_state)
    use_threads(spec)
    require_device_memory(spec)
    with alone(root / "locks" / f"{digest(spec.parent)}.lock", report):
        return _Preparation(spec, root, report, is_shared=is_shared).run_on(base)


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
        scores_key = digest(
            self._parent_fingerprint,
            content(self._blocks.calibration_NT),
            self._scores_of,
        )
        # What asks the parent as it is comes first: the model in memory is the one that learns.
        scores, parent_loss = self._scores(scores_key), self._loss(self._parent_fingerprint)
        prepared = Prepared(
            parent_dir=self._parent_dir,
            parent_fingerprint=self._parent_fingerprint,
            blocks_dir=self._blocks_dir,
            blocks_fingerprint=self._blocks.fingerprint,
            validation_fingerprint=content(self._blocks.validation_NT),
            scores_path=scores,
            scores_fingerprint=scores_key,
            parent_loss=parent_loss,
        )
        if spec.correction and spec.correction.mode == "alongside":
            return self._with_stages(prepared, spec.correction)
        corrected_dir = None if spec.correction is None else self._corrected(spec.correction)
        answering = fingerprint(corrected_dir) if corrected_dir else self._parent_fingerprint
        teacher = digest(answering, self._blocks.fingerprint, self._answers)
        return replace(
            prepared,
            teacher_dir=self._teacher(teacher),
            teacher_fingerprint=teacher,
            corrected_dir=corrected_dir,
            corrected_loss=self._loss(answering) if corrected_dir else None,
        )

    def run_on(self, base: Prepared) -> Prepared:
        """Return ``base`` with these blocks, and the answers of its teacher to them, in place of its own."""
        if content(self._blocks.validation_NT) != base.validation_fingerprint:
            found, asked = self._spec.training.num_tokens, "as many as leave the same text to be held out"
            raise ArtifactMismatch(
                f"promotion.training.num_tokens: found {found}, allowed with these data: {asked}"
            )
        self._corrected_dir = base.corrected_dir
        answering = fingerprint(base.answering_dir)
        teacher = digest(answering, self._blocks.fingerprint, self._answers)
        return replace(
            base,
            blocks_dir=self._blocks_dir,
            blocks_fingerprint=self._blocks.fingerprint,
            teacher_dir=self._teacher(teacher),
            teacher_fingerprint=teacher,
            stages=(),
        )

    @property
    def _answers(self) -> dict[str, object]:
        """What the teacher's answers depend on besides the teacher and the blocks."""
        distillation = self._spec.distillation
        return {
            # A live teacher answers from bfloat16 weights, a cached one from float32 weights.
            "form": "live" if self._is_live else distillation.cache_form,
            "top_k": distillation.top_k if distillation.cache_form == "top_k" else None,
            "precision": effective_precision(device_of(self._spec.resources), self._spec.training.precision),
            "version": CACHE_VERSION,
        }

    def _with_stages(self, prepared: Prepared, correction: CorrectionRecipe) -> Prepared:
        """Return ``prepared`` with the places of what ``workers.stages`` makes while trials run."""
        sequence_length = self._spec.data.sequence_length
        training = correction.training(self._spec.training)
        step_blocks = training.blocks_per_step(sequence_length)
        key = self._correction_key(training)
        starts = correction.stage_starts(training.num_steps(sequence_length))
        ends = (*starts[1:], len(self._blocks.training_NT) // step_blocks)
        stages = []
        for start, end in zip(starts, ends, strict=True):
            name = key if start == starts[-1] else digest(key, start)
            answers = digest(name, self._blocks.fingerprint, self._answers, [start, end])
            model_dir = self._root / "corrections" / name if start else self._parent_dir
            teacher_dir = None if self._is_live else self._root / "teachers" / answers
            stages.append(
                Stage(
                    first_block=start * step_blocks,
                    end_block=end * step_blocks,
                    model_dir=model_dir,
                    teacher_dir=teacher_dir,
                    fingerprint=answers,
                )
            )
            if start:
                self._uses(model_dir)
        return replace(
            prepared,
            teacher_fingerprint=digest(*(stage.fingerprint for stage in stages)),
            corrected_dir=stages[-1].model_dir,
            stages=tuple(stages),
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
            self._asked = load_parent(
                self._corrected_dir or self._parent_dir, device=device_of(self._spec.resources)
            )
        return self._asked

    def _correction_key(self, training: TrainingRecipe) -> str:
        """Return the name of what the parent becomes by ``training``."""
        precision = effective_precision(device_of(self._spec.resources), training.precision)
        return digest(
            self._parent_fingerprint,
            self._blocks.fingerprint,
            asdict(training) | {"precision": precision},
            {"version": CORRECTION_VERSION},
        )

    def _corrected(self, correction: CorrectionRecipe) -> Path:
        """Return the checkpoint of the corrected parent, which is asked from now on."""
        spec, device = self._spec, device_of(self._spec.resources)
        training = correction.training(spec.training)
        key = self._correction_key(training)
        directory = self._root / "corrections" / key
        if self._is_there(directory):
            self._report(Progress(stage=CORRECTING, is_cached=True))
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
        return loss_of(
            self._model, asked, self._blocks, spec=self._spec, root=self._root, report=self._report
        )


def loss_of(
    model: Callable[[], PreTrainedModel],
    asked: str,
    blocks: Blocks,
    *,
    spec: SearchSpec,
    root: Path,
    report: Report,
) -> float:
    """Return the held-out loss of the model with the fingerprint ``asked``, which is loaded where it is not known yet."""
    path = root / "losses" / f"{digest(asked, content(blocks.validation_NT))}.json"
    touch([path])
    if path.exists():
        report(Progress(stage="held-out loss", is_cached=True))
        return float(json.loads(path.read_text(encoding="utf-8")))
    loss = held_out_loss(model(), blocks.validation_NT, batch_size=spec.calibration.batch_size, report=report)
    with new_file(path) as scratch:
        scratch.write_text(json.dumps(loss), encoding="utf-8")
    return loss
