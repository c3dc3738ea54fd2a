"""Replay every method on the tables and write what came of it to ``tests/benchmarks/SEARCH.md``.

python -m tests.search_bench [TABLE ...] [--seeds 10]
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.search_bench.measures import Summary, summary
from tests.search_bench.methods import METHODS, replayed
from tests.search_bench.page import SHARES, page
from tests.search_bench.real_page import real_section
from tests.search_bench.record import RECORDS, read
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
            name: (TableFile(name).load(), {}) for name in options.tables
        }
    except IncompleteTable as error:
        parser.error(str(error))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name, (table, summaries) in found.items():
            for method in METHODS:
                run = partial(replayed, name, method, share=max(SHARES))
                runs = list(pool.map(run, range(options.seeds)))
                summaries[method] = summary(table, runs, SHARES)
                print(f"{name}: {method}", file=sys.stderr, flush=True)
    real = real_section(*read()) if RECORDS.exists() else ""
    text = page(found, num_seeds=options.seeds, real=real)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
