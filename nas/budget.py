"""What a student may cost: parameters, memory once it is deployed, work for each token, time, in any mixture."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from minitron.architecture import Architecture
from nas.errors import InvalidSpec
from nas.latency_costs import latency_of
from nas.latency_table import LatencySetting, LatencyTable, Phase

Counting = Literal["total", "non_embedding"]
Dtype = Literal["float32", "bfloat16", "float16"]
CostName = Literal["parameters", "memory_bytes", "flops_per_token", "latency_nanoseconds"]

MOST_TOKENS = 2**31 - 1
"""Of a context, and sequences of a batch: what is larger is mistyped."""

LATENCY_ENDS = {"max_ms": (0.0, 1e12), "min_tokens_per_second": (1e-9, 1e18)}
"""Below and above which a limit of latency is mistyped: nobody waits for years."""

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The least and the most over a space."""

    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """A window of what weights, keys and values take while a student answers, both ends included.

    Activations and what a server takes beside are not counted: they are the server's to say.

    Raises:
        InvalidSpec: A window that no number lies in, or no sequence or token.
    """

    max_bytes: int
    min_bytes: int = 0
    context: int
    """Tokens of each sequence whose keys and values are kept."""
    batch: int = 1
    """Sequences at once."""
    dtype: Dtype = "bfloat16"
    """Of the weights, and of keys and values."""

    def __post_init__(self) -> None:
        _require(
            *_window_problems("memory.max_bytes", self.max_bytes, "memory.min_bytes", self.min_bytes),
            *_count_problems("memory.context", self.context),
            *_count_problems("memory.batch", self.batch),
        )

    def measure(self, architecture: Architecture) -> int:
        """Return the bytes that this budget bounds."""
        cache = architecture.kv_cache_bytes(batch=self.batch, context=self.context, dtype=self.dtype)
        return architecture.weight_bytes(self.dtype) + cache


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkBudget:
    """A window of floating-point operations of a forward pass for each token, both ends included.

    Raises:
        InvalidSpec: A window that no number lies in, or no token.
    """

    max_flops: int
    min_flops: int = 0
    context: int
    """Tokens of the sequence that attention looks at; the mean over its tokens counts."""

    def __post_init__(self) -> None:
        _require(
            *_window_problems("work.max_flops", self.max_flops, "work.min_flops", self.min_flops),
            *_count_problems("work.context", self.context),
        )

    def measure(self, architecture: Architecture) -> int:
        """Return the operations that this budget bounds."""
        return architecture.flops_per_token(context=self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBudget:
    """A window of the time that one pass of a student takes, both ends included, as it is summed of measured blocks.

    Measured is where trials run, with a trial's device and threads, by transformers' own modules. Without an upper end it
    bounds nothing, and says how the time is measured that a search weighs against the loss.

    Raises:
        InvalidSpec: A window that no time lies in, or a table of something else.
    """

    max_ms: float | None = None
    min_tokens_per_second: float | None = None
    """Of all sequences together: the other way to say what a pass may take at most."""
    min_ms: float = 0
    phase: Phase = "decode"
    context: int
    batch: int = 1
    """Sequences at once."""
    dtype: Dtype = "bfloat16"
    table: LatencyTable | None = None
    """What was measured beforehand, for example on another machine; None measures when the search starts."""

    def __post_init__(self) -> None:
        problems = [
            (f"budget.latency.{name}", f"found {found}, allowed: above {least:g}, at most {most:g}")
            for name, (least, most) in LATENCY_ENDS.items()
            if (found := getattr(self, name)) is not None and not least < found <= most
        ]
        problems += _count_problems("latency.context", self.context)
        problems += _count_problems("latency.batch", self.batch)
        if not problems:
            most = self.most_nanoseconds
            if not 0 <= self.min_ms <= (most or 0) / 1e6:
                allowed = "0 without max_ms" if most is None else f"0 to {most / 1e6:g}"
                problems.append(("budget.latency.min_ms", f"found {self.min_ms}, allowed: {allowed}"))
        if self.table is not None and self.table.setting != self.setting:
            reason = f"found one of {self.table.setting}, allowed: of {self.setting}"
            problems.append(("budget.latency.table", reason))
        _require(*problems)

    @property
    def setting(self) -> LatencySetting:
        """What is timed."""
        return LatencySetting(phase=self.phase, context=self.context, batch=self.batch, dtype=self.dtype)

    @property
    def most_nanoseconds(self) -> int | None:
        """What a pass may take, by whichever field asks for less; None where neither does."""
        return min((int(each) for each in self._most.values()), default=None)

    @property
    def most_field(self) -> str:
        """The field that asks for it, or may."""
        return min(self._most, key=self._most.__getitem__, default="max_ms")

    @property
    def _most(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self.max_ms is not None:
            found["max_ms"] = round(self.max_ms * 1e6)  # as it was written: 0.000983 is 983, not 982.99...
        if self.min_tokens_per_second is not None:
            found["min_tokens_per_second"] = self.setting.tokens / self.min_tokens_per_second * 1e9
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One cost of a student, and the window that it must lie in: both ends are included."""

    name: CostName
    unit: str
    """After a number, for people."""
    measure: Callable[[Architecture], int]
    least: int
    most: int | None
    """None where only the other costs have an upper end."""
    least_field: str
    most_field: str
    """The fields of a budget that say these, after ``budget.``."""
    number: Callable[[int], str] = "{:,}".format
    """A cost as people read it, before the unit."""
    latencies: LatencyTable | None = None
    """What ``measure`` reads, where a cost is no arithmetic on the shape."""

    def excess(self, architecture: Architecture) -> int:
        """Return by how much the window is missed; 0 or less is inside."""
        cost = self.measure(architecture)
        below = self.least - cost
        return below if self.most is None else max(cost - self.most, below)

    def refusal(self, architecture: Architecture) -> str | None:
        """Return why ``architecture`` lies outside the window, or None when it does not."""
        cost, excess = self.measure(architecture), self.excess(architecture)
        if excess <= 0:
            return None
        where = f"below {self.least_field}" if cost < self.least else f"above {self.most_field}"
        return f"{self.number(cost)} {self.unit}, {self.number(excess)} {where}"

    @property
    def window(self) -> str | None:
        """The window in numbers, without their unit; None where it bounds nothing."""
        if self.most is None:
            return f"at least {self.number(self.least)}" if self.least else None
        return f"{self.number(self.least)} to {self.number(self.most)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Windows of costs, all of which a student must lie in.

    Raises:
        InvalidSpec: A window that no number lies in, or nothing that a student may cost at most.
    """

    max_parameters: int | None = None
    min_parameters: int = 0
    """Keeps the search near the limit, where the best students are."""
    counting: Counting = "total"
    """``total`` counts both embeddings (a tied table once), as the Minitron papers do."""
    memory: MemoryBudget | None = None
    work: WorkBudget | None = None
    latency: LatencyBudget | None = None
    """Bounds nothing until its table is known."""

    def __post_init__(self) -> None:
        latency = self.latency and self.latency.most_nanoseconds
        if all(each is None for each in (self.max_parameters, self.memory, self.work, latency)):
            reason = "missing, allowed: a number of parameters, or instead of it memory, work or latency"
            reason += ", which here has no max_ms" * (self.latency is not None)
            raise InvalidSpec((("budget.max_parameters", reason),))
        _require(
            *_window_problems("max_parameters", self.max_parameters, "min_parameters", self.min_parameters)
        )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All that is counted of a student: its parameters first, whether these are bounded or not, and its latency
        only once that was measured.

        In the order in which refusals name them.
        """
        found = [
            Limit(
                name="parameters", unit=f"{self.counting} parameters", measure=self.count,
                least=self.min_parameters, most=self.max_parameters,
                least_field="min_parameters", most_field="max_parameters",
            )
        ]  # fmt: skip
        if self.memory is not None:
            found.append(
                Limit(
                    name="memory_bytes", unit="bytes of weights and cache", measure=self.memory.measure,
                    least=self.memory.min_bytes, most=self.memory.max_bytes,
                    least_field="memory.min_bytes", most_field="memory.max_bytes",
                )
            )  # fmt: skip
        if self.work is not None:
            found.append(
                Limit(
                    name="flops_per_token", unit="operations a token", measure=self.work.measure,
                    least=self.work.min_flops, most=self.work.max_flops,
                    least_field="work.min_flops", most_field="work.max_flops",
                )
            )  # fmt: skip
        if self.latency is not None and self.latency.table is not None:
            found.append(
                Limit(
                    name="latency_nanoseconds", unit=f"ms to {self.latency.phase}",
                    measure=partial(latency_of, self.latency.table), latencies=self.latency.table,
                    least=math.ceil(round(self.latency.min_ms * 1e6, 3)), most=self.latency.most_nanoseconds,
                    least_field="latency.min_ms", most_field=f"latency.{self.latency.most_field}",
                    number=in_milliseconds,
                )
            )  # fmt: skip
        return tuple(found)

    def measured(self, table: LatencyTable | None) -> "Budget":
        """Return this budget with what was measured for it, where that is asked for and not given."""
        if self.latency is None or self.latency.table is not None:
            return self
        return replace(self, latency=replace(self.latency, table=table))

    def count(self, architecture: Architecture) -> int:
        """Return the parameters of ``architecture`` that this budget counts."""
        if self.counting == "total":
            return architecture.parameter_count
        return architecture.non_embedding_parameters

    def costs(self, architecture: Architecture) -> dict[CostName, int]:
        """Return what ``architecture`` costs beside parameters, as far as this budget bounds it."""
        return {limit.name: limit.measure(architecture) for limit in self.limits[1:]}

    def admits(self, architecture: Architecture) -> bool:
        """Return whether ``architecture`` lies in every window."""
        return all(limit.excess(architecture) <= 0 for limit in self.limits)

    def refusal(self, architecture: Architecture) -> str | None:
        """Return why ``architecture`` lies outside, window by window, or None when it does not."""
        refusals = (limit.refusal(architecture) for limit in self.limits)
        return "; ".join(refusal for refusal in refusals if refusal) or None

    @property
    def windows(self) -> str:
        """All that is bounded, in exact numbers."""
        return ", ".join(f"{limit.window} {limit.unit}" for limit in self.limits if limit.window)


def in_milliseconds(nanoseconds: float) -> str:
    """Return a time in milliseconds, to six digits and without the unit."""
    return f"{nanoseconds / 1e6:,.6g}"


def _window_problems(most_field: str, most: int | None, least_field: str, least: int) -> list[Problem]:
    if most is not None and most < 0:
        return [(f"budget.{most_field}", f"found {most}, allowed: at least 0")]
    if most is not None and not 0 <= least <= most:
        name = most_field.rpartition(".")[2]
        return [(f"budget.{least_field}", f"found {least}, allowed: 0 to {name} ({most})")]
    if least < 0:
        return [(f"budget.{least_field}", f"found {least}, allowed: at least 0")]
    return []


def _count_problems(field: str, found: int) -> list[Problem]:
    if 1 <= found <= MOST_TOKENS:
        return []
    return [(f"budget.{field}", f"found {found}, allowed: 1 to {MOST_TOKENS:,}")]


def _require(*problems: Problem) -> None:
    if problems:
        raise InvalidSpec(problems)
