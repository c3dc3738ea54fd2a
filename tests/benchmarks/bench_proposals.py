"""A proposal by TPE after 500 finished trials, in a space of more than a million feasible architectures.

    python tests/benchmarks/bench_proposals.py

Targets: 50 ms a proposal, 300 MB for the process. Processor time stands beside wall time, since machines are shared.
What is not the space's is Optuna's: the study rebuilt from the trials, and asked.
"""

import resource
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from minitron.recipe import TrainingRecipe
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.proposer import propose
from nas.search import SearchSpec
from nas.space import SearchSpace, search_space
from nas.storage.store import TrialPoint
from nas.trial import Measurement, Point, Trial, TrialState

NUM_TRIALS = 500
RUNS = 15
POINTS = (0, 250_000, 500_000, 1_000_000)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = SearchSpec(
    parent="hub:org/llama-8b",
    parent_config={
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128_256,
        "tie_word_embeddings": False,
    },
    budget=Budget(min_parameters=3_900_000_000, max_parameters=4_500_000_000),
    axes=Axes(
        num_layers=Range(start=16, stop=32),
        hidden_size=Range(start=2048, stop=4096, step=32),
        intermediate_size=Range(start=4096, stop=14_336, step=4),
        num_attention_heads=(8, 16, 24, 32),
    ),
    training=TrainingRecipe(num_tokens=POINTS[-1]),
    num_trials=2 * NUM_TRIALS,
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    building = _milliseconds(lambda: search_space(SPEC))
    space = search_space(SPEC)
    trials = _trials(space)
    points = [
        TrialPoint(trial_number=trial.number, point=Point(num_tokens=num_tokens, loss=2.0, at=NOW))
        for trial in trials
        for num_tokens in POINTS
    ]
    tried = {trial.architecture for trial in trials}
    wish = {name: num // 3 for name, num in space.num_ordinals.items()}
    print(f"{space.num_combinations:,} combinations, {len(space):,} feasible, {NUM_TRIALS} finished trials")
    print("| what | ms, median | processor, ms | least wall |\n| --- | --- | --- | --- |")
    _show("the space, counted", building)
    _show("a proposal", _milliseconds(lambda: propose(SPEC, space, trials, points)))
    _show("of it: ordinals of the trials", _milliseconds(lambda: [space.ordinals(each) for each in tried]))
    _show("of it: the nearest that was not tried", _milliseconds(lambda: space.nearest(wish, tried)))
    _show("an even draw of what was not tried", _milliseconds(lambda: space.draw(Random(0), tried)))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the process: {megabytes:.0f} MB")


def _trials(space: SearchSpace) -> list[Trial]:
    """Return finished trials of even draws, whose losses follow their size with noise."""
    random = Random(0)
    drawn = [space.at(row) for row in random.sample(range(len(space)), NUM_TRIALS)]
    return [
        Trial(
            search_id="benchmark",
            number=number,
            architecture=shape,
            state=TrialState.COMPLETED,
            measurement=Measurement(
                num_tokens=POINTS[-1],
                loss=3 - shape.parameter_count / 1e10 + random.gauss(0, 0.01),
                loss_before_retraining=5.0,
                num_parameters=shape.parameter_count,
                train_seconds=1.0,
            ),
            created_at=NOW,
        )
        for number, shape in enumerate(drawn)
    ]


def _milliseconds(work: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Return wall and processor milliseconds of each of several calls, after one that is not counted."""
    work()
    walls, processors = [], []
    for _ in range(RUNS):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append((time.perf_counter() - wall) * 1e3)
        processors.append((time.process_time() - processor) * 1e3)
    return walls, processors


def _show(what: str, measured: tuple[list[float], list[float]]) -> None:
    walls, processors = measured
    print(
        f"| {what} | {statistics.median(walls):.1f} | {statistics.median(processors):.1f} | {min(walls):.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
