"""Time two pieces of work in turn, so that a machine whose speed drifts slows both alike."""

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired_ratio(
    work: Callable[[], object], reference: Callable[[], object], *, runs: int = 5
) -> tuple[float, float, float]:
    """Return minimum, median and maximum of seconds(work) / seconds(reference), pair by pair."""
    work()
    reference()
    ratios = sorted(seconds(work) / seconds(reference) for _ in range(runs))
    return ratios[0], statistics.median(ratios), ratios[-1]


def show(name: str, ratio: tuple[float, float, float], meaning: str) -> None:
    """Print one line of RESULTS.md's table."""
    low, median, high = ratio
    print(f"| {name} | {median:.2f} | {low:.2f} to {high:.2f} | {meaning} |", flush=True)
