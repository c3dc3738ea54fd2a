"""Make a table: retrain every architecture of its space, as a worker does, with each seed.

    python -m tests.search_bench.build {llama,nemotron} [--seeds 2] [--root DIR]

What stands in the table already is not measured again.
"""

import argparse
import os
import random
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from minitron.architecture import Architecture
from minitron.console import console_progress
from nas.layout import search_directory
from nas.rungs import schedule
from nas.search import SearchSpec
from nas.space import search_space
from nas.trial import Trial
from tests.search_bench.parents import located
from tests.search_bench.specs import SPECS
from tests.search_bench.table import Row, TableFile, sizes_of
from workers.artifacts import prepare
from workers.report import Prepared
from workers.trial import TrialEvaluator


def main() -> None:
    """Retrain what is not in the table yet, one process a core."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SPECS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--root", type=Path, default=Path(".nas/search-bench"))
    options = parser.parse_args()
    root = options.root.absolute()
    spec = SPECS[options.name]()
    with console_progress() as report:
        here = located(spec, root, report)
        prepared = prepare(here, root, report)
    table = TableFile(options.name)
    table.begin(spec, prepared.parent_loss)
    there = {(row.sizes, row.seed) for row in table.rows()}
    tasks = [
        (architecture, seed)
        for architecture in search_space(spec).architectures
        for seed in range(options.seeds)
        if (sizes_of(architecture), seed) not in there
    ]
    random.Random(0).shuffle(tasks)
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(_measured, here, prepared, architecture, seed, root) for architecture, seed in tasks
        ]
        for done, future in enumerate(as_completed(futures), 1):
            table.add(future.result())
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:6.1f} min  {done} of {len(futures)}", file=sys.stderr, flush=True)


@lru_cache(maxsize=4)
def _evaluator(spec: SearchSpec, prepared: Prepared, root: Path) -> TrialEvaluator:
    return TrialEvaluator(spec, prepared, root)


def _measured(spec: SearchSpec, prepared: Prepared, architecture: Architecture, seed: int, root: Path) -> Row:
    seeded = replace(spec, training=replace(spec.training, seed=seed))
    search_id = f"{spec.name}-{architecture.name}-{seed}"
    trial = Trial(search_id=search_id, number=0, architecture=architecture, created_at=datetime.now(UTC))
    directory = search_directory(root, search_id)
    shutil.rmtree(directory, ignore_errors=True)
    points = [report.point for report in _evaluator(seeded, prepared, root)(trial) if report.point]
    shutil.rmtree(directory)
    assert tuple(point.num_tokens for point in points) == schedule(spec).points
    return Row(sizes=sizes_of(architecture), seed=seed, losses=tuple(point.loss for point in points))


if __name__ == "__main__":
    main()
