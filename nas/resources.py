"""What one trial gets from Ray, and what several processes cannot do together. Values only."""

from dataclasses import dataclass

from minitron.recipe import DistillationRecipe, TrainingRecipe
from nas.errors import InvalidSpec, Problem

MOST_PROCESSES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one trial gets from Ray: ``processes`` times the rest."""

    cpus: float = 1
    gpus: float = 0
    processes: int = 1
    """Processes that train one student together, each with its share of weights and blocks, for students that are
    too large for one device. Each gets ``cpus`` and ``gpus``, also on several nodes."""
    memory_bytes: int | None = None
    """What one process may take where it trains; a spec that needs more is refused. None asks nothing."""
    threads: int = 0
    """Torch threads of a worker; 0 takes as many as ``cpus``, and one for models below 10 M parameters."""

    def __post_init__(self) -> None:
        for name, least in (("cpus", 0), ("gpus", 0), ("threads", 0)):
            value = getattr(self, name)
            if value < least:
                raise InvalidSpec(((f"resources.{name}", f"found {value}, allowed: at least {least}"),))
        if not 1 <= self.processes <= MOST_PROCESSES:
            reason = f"found {self.processes}, allowed: 1 to {MOST_PROCESSES}"
            raise InvalidSpec((("resources.processes", reason),))
        if self.processes > 1 and self.gpus not in (0, 1):
            reason = f"found {self.gpus:g}, allowed with several processes: 1 for each, or 0"
            raise InvalidSpec((("resources.gpus", reason),))
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise InvalidSpec(
                (("resources.memory_bytes", f"found {self.memory_bytes}, allowed: at least 1"),)
            )


def not_together(
    resources: Resources, training: TrainingRecipe, distillation: DistillationRecipe, *, sequence_length: int
) -> list[Problem]:
    """Return what the processes of a trial cannot do together; one alone can do everything."""
    problems, processes = [], resources.processes
    if processes == 1:
        return []
    blocks = training.blocks_per_step(sequence_length)
    if blocks % processes:
        reason = (
            f"found {processes}, allowed: what divides the {blocks} blocks of a step, "
            "training.batch_tokens / data.sequence_length"
        )
        problems.append(("resources.processes", reason))
    if training.weights != "float32":
        reason = f"found {training.weights}, allowed with several processes: float32"
        problems.append(("training.weights", reason))
    if distillation.cache_form != "top_k":
        reason = f"found {distillation.cache_form}, allowed with several processes: top_k"
        problems.append(("distillation.cache_form", reason))
    return problems
