"""Numbers, times and progress in the words that the command line and the dashboard share."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from unicodedata import category

from minitron.architecture import Architecture
from minitron.hub import PREFIX
from minitron.progress import Progress
from nas.budget import Budget, CostName, Counting, LatencyBudget
from nas.finals import ScoreRow
from nas.latency_table import Machine
from nas.mlflow_links import MlflowStanding, ModelVersion
from nas.orders import Orders
from nas.search import Search
from nas.trial import Trial, TrialRole

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
OPERATIONS = (
    (1e21, "ZFLOP"),
    (1e18, "EFLOP"),
    (1e15, "PFLOP"),
    (1e12, "TFLOP"),
    (1e9, "GFLOP"),
    (1e6, "MFLOP"),
)

BEST_AT_EQUAL_TOKENS = "best at equal tokens"
"""In pictures of all trials; who was promoted is drawn as such."""
NOTHING = "-"

Words = Callable[[float], str]
"""A number in the words of its unit."""

_COMMIT = re.compile(r"(@[0-9a-f]{7})[0-9a-f]{33}")

AXES = {
    "num_layers": "layers",
    "hidden_size": "hidden size",
    "intermediate_size": "MLP size",
    "intermediate_size.of_hidden": "MLP size / hidden",
    "num_attention_heads": "query heads",
    "num_key_value_heads": "KV heads",
}
"""Axes, by their names in specs and in studies."""

ROLES = {
    TrialRole.SEARCH: "search",
    TrialRole.RANDOM_ARCHITECTURE: "random architecture",
    TrialRole.RANDOM_INDICES: "random indices",
    TrialRole.PROMOTION: "promotion",
}


def visible(text: str) -> str:
    """Return what somebody wrote without what moves a terminal, for which a sign stands."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if category(each) == "Cc" and each not in "\n\t" else each
        for each in text
    )


def count(number: float) -> str:
    """Return a number of parameters or tokens in three digits: 637 k, 1.24 M, 4.5 B."""
    return _in_units(number, UNITS)


def in_bytes(number: float) -> str:
    """Return a size in three digits: 512 B, 93.4 MB, 1.4 TB."""
    return _in_units(number, BYTES, "B")


def work(number: float) -> str:
    """Return floating-point operations in three digits: 21.4 TFLOP, 3.1 EFLOP."""
    return _in_units(number, OPERATIONS, "FLOP")


def _in_units(number: float, units: Iterable[tuple[float, str]], one: str = "") -> str:
    for size, unit in units:
        # What rounds up to a thousand of one unit is one of the next.
        if number >= size * 0.9995:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} {one}".rstrip()


def loss(value: float | None) -> str:
    """Return nats per token."""
    return NOTHING if value is None else f"{value:.4f}"


def with_error(value: str, standard_error: float | None) -> str:
    """Return a value with its standard error, where there is one."""
    return value if standard_error is None else f"{value} ± {standard_error:.4f}"


def percent(share: float | None) -> str:
    """Return a share in whole percent."""
    return NOTHING if share is None else f"{share:.0%}"


def duration(span: timedelta) -> str:
    """Return a span in at most two units: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = max(0, round(span.total_seconds()))
    parts = [
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    ]
    first = next((index for index, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount) or "0 s"


def hours(seconds: float) -> str:
    """Return worker seconds in hours, less than one of them as ``duration`` says it."""
    return duration(timedelta(seconds=seconds)) if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def remaining(seconds: float | None) -> str:
    """Return about how long is left, rounded to what an estimate is worth."""
    if seconds is None:
        return "time left not known yet"
    step = 5 if seconds < 60 else 30 if seconds < 600 else 60
    return f"about {duration(timedelta(seconds=max(step, round(seconds / step) * step)))} left"


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago something was, in one unit."""
    seconds = (now - then).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def in_ms(nanoseconds: float) -> str:
    """Return a time in milliseconds, to three digits."""
    return f"{nanoseconds / 1e6:,.3g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWords:
    """How people speak of a cost that a budget may bound beside parameters."""

    name: str
    number: Words


COUNTED: Mapping[Counting, str] = {
    "total": "parameters",
    "non_embedding": "parameters outside the embeddings",
}
"""What a budget counts of parameters."""
COSTS: Mapping[CostName, CostWords] = {
    "memory_bytes": CostWords(name="weights and cache", number=in_bytes),
    "flops_per_token": CostWords(name="work a token", number=work),
    "latency_nanoseconds": CostWords(name="time a pass", number=in_ms),
}


def machine(at: Machine) -> str:
    """Return on what was measured."""
    return f"{at.device}, {at.threads:,} thread{'s' * (at.threads > 1)}, {at.software}"


def fitting(search: Search) -> str:
    """Return how many architectures a search chooses from."""
    latency = search.budget.latency
    is_open = latency is not None and latency.table is None and latency.most_nanoseconds is not None
    return f"{search.num_feasible:,} architectures fit{' before latency is measured' * is_open}"


def costs(window: Budget, architecture: Architecture) -> list[tuple[str, str]]:
    """Return what an architecture costs beside parameters, as far as a budget bounds it: names and numbers."""
    return [(COSTS[name].name, COSTS[name].number(cost)) for name, cost in window.costs(architecture).items()]


def budget(window: Budget) -> str:
    """Return what a student may cost."""
    parts = []
    if window.max_parameters is not None or window.min_parameters:
        between = _between(window.min_parameters, window.max_parameters, count)
        parts.append(f"{between} {COUNTED[window.counting]}")
    if (memory := window.memory) is not None:
        at = f"{memory.dtype}, batch {memory.batch:,}, context {memory.context:,}"
        parts.append(f"{_between(memory.min_bytes, memory.max_bytes, in_bytes)} of weights and cache ({at})")
    if (asked := window.work) is not None:
        parts.append(
            f"{_between(asked.min_flops, asked.max_flops, work)} a token (context {asked.context:,})"
        )
    if (latency := window.latency) is not None:
        at = f"{latency.dtype}, batch {latency.batch:,}, context {latency.context:,}"
        where = f", measured on {machine(latency.table.machine)}" if latency.table else ""
        parts.append(f"{_time_window(latency) or 'any time'} to {latency.phase} ({at}){where}")
    return ", ".join(parts)


def _time_window(latency: LatencyBudget) -> str:
    parts = [f"at least {in_ms(latency.min_ms * 1e6)}"] if latency.min_ms else []
    if latency.max_ms is not None:
        parts.append(f"at most {in_ms(latency.max_ms * 1e6)}")
    if latency.min_tokens_per_second is not None:
        parts.append(f"at least {latency.min_tokens_per_second:,g} tokens a second")
    return " and ".join(parts)


def _between(least: int, most: int | None, words: Words) -> str:
    if most is None:
        return f"at least {words(least)}"
    return f"{words(least)} to {words(most)}" if least else f"at most {words(most)}"


def parent(name: str) -> str:
    """Return the name of a parent without its folders, a commit in the length that people write."""
    return _COMMIT.sub(r"\1", name).removeprefix(PREFIX).rsplit("/", 1)[-1]


def tags(words: Sequence[str], most: int = 3) -> str:
    """Return the first tags and how many there are beyond."""
    more = (f"+{len(words) - most}",) if len(words) > most else ()
    return ", ".join((*words[:most], *more))


def said(search: Search) -> list[str]:
    """Return what people say of a search, but for its notes: nothing where they say nothing."""
    parts = {"owner": search.owner, "tags": ", ".join(search.tags), "archived": search.archived}
    return [name if value is True else f"{name} {value}" for name, value in parts.items() if value]


def killed(orders: Orders) -> str:
    """Return that a search was killed, and by whom; empty where it was not."""
    return f"killed{orders.killed_by and f' by {orders.killed_by}'}" if orders.is_killed else ""


def behind(seconds: float) -> str:
    """Return that MLflow was not told all for so long."""
    return (
        f"MLflow has not been told all for {duration(timedelta(seconds=seconds))}; it will be once it answers"
    )


def registered(found: ModelVersion) -> str:
    """Return what a winner is in MLflow's model registry."""
    return f"{found.name}, version {found.version} (trial {found.trial_number})"


def in_mlflow(standing: MlflowStanding) -> list[str]:
    """Return where a search is in MLflow, and that this is old: nothing where there is nothing to say."""
    lines = [f"in MLflow: {standing.mlflow_url}"] if standing.mlflow_url else []
    if standing.registered_model is not None:
        found = standing.registered_model
        lines.append(f"registered as {registered(found)}" + (f": {found.url}" if found.url else ""))
    late = standing.mlflow_behind_seconds
    return lines if late is None else [*lines, behind(late)]


def progress(at: Progress) -> str:
    """Return one stage and how far it is."""
    if at.is_cached:
        return f"{at.stage}: found in the cache"
    if not at.total:
        return at.stage
    return f"{at.stage}: {at.done:,} of {at.total:,} {at.unit}".rstrip()


def model(trial_number: int | None) -> str:
    """Return which model was asked at tasks."""
    return "teacher" if trial_number is None else f"trial {trial_number}"


def score_name(row: ScoreRow) -> str:
    """Return what a score is of, and which way it counts where that is not upwards."""
    return row.name if row.higher_is_better else f"{row.name} (lower is better)"


def outcome(trial: Trial) -> str:
    """Return the state of a trial, and whether it was never run itself."""
    state = trial.state.value.lower()
    return f"{state}, reused" if trial.reused_from else state


def taken(search: Search, tokens_saved: int) -> list[str]:
    """Return what a search took from earlier ones: nothing where it took nothing."""
    parts = []
    if search.num_priors:
        parts.append(f"proposals began from {search.num_priors} earlier measurements")
    if tokens_saved:
        parts.append(f"{count(tokens_saved)} tokens saved by reusing earlier trials")
    return parts


def mean(values: Iterable[float]) -> float | None:
    """Return the mean, or None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a stage goes, counted from where it was first seen; made anew for the next stage."""

    stage: str
    done: int
    at: datetime

    def remaining_seconds(self, progress: Progress, now: datetime) -> float | None:
        """Return the time left of the stage at the pace so far; None while too little is known."""
        advanced = progress.done - self.done
        seconds = (now - self.at).total_seconds()
        if advanced <= 0 or not progress.total or seconds < 2:
            return None
        return seconds * max(0, progress.total - progress.done) / advanced
