"""What the tables show, for people. Pure functions."""

import math
from collections.abc import Mapping

from minitron.architecture import Architecture
from nas.agreement import kendall_tau
from tests.search_bench.measures import Summary, target
from tests.search_bench.table import Table

SHARES = (1 / 40, 1 / 20, 1 / 10, 1 / 6, 1 / 2)
"""Of the tokens of exhaustive search, at which regret is told; every method ends at the last."""

HEAD = """# How many training tokens a search needs

Every architecture of a space was retrained, as a worker does, to each of the token counts below, with two
seeds; `python -m tests.search_bench.build` makes such a table. On it, searches are replayed by the project's own driver, store
and proposals, which are given the losses of the table in place of training; a search sees those of one seed and
is judged by the mean of both. Tokens are all that were trained, those of stopped trials included. Nothing is reused
between searches. `make search-bench` writes this page.

The target is the best loss of the table, to within 0.5 % or one standard deviation between seeds, whichever is
larger. Exhaustive search is the whole table, once. *Nearest budget, zero-shot* re-implements the documented rule of
NVIDIA's tool: of the ten candidates nearest below the budget, the one with the best loss before retraining; with more
tokens the next of these, then of the next ten.
"""


def page(found: Mapping[str, tuple[Table, Mapping[str, Summary]]], *, num_seeds: int) -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_section(name, *of, num_seeds) for name, of in found.items())])


def _section(name: str, table: Table, methods: Mapping[str, Summary], num_seeds: int) -> str:
    goal = target(table)
    num_good = int((table.final_N <= goal).sum())
    losses = table.losses_NSP.mean(axis=1)
    taus = [kendall_tau(losses[:, column], losses[:, -1]) for column in range(len(table.points) - 1)]
    agreement = ", ".join(
        f"{tau:.2f} at {tokens:,}" for tokens, tau in zip(table.points, taus, strict=False) if tau is not None
    )
    budget = table.spec.budget
    lines = [
        f"## {name}",
        "",
        (
            f"{len(table.architectures)} students of {table.parent.name} ({_millions(table.parent)} M parameters, "
            f"{table.parent.family}), of {budget.min_parameters:,} to {budget.max_parameters:,} parameters; "
            f"{table.num_tokens:,} tokens each, {table.exhaustive_tokens / 1e6:.1f} M in all. Losses end between "
            f"{table.final_N.min():.4f} and {table.final_N.max():.4f} nats per held-out token (parent "
            f"{table.parent_loss:.4f}); two seeds differ by {table.seed_deviation:.4f} (standard deviation). "
            f"{num_good} come to the target of {goal:.4f}. Kendall's tau of the ranking with the final one: {agreement}."
        ),
        "",
        (
            f"Shares of exhaustive search's tokens to the target, of {num_seeds} seeds; regret in nats after a share of "
            "those tokens, medians."
        ),
        "",
        "| method | median | least | most | "
        + " | ".join(f"regret at {share:.3f}" for share in SHARES)
        + " |",
        "|---|---|---|---|" + "---|" * len(SHARES),
        *(_row(method, of) for method, of in methods.items()),
        "",
    ]
    return "\n".join(lines)


def _row(method: str, of: Summary) -> str:
    tokens = (of.median, of.tokens[0], of.tokens[-1])
    regrets = (f"{regret:.4f}" for regret in of.regrets)
    return f"| {method} | " + " | ".join([*map(_share, tokens), *regrets]) + " |"


def _share(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.4f}"


def _millions(architecture: Architecture) -> str:
    return f"{architecture.parameter_count / 1e6:.2f}"
