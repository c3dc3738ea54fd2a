"""How far a student's latency, summed of blocks that a table has or has neighbours of, is from the whole student's.

    python tests/benchmarks/bench_latency.py

The table is timed as a search times it; then students drawn evenly from the space, which has more sizes than the table,
are built whole and timed in three rounds, the median counted. One thread. A busy machine makes the figures worthless.
"""

import statistics
from dataclasses import replace
from random import Random

import numpy as np
import torch
from scipy.stats import kendalltau

from minitron.latency import time_student
from minitron.parents import parent_architecture, read_config
from minitron.progress import silent
from nas.axes import Axes, Range
from nas.budget import Budget, LatencyBudget
from nas.latency_anchors import anchors_of
from nas.latency_costs import latency_of
from nas.latency_file import Timings
from nas.latency_table import LatencyTable
from nas.search import Resources, SearchSpec
from nas.space import SearchSpace
from workers.device import use_threads
from workers.latencies import VISITS, this_machine, timed

NUM_STUDENTS = 8
SPACES = {
    "builtin:tiny": Axes(
        num_layers=(3, 4, 5, 6), hidden_size=Range(start=64, stop=128, step=8),
        intermediate_size=Range(start=96, stop=256, step=16), num_attention_heads=(4, 8),
    ),
    "builtin:smollm2-135m": Axes(
        num_layers=Range(start=15, stop=30), hidden_size=Range(start=288, stop=576, step=36),
        intermediate_size=Range(start=512, stop=1536, step=64), num_attention_heads=(6, 9),
    ),
}  # fmt: skip
SETTINGS = (("decode", "float32"), ("decode", "bfloat16"), ("prefill", "float32"))
CONTEXT = 256


def main() -> None:
    """Measure and print rows of RESULTS.md's table."""
    print(
        "| parent | what | blocks timed | sum / whole, median | range | rank agreement | lowered to a larger MLP's |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for parent in SPACES:
        for phase, dtype in SETTINGS:
            _compare(parent, LatencyBudget(max_ms=1e6, phase=phase, dtype=dtype, context=CONTEXT))


def _compare(parent: str, asked: LatencyBudget) -> None:
    spec = SearchSpec(
        parent=parent, axes=SPACES[parent], budget=Budget(latency=asked), resources=Resources(threads=1)
    )
    use_threads(spec)
    config, shape, anchors = read_config(parent), parent_architecture(parent), anchors_of(spec)
    timings = Timings(setting=asked.setting, machine=this_machine(spec), is_accelerator=False, parent=shape)
    found = timed(spec, timings, anchors, config=config, report=silent)
    table = replace(timings, nanoseconds=found).table(anchors)
    space, random = SearchSpace(shape, spec.axes, spec.budget), Random(0)
    students = [space.draw(random) for _ in range(NUM_STUDENTS)]
    setting = {"phase": asked.phase, "context": asked.context, "batch": asked.batch, "dtype": asked.dtype}
    rounds = [
        [
            time_student(
                config, each, device=torch.device("cpu"), num_blocks=each.num_layers, **setting
            ).whole
            for each in students
        ]
        for _ in range(VISITS)
    ]
    whole = [statistics.median(times) for times in zip(*rounds, strict=True)]
    summed = [latency_of(table, each) for each in students]
    ratios = sorted(a / b for a, b in zip(summed, whole, strict=True))
    print(
        f"| {parent} | {asked.phase}, {asked.dtype} | {len(found)} | {statistics.median(ratios):.2f} "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {kendalltau(summed, whole).statistic:.2f} | {_lowered(table)} |",
        flush=True,
    )


def _lowered(table: LatencyTable) -> str:
    """Return how many blocks were timed slower than one with a larger MLP, and by how much at most."""
    times = np.array([row.nanoseconds for row in table.rows])
    shares = 1 - np.minimum.accumulate(times[:, ::-1], axis=1)[:, ::-1] / times
    return f"{(shares > 0).sum()} blocks, by at most {shares.max():.0%}"


if __name__ == "__main__":
    main()
