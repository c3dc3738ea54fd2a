"""Replay the default and what else was considered on copies of a table that were made worse for it, and print what came of it.

python -m tests.search_bench.worsened
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nas.search import Rungs
from tests.search_bench.measures import Summary, summary
from tests.search_bench.methods import DEFAULT, Method, searched
from tests.search_bench.table import Table, TableFile

NAME = "llama"
"""The table that the default was settled on."""
NUM_SEEDS = 6
SHARE = 1 / 6
"""Of the tokens of exhaustive search, after which a replay ends: as many as the default is asked to take at most."""
DEVIATIONS = (1.0, 0.15, 0.1, 0.05, 0.02)
"""Of the noise, in nats, at 0 tokens and after 1/16, 1/8, 1/4 and 1/2 of a training; later losses are as measured."""


def shuffled(table: Table) -> Table:
    """Return a table in which losses before retraining are those of other architectures."""
    losses = table.losses_NSP.copy()
    losses[..., 0] = np.random.default_rng(0).permutation(losses[..., 0])
    return replace(table, losses_NSP=losses)


def noisy(table: Table) -> Table:
    """Return a table in which losses tell the less the earlier they are."""
    losses = table.losses_NSP.copy()
    early = losses[..., : len(DEVIATIONS)]
    early += np.random.default_rng(0).normal(scale=DEVIATIONS, size=early.shape)
    return replace(table, losses_NSP=losses)


def middling(table: Table) -> Table:
    """Return a table in which losses grow with the distance from middling depths and MLPs, at all token counts."""
    penalties_N = np.array(
        [
            0.06 * abs(each.num_layers - 4) + 0.0006 * abs(each.intermediate_size - 160)
            for each in table.architectures
        ]
    )
    return replace(table, losses_NSP=table.losses_NSP + penalties_N[:, None, None])


COPIES: dict[str, Callable[[Table], Table]] = {
    "losses before retraining shuffled": shuffled,
    "noise on early losses": noisy,
    "losses grow away from middling sizes": middling,
}
METHODS: dict[str, Method] = {
    DEFAULT: searched(),
    "a fixed quarter advances": searched(rungs=Rungs(adaptive=False)),
    "a fixed half advances": searched(rungs=Rungs(keep=1 / 2, adaptive=False)),
    "`keep` 1/2": searched(rungs=Rungs(keep=1 / 2)),
    "rungs at 0 and 1/4": searched(rungs=Rungs(fractions=(0.0, 1 / 4))),
    "rungs at 1/16 and 1/4": searched(rungs=Rungs(fractions=(1 / 16, 1 / 4))),
}


def row(method: str, copies: list[tuple[Table, Summary]]) -> str:
    """Return a method's line: of each copy the tokens to the target, and how far from the best it ended."""
    cells = []
    for table, of in copies:
        median, least, most = (
            "never" if np.isinf(share) else f"{share:.4f}"
            for share in (of.median, of.tokens[0], of.tokens[-1])
        )
        above = np.array(of.final_losses) - table.final_N.min()
        cells += [f"{median} ({least} to {most})", f"{np.median(above):.4f}, {above.max():.4f}"]
    return f"| {method} | {' | '.join(cells)} |"


def main() -> None:
    """Replay all, one after the other."""
    whole = TableFile(NAME).load()
    tables = [worsen(whole) for worsen in COPIES.values()]
    heads = " | ".join(
        f"{name}: share, median (least to most) | above the best, median, most" for name in COPIES
    )
    print(f"| method | {heads} |\n|" + "---|" * (1 + 2 * len(COPIES)))
    for name, method in METHODS.items():
        found = []
        for table in tables:
            most = int(SHARE * table.exhaustive_tokens)
            runs = [method(table, seed, most) for seed in range(NUM_SEEDS)]
            found.append((table, summary(table, runs, ())))
        print(row(name, found), flush=True)
    print(f"{NUM_SEEDS} seeds, up to {SHARE:.4f} of exhaustive search's tokens", file=sys.stderr)


if __name__ == "__main__":
    main()
