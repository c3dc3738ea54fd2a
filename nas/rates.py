"""How fast devices are: stated, or told from trials that have run. Pure arithmetic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from minitron.architecture import Architecture
from minitron.costs import training_flops
from nas.rungs import schedule
from nas.search import SearchSpec
from nas.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one process of a trial computes."""

    flops_per_second: float
    source: str
    """Where it is known from, for people."""


def is_teacher_live(spec: SearchSpec, parent: Architecture) -> bool:
    """Return whether the teacher of a search's trials answers beside each of them.

    Raises:
        InvalidRecipe: Its answers were to be kept and do not fit ``max_cache_bytes``.
    """
    return spec.distillation.asks_live(num_tokens=schedule(spec).num_tokens, hidden_size=parent.hidden_size)


def measured_rate(finished: Iterable[tuple[SearchSpec, Architecture, Sequence[Trial]]]) -> Rate | None:
    """Return what the completed trials of other searches computed a second, or None without any.

    Args:
        finished: Specs of searches with the same resources, their parents' shapes and their trials.
    """
    rates, parents = [], set()
    for spec, parent, trials in finished:
        is_live = is_teacher_live(spec, parent)
        for trial in trials:
            measured = trial.measurement
            # A promotion has a recipe of its own.
            if measured and measured.train_seconds > 0 and trial.promotion is None:
                work = training_flops(
                    trial.architecture,
                    parent,
                    num_tokens=measured.num_tokens,
                    sequence_length=spec.data.sequence_length,
                    is_live=is_live,
                    is_checkpointed=spec.training.activation_checkpointing,
                )
                rates.append(work / measured.train_seconds / spec.resources.processes)
                parents.add(spec.parent)
    if not rates:
        return None
    return Rate(
        flops_per_second=median(rates),
        source=f"the median of {len(rates)} trials of {', '.join(sorted(parents))}",
    )
