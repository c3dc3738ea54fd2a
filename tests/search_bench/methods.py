"""The ways of searching that are compared, each at its training tokens."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from nas.axes import Axes
from nas.budget import Budget
from nas.search import Rungs, SearchSpec
from tests.search_bench.replay import Step, replay
from tests.search_bench.table import Table, TableFile

NUM_NEAREST = 10
"""Candidates that NVIDIA's tool scores."""

DEFAULTS = SearchSpec(
    parent="builtin:tiny", budget=Budget(max_parameters=600_000), axes=Axes(num_layers=(6,))
)
"""For what a spec says that says nothing."""

Method = Callable[[Table, int, int], list[Step]]
"""From a table, a seed and the most tokens to each new best."""


def searched(**changes: object) -> Method:
    """Return a search by the project's own code, with these fields of its spec."""

    def run(table: Table, seed: int, max_tokens: int) -> list[Step]:
        spec = replace(
            table.spec,
            **{  # type: ignore[arg-type]
                **{name: getattr(DEFAULTS, name) for name in ("rungs", "sampler", "prior")},
                "num_trials": len(table.architectures),
                "seed": seed,
                **changes,
            },
        )
        return replay(table, spec, max_tokens=max_tokens)

    return run


def nearest_budget(table: Table, seed: int, max_tokens: int) -> list[Step]:
    """Train what NVIDIA's tool would choose: re-implemented from its documented rule.

    Of the ten candidates nearest below the budget the one with the best loss before retraining. The rule ends there;
    for the tokens that are left, the next of these ten are trained, and then of the next ten.
    """
    column = seed % table.losses_NSP.shape[1]
    counts_N = np.array([table.spec.budget.count(each) for each in table.architectures])
    nearest_N = np.argsort(-counts_N, kind="stable")
    groups = [nearest_N[start : start + NUM_NEAREST] for start in range(0, len(nearest_N), NUM_NEAREST)]
    order = np.concatenate([rows[np.argsort(table.losses_NSP[rows, column, 0])] for rows in groups])
    steps: list[Step] = []
    best = float("inf")
    for number, row in enumerate(order[: max_tokens // table.num_tokens], 1):
        loss = table.losses_NSP[row, column, -1]
        if loss < best:
            best = loss
            steps.append(Step(num_tokens=number * table.num_tokens, row=int(row)))
    return steps


NO_RUNGS = Rungs(fractions=())
RANDOM = "random"
RULE = "nearest budget, zero-shot"
RULE_IN_ORDER = "nearest budget, all in its order"
DEFAULT = "default"
METHODS: dict[str, Method] = {
    RANDOM: searched(sampler="random", rungs=NO_RUNGS),
    RULE: lambda table, seed, _: nearest_budget(table, seed, table.num_tokens),
    RULE_IN_ORDER: nearest_budget,
    "TPE at full tokens": searched(sampler="tpe", prior="none", rungs=NO_RUNGS),
    "successive halving of random proposals": searched(
        sampler="random", rungs=Rungs(fractions=(1 / 16, 1 / 4), keep=1 / 4, adaptive=False)
    ),
    DEFAULT: searched(),
}


def replayed(name: str, method: str, seed: int, *, share: float) -> list[Step]:
    """Return each new best of a method on the table of that name, until that share of exhaustive search's tokens."""
    table = _table(name)
    return METHODS[method](table, seed, int(share * table.exhaustive_tokens))


@lru_cache
def _table(name: str) -> Table:
    return TableFile(name).load()
