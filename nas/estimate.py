"""What a search will cost, told before it begins: from the spec and the parent's config alone.

Pure arithmetic over the space; the formulas for one trial are ``minitron.costs``. Knows no store and no device:
how fast a device is must be stated or have been measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from minitron.architecture import Architecture
from minitron.costs import (
    ComputePrecision,
    TrainingMemory,
    depth_memory,
    depth_runs,
    forward_memory,
    state_bytes,
    student_bytes,
    training_flops,
    training_memory,
)
from minitron.errors import InvalidRecipe
from minitron.recipe import State, TrainingRecipe
from nas import limits, rungs
from nas.axes import AxisName, Sizes
from nas.budget import CostName, Span
from nas.rates import Rate, is_teacher_live
from nas.reusable import Reusable
from nas.search import SearchSpec
from nas.space import SearchSpace

MAX_SAMPLED = 2_000
"""Architectures that bounds and means are taken over: all of a small space, evenly spaced ones of a large."""
TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEstimate:
    """One trial that is trained to the last rung."""

    num_tokens: int
    flops: Span
    """Training, and the held-out evaluations on the way."""
    processes: int
    """That share its work."""
    memory: TrainingMemory
    """Of the architecture that takes the most, on the device of each process."""
    parent_bytes: int
    """Of the float32 parent that a worker prunes from, in host memory; several processes map its files instead."""
    preparation_bytes: int
    """Of the parent that is calibrated and asked before all trials, on the device of one process."""
    correction_bytes: int
    """Of the parent that learns before it answers, the same way; 0 where no correction was asked for."""
    memory_bytes: int
    """What must fit where each process trains and one prepares; on a CPU the parent that is pruned as well."""
    host_bytes: int
    """What each process takes of its node's memory: all of the above on a CPU, else parent and student. The first
    of several puts the student together to write it."""
    state_bytes: Span
    student_bytes: Span
    seconds: float | None
    """Of the mean architecture; None without a rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A whole search; sizes in bytes, work in floating-point operations."""

    num_feasible: int
    parameters: Span
    sizes: Mapping[AxisName, Sizes]
    """What architectures choose from on each axis that is searched."""
    costs: Mapping[CostName, Span]
    """What architectures cost beside parameters, as far as the budget bounds it."""
    num_trials: int
    num_baselines: int
    num_finalists: int
    """Students that are put to tasks; what the tasks take is not counted, being the tasks' to say."""
    learnt_from: str
    """What students learn from, for people; some may learn from less."""
    is_teacher_live: bool
    teacher_cache_bytes: int
    """0 when the teacher is asked live."""
    trial: TrialEstimate
    num_tokens: int
    """That all trials and baselines together are expected to train on."""
    preparation_flops: int
    """Correction included."""
    correction_flops: int
    """Of the parent's training before it teaches; 0 where none was asked for."""
    flops: int
    """Preparation included."""
    disk_bytes: int
    """Caches, resumable states, students and the winner at their most."""
    rate: Rate | None
    hours: float | None
    promotion: "PromotionEstimate | None" = None
    """Of the best students, after all of the above and counted in none of it; None where none are promoted."""
    reusable: Reusable | None = None
    """What was measured before; None where the spec has everything trained."""
    unchecked: tuple[str, ...] = ()
    """What could not be looked at, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEstimate:
    """The students that a search retrains for longer at its end."""

    num_students: int
    trial: TrialEstimate
    """One of them."""
    num_tokens: int
    """That they are trained on in all."""
    is_teacher_live: bool
    teacher_cache_bytes: int
    """0 when the teacher is asked live."""
    flops: int
    """Of their training, and of the teacher's answers to more blocks."""
    disk_bytes: int
    hours: float | None
    """None without a rate."""


def estimate(spec: SearchSpec, space: SearchSpace, *, rate: Rate | None = None) -> Estimate:
    """Return what a search is expected to cost.

    Raises:
        InvalidRecipe: Teacher answers that were asked for do not fit ``max_cache_bytes``.
    """
    found = _Costing(spec, space).estimate(rate)
    if spec.promotion is None:
        return found
    try:
        promotion = _Costing(spec.promoted_by(spec.promotion), space).promotion(rate)
    except InvalidRecipe as error:
        raise InvalidRecipe(f"promotion.{error.field}", error.reason) from None
    return replace(found, promotion=promotion)


class _Costing:
    """One estimate in the making: what all of its parts start from."""

    def __init__(self, spec: SearchSpec, space: SearchSpace) -> None:
        self._spec = spec
        self._space = space
        self._parent = space.parent
        self._schedule = rungs.schedule(spec)
        self._is_live = is_teacher_live(spec, space.parent)
        self._correction = spec.correction.training(spec.training) if spec.correction else None
        step = -(-len(space) // MAX_SAMPLED)
        self._sample = [*map(space.at, range(0, len(space), step)), space.largest]
        self._fewest_layers = space.least.num_layers

    def estimate(self, rate: Rate | None) -> Estimate:
        spec = self._spec
        num_trials = limits.expected_trials(spec, self._schedule, len(self._space))
        num_baselines = spec.comparisons.random_architectures + spec.comparisons.random_indices
        num_tokens = limits.expected_tokens(spec, self._schedule, len(self._space))
        work = [self._trial_flops(shape) for shape in self._sample]
        preparation = self._preparation_flops()
        # A trial that stops at a rung does a part of the work of one that does not.
        trials = round(fmean(work) * num_tokens / self._schedule.num_tokens)
        whole, hidden = self._schedule.num_tokens, self._parent.hidden_size
        cache = spec.distillation.cache_bytes(num_tokens=whole, hidden_size=hidden)
        answers = 0 if self._is_live else cache
        trial = self._trial(work, rate)
        at_once = min(spec.max_parallel, num_trials + num_baselines)
        each_process = trials / at_once / spec.resources.processes
        seconds = (preparation + each_process) / rate.flops_per_second if rate else None
        return Estimate(
            num_feasible=len(self._space),
            parameters=_span(each.parameter_count for each in (self._space.smallest, self._space.largest)),
            sizes=self._space.sizes,
            costs={name: span for name, span in self._space.spans.items() if name != "parameters"},
            num_trials=num_trials,
            num_baselines=num_baselines,
            num_finalists=min(spec.evaluation.finalists, num_trials) if spec.evaluation else 0,
            learnt_from=self._learnt_from(),
            is_teacher_live=self._is_live,
            teacher_cache_bytes=answers,
            trial=trial,
            num_tokens=num_tokens,
            preparation_flops=preparation,
            correction_flops=self._correction_flops(),
            flops=preparation + trials,
            disk_bytes=answers
            + self._blocks_bytes()
            + self._correction_bytes()
            + self._trials_bytes(trial, num_trials, num_baselines),
            rate=rate,
            hours=None if seconds is None else seconds / 3600,
        )

    def promotion(self, rate: Rate | None) -> PromotionEstimate:
        """Return what promotions cost, where this is the spec that they are run by."""
        found = self.estimate(rate)
        answered = 0 if self._is_live else self._schedule.num_tokens
        asked = answered * self._parent.flops_per_token(context=self._spec.data.sequence_length)
        trained = found.flops - found.preparation_flops
        at_once = min(self._spec.max_parallel, found.num_trials) * found.trial.processes
        return PromotionEstimate(
            num_students=found.num_trials,
            trial=found.trial,
            num_tokens=found.num_tokens,
            is_teacher_live=found.is_teacher_live,
            teacher_cache_bytes=found.teacher_cache_bytes,
            flops=trained + asked,
            disk_bytes=found.disk_bytes,
            hours=(trained / at_once + asked) / rate.flops_per_second / 3600 if rate else None,
        )

    def _trial(self, work: Sequence[int], rate: Rate | None) -> TrialEstimate:
        processes, training = self._spec.resources.processes, self._spec.training
        most = max(
            (
                self._memory(shape, training=training, is_live=self._is_live, processes=processes)
                for shape in self._sample
            ),
            key=lambda memory: memory.total,
        )
        parent_bytes = self._parent.weight_bytes("float32") * (processes == 1)
        students = _span(map(student_bytes, self._sample))
        is_on_host = not self._spec.resources.gpus
        asked = self._spec.calibration.batch_size * self._spec.data.sequence_length
        correction = self._correction_memory()
        preparation = forward_memory(self._parent, num_tokens=asked)
        preparation += depth_memory(self._parent, self._spec.calibration, num_tokens=asked)
        preparation = max(preparation, correction)
        memory_bytes = max(most.total + parent_bytes * is_on_host, preparation)
        if is_on_host:
            host_bytes = max(most.total + parent_bytes + students.most * (processes > 1), preparation)
        else:
            host_bytes = parent_bytes + students.most
        return TrialEstimate(
            num_tokens=self._schedule.num_tokens,
            flops=Span(least=min(work), most=max(work)),
            processes=processes,
            memory=most,
            parent_bytes=parent_bytes,
            preparation_bytes=preparation,
            correction_bytes=correction,
            memory_bytes=memory_bytes,
            host_bytes=host_bytes,
            state_bytes=_span(
                state_bytes(
                    shape,
                    self._spec.training.optimizer_state,
                    teacher=self._parent if self._states(shape, is_live=self._is_live) else None,
                )
                for shape in self._sample
            ),
            student_bytes=students,
            seconds=fmean(work) / processes / rate.flops_per_second if rate else None,
        )

    def _memory(
        self, shape: Architecture, *, training: TrainingRecipe, is_live: bool, processes: int
    ) -> TrainingMemory:
        """Return what a shape takes; where the precision is the device's to choose, in the hungrier one."""
        asked = "bfloat16" if training.weights == "bfloat16" else training.precision
        precisions: tuple[ComputePrecision, ...] = ("float32", "bfloat16") if asked == "auto" else (asked,)
        return max(
            (
                training_memory(
                    shape,
                    self._parent,
                    training=training,
                    distillation=self._spec.distillation,
                    sequence_length=self._spec.data.sequence_length,
                    is_live=is_live,
                    precision=precision,
                    processes=processes,
                )
                for precision in precisions
            ),
            key=lambda memory: memory.total,
        )

    def _states(self, shape: Architecture, *, is_live: bool) -> tuple[State, ...]:
        return self._spec.distillation.states(
            student_layers=shape.num_layers, parent_layers=self._parent.num_layers, is_live=is_live
        )

    def _learnt_from(self) -> str:
        """Return what the students learn from, and what the automatic choice means for this space."""
        served, wished = (
            [self._states(shape, is_live=is_live) for shape in self._sample]
            for is_live in (self._is_live, True)
        )
        told = self._spec.distillation.described(max(served, key=len))
        if len(set(served)) > 1:
            told += " where depth falls by more than a fifth"
        if any(wished) and not any(served):
            told += "; on no hidden states, since the teacher is not live"
        return told

    def _trial_flops(self, shape: Architecture) -> int:
        sequence_length = self._spec.data.sequence_length
        evaluated = len(self._schedule.points) * self._spec.data.validation_tokens
        return evaluated * shape.flops_per_token(context=sequence_length) + training_flops(
            shape,
            self._parent,
            num_tokens=self._schedule.num_tokens,
            sequence_length=sequence_length,
            is_live=self._is_live,
            is_checkpointed=self._spec.training.activation_checkpointing,
        )

    def _preparation_flops(self) -> int:
        """Forward passes of the parent: importance, without the output head; its loss; answers to keep.

        And its own training, where it is corrected, after which its loss is measured again. Steps of importance
        count as if none were narrower.
        """
        calibration, sequence_length = self._spec.calibration, self._spec.data.sequence_length
        per_token = self._parent.flops_per_token(context=sequence_length)
        head = 2 * self._parent.vocab_size * self._parent.hidden_size
        answered = 0 if self._is_live else self._schedule.num_tokens
        width = calibration.steps * self._calibration_tokens * (per_token - head)
        layers, heads = depth_runs(self._parent.num_layers, calibration, fewest=self._fewest_layers)
        depth_tokens = calibration.depth_blocks(sequence_length) * sequence_length
        depth = depth_tokens * (layers * (per_token - head) // self._parent.num_layers + heads * head)
        measured = self._spec.data.validation_tokens * (1 if self._correction is None else 2)
        return width + depth + (measured + answered) * per_token + self._correction_flops()

    def _correction_memory(self) -> int:
        if self._correction is None:
            return 0
        # Labels alone: nothing is kept of a teacher.
        return self._memory(self._parent, training=self._correction, is_live=False, processes=1).total

    def _correction_flops(self) -> int:
        if self._correction is None:
            return 0
        sequence_length = self._spec.data.sequence_length
        steps, blocks = (
            self._correction.num_steps(sequence_length), self._correction.blocks_per_step(sequence_length),
        )  # fmt: skip
        return training_flops(
            self._parent,
            self._parent,
            num_tokens=steps * blocks * sequence_length,
            sequence_length=sequence_length,
            is_live=False,
            is_checkpointed=self._correction.activation_checkpointing,
        )

    def _correction_bytes(self) -> int:
        """Return what the corrected parent takes, and two states of its training while one replaces the other."""
        if self._correction is None or self._spec.correction is None:
            return 0
        keeps_stages = self._is_live or self._spec.distillation.cache_form == "hidden"
        kept = self._spec.correction.num_kept(keeps_stages=keeps_stages) * student_bytes(self._parent)
        return kept + 2 * state_bytes(self._parent, self._correction.optimizer_state)

    @property
    def _calibration_tokens(self) -> int:
        sequence_length = self._spec.data.sequence_length
        return self._spec.calibration.num_blocks(sequence_length) * sequence_length

    def _blocks_bytes(self) -> int:
        tokens = self._schedule.num_tokens + self._spec.data.validation_tokens + self._calibration_tokens
        return TOKEN_BYTES * tokens

    def _trials_bytes(self, trial: TrialEstimate, num_trials: int, num_baselines: int) -> int:
        """Return what states, students and MLflow's copy of the winner take at their most."""
        # A new state is written before the one before it goes; a trial that waits at a rung keeps one.
        waiting = num_trials if len(self._schedule.rungs) > 1 else 0
        states = 2 * self._spec.max_parallel + waiting
        return trial.state_bytes.most * states + trial.student_bytes.most * (num_trials + num_baselines + 1)


def _span(values: Iterable[int]) -> Span:
    found = list(values)
    return Span(least=min(found), most=max(found))
