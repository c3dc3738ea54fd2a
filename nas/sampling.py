"""What a spec says of how its architectures are chosen. Values only; ``nas.samplers`` does it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from minitron.architecture import Architecture
from nas.budget import Budget
from nas.errors import InvalidSpec
from nas.latency_costs import latency_of
from nas.latency_table import LatencySetting, LatencyTable, Machine

SamplerName = Literal["tpe", "nsga2", "random", "exhaustive", "nearest-budget"]
"""How the next architecture is chosen: learnt from the losses (``tpe``), or from loss and cost (``nsga2``), drawn
evenly, every feasible one, or those nearest to the budget's upper end, as NVIDIA ModelOpt's documentation has it."""
SAMPLERS: Mapping[SamplerName, str] = {
    "tpe": "TPE, which learns from the losses",
    "nsga2": "NSGA-II, which learns from losses and costs",
    "random": "even draws",
    "exhaustive": "all that are feasible, one after the other",
    "nearest-budget": "nearest to the budget's upper end, a re-implementation of the rule that NVIDIA ModelOpt documents",
}
"""What each is, for people."""
Order = Literal["space", "shuffled"]
PriorName = Literal["none", "budget", "importance_kept"]
"""``budget``: with ``tpe`` every other one is nearest to the budget's upper end, as most often the best students are as
large as allowed; the rest is drawn evenly. ``importance_kept`` prefers students that keep more of the parent's
measured importance. The zero-shot loss of pruned models is a rung at 0 tokens."""
LARGEST = 10**9
AS_TIMED = "budget.latency says what is timed"
NOT_TIMED = "latency is no arithmetic on a shape: see ``weighed``"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A cost to be low beside the loss.

    Raises:
        InvalidSpec: A batch or a context below one, or absurdly large, or what the cost does not go by.
    """

    cost: Literal["parameters", "memory", "flops", "latency"] = "parameters"
    """``parameters``, embeddings included; ``memory`` of the weights and the cache of keys and values, in bytes;
    ``flops``, the floating-point operations of one token; or ``latency``, the time of a pass, of which ``budget.latency``
    says what is timed, with or without a limit. Who answers fast has the highest throughput too."""
    batch: int = 1
    """Sequences at once, for ``memory``."""
    context: int = 4096
    """Tokens of a sequence, for ``memory`` and ``flops``."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of weights and cache, for ``memory``."""

    def __post_init__(self) -> None:
        problems = tuple(
            (f"objective.{name}", f"found {getattr(self, name)}, allowed: 1 to {LARGEST}")
            for name in ("batch", "context")
            if not 1 <= getattr(self, name) <= LARGEST
        )
        if self.cost == "latency":
            problems += tuple(
                (f"objective.{each.name}", f"found {found}, allowed with cost latency: none; {AS_TIMED}")
                for each in fields(Objective)
                if each.name != "cost" and (found := getattr(self, each.name)) != each.default
            )
        if problems:
            raise InvalidSpec(problems)

    def of(self, architecture: Architecture) -> int:
        """Return what an architecture costs."""
        match self.cost:
            case "parameters":
                return architecture.parameter_count
            case "memory":
                cache = architecture.kv_cache_bytes(batch=self.batch, context=self.context, dtype=self.dtype)
                return architecture.weight_bytes(self.dtype) + cache
            case "flops":
                return architecture.flops_per_token(context=self.context)
            case "latency":
                raise TypeError(NOT_TIMED)

    @property
    def words(self) -> str:
        """What is counted, for people."""
        match self.cost:
            case "parameters":
                return "parameters"
            case "memory":
                return (
                    f"bytes of weights and KV cache, {self.batch:,} x {self.context:,} tokens in {self.dtype}"
                )
            case "flops":
                return f"floating-point operations a token, {self.context:,} tokens of context"
            case "latency":
                raise TypeError(NOT_TIMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedObjective(Objective):
    """The cost ``latency`` with what it is read from. Two are the same where the same was timed on the same machine."""

    setting: LatencySetting
    table: LatencyTable | None = field(compare=False)
    """Of the sizes of one space; None as long as nothing was timed, and so nothing tried."""
    machine: Machine | None

    def of(self, architecture: Architecture) -> int:
        """Return how many nanoseconds an architecture takes for a pass."""
        assert self.table is not None, "blocks are timed before the first trial"
        return latency_of(self.table, architecture)

    @property
    def words(self) -> str:
        """What is counted, for people."""
        at = self.setting
        return f"nanoseconds to {at.phase}, {at.batch:,} x {at.context:,} tokens in {at.dtype}"


def weighed(objective: Objective | None, budget: Budget) -> Objective | None:
    """Return an objective as architectures can be asked for it; ``budget`` knows what was measured."""
    if objective is None or objective.cost != "latency":
        return objective
    assert budget.latency is not None, "a spec without it is refused"
    table = budget.latency.table
    return TimedObjective(
        cost="latency",
        setting=budget.latency.setting,
        table=table,
        machine=None if table is None else table.machine,
    )


def not_weighed(objective: Objective | None, budget: Budget) -> list[tuple[str, str]]:
    """Return why nothing can be timed for an objective, or is for none, as pairs of field and reason."""
    is_latency = objective is not None and objective.cost == "latency"
    if is_latency and budget.latency is None:
        reason = f"found latency, allowed without budget.latency: parameters, memory or flops; {AS_TIMED}"
        return [("objective.cost", f"{reason}, such as {{context: 1024}}")]
    if not is_latency and budget.latency is not None and budget.latency.most_nanoseconds is None:
        reason = "missing, allowed: milliseconds, or instead of it min_tokens_per_second"
        return [("budget.latency.max_ms", f"{reason}; or neither with objective {{cost: latency}}")]
    return []


def shared(objectives: Iterable[Objective | None]) -> Objective | None:
    """Return the objective that all weigh; None where there is none, or not the same."""
    found = set(objectives)
    return found.pop() if len(found) == 1 else None


def weighed_words(objective: Objective | None) -> str:
    """Return what stands against the loss, for people: parameters, unless something else is weighed."""
    return objective.words if objective else "parameters"


def not_sampled(
    sampler: SamplerName, order: Order, objective: Objective | None, prior: PriorName
) -> list[tuple[str, str]]:
    """Return what a sampler cannot do of what is asked, as pairs of field and reason."""
    problems = []
    if sampler == "nsga2" and objective is None:
        reason = "found none, allowed with sampler nsga2: a cost, such as {cost: parameters}"
        problems.append(("objective", reason))
    if sampler != "nsga2" and objective is not None:
        reason = (
            f"found {{cost: {objective.cost}}}, allowed with sampler {sampler}: none; only nsga2 weighs two"
        )
        problems.append(("objective", reason))
    if sampler != "exhaustive" and order != "space":
        reason = f"found {order}, allowed with sampler {sampler}: space; only exhaustive has an order"
        problems.append(("order", reason))
    if sampler not in ("tpe", "nsga2") and prior == "importance_kept":
        reason = f"found {prior}, allowed with sampler {sampler}: none or budget; only tpe and nsga2 learn"
        problems.append(("prior", reason))
    return problems
