"""Try the papers' findings at small scale and write what came of it.

    python -m tests.fidelity [tiny | smollm2] [--seeds 3] [--findings 1 2 4] [--root DIR]

Results go to ``tests/fidelity/RESULTS.md``; exit code 1 where an asserted finding does not hold.
What was measured is kept below ``--root``, so that a run that was interrupted goes on.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from minitron.parents import parent_architecture
from tests.fidelity.findings import FINDINGS, Rows
from tests.fidelity.laboratory import Laboratory, Protocol
from tests.fidelity.protocols import PROTOCOLS
from tests.fidelity.report import joined, page, verdict

ON_SMOLLM2 = (1, 2, 4)
RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# The papers' findings at small scale\n"


def main() -> int:
    """Run the findings that were asked for, one process a core."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parent", nargs="?", choices=PROTOCOLS, default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--findings", type=int, nargs="*")
    parser.add_argument("--root", type=Path, default=Path(".nas/fidelity"))
    options = parser.parse_args()
    default = ON_SMOLLM2 if options.parent == "smollm2" else [finding.number for finding in FINDINGS]
    wanted = [finding for finding in FINDINGS if finding.number in (options.findings or default)]
    began = time.monotonic()
    options.root.mkdir(parents=True, exist_ok=True)
    protocol = PROTOCOLS[options.parent](options.root)
    found: dict[int, list[Rows]] = {finding.number: [] for finding in wanted}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        tasks = [
            (finding, seed, pool.submit(_measured, protocol, finding.number, seed, options.root))
            for seed in range(options.seeds)
            for finding in wanted
        ]
        for finding, seed, task in tasks:
            found[finding.number].append(task.result())
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:5.1f} min  seed {seed}: {finding.number}. {finding.claim}", file=sys.stderr)
    shape = parent_architecture(str(protocol.parent_dir))
    about = (
        f"Parent {shape.name}, {shape.parameter_count / 1e6:.1f} M parameters; students {protocol.width.name} (width) "
        f"and {protocol.depth.name} (depth) of {protocol.width.parameter_count / 1e6:.2f} and "
        f"{protocol.depth.parameter_count / 1e6:.2f} M; losses in held-out nats per token before retraining and after "
        f"{', '.join(f'{point:,}' for point in protocol.points[1:])} tokens; means, and in brackets the least and the "
        f"most of {options.seeds} seeds."
    )
    results = {finding: found[finding.number] for finding in wanted}
    text = page(options.parent, about, results)
    document = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else TITLE
    RESULTS.write_text(joined(document, options.parent, text), encoding="utf-8")
    print(text)
    failed = [finding.number for finding, rows in results.items() if verdict(finding, rows) == "FAILS"]
    if failed:
        print(f"do not hold: {failed}", file=sys.stderr)
    return bool(failed)


def _measured(protocol: Protocol, number: int, seed: int, root: Path) -> Rows:
    torch.set_num_threads(1)
    (finding,) = (finding for finding in FINDINGS if finding.number == number)
    return finding.measure(Laboratory(protocol, seed, root))
