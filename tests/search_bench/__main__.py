"""Replay every method on the tables and write what came of it to ``tests/benchmarks/SEARCH.md``.

python -m tests.search_bench [TABLE ...] [--seeds 10]
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

from tests.search_bench.measures import Summary, summary
from tests.search_bench.methods import METHODS
from tests.search_bench.page import SHARES, page
from tests.search_bench.replay import Step
from tests.search_bench.table import DIRECTORY, IncompleteTable, Table, TableFile

PAGE = Path(__file__).parents[1] / "benchmarks" / "SEARCH.md"


def main() -> None:
    """Run all methods with all seeds, one process a core."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = sorted(path.stem for path in DIRECTORY.glob("*.jsonl"))
    parser.add_argument("tables", nargs="*", default=names)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    try:
        found: dict[str, tuple[Table, dict[str, Summary]]] = {
            name: (_table(name), {}) for name in options.tables
        }
    except IncompleteTable as error:
        parser.error(str(error))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name, (table, summaries) in found.items():
            for method in METHODS:
                runs = list(pool.map(partial(_replayed, name, method), range(options.seeds)))
                summaries[method] = summary(table, runs, SHARES)
                print(f"{name}: {method}", file=sys.stderr, flush=True)
    text = page(found, num_seeds=options.seeds)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


@lru_cache
def _table(name: str) -> Table:
    return TableFile(name).load()


def _replayed(name: str, method: str, seed: int) -> list[Step]:
    table = _table(name)
    return METHODS[method](table, seed, int(max(SHARES) * table.exhaustive_tokens))


if __name__ == "__main__":
    main()
