"""What the tables show, for people. Pure functions."""

import math
from collections.abc import Mapping

import numpy as np

from minitron.architecture import Architecture
from nas.agreement import kendall_tau
from tests.search_bench.measures import Summary, target
from tests.search_bench.methods import DEFAULT, RANDOM, RULE
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
NVIDIA's tool: of the ten candidates nearest below the budget, the one with the best loss before retraining. The rule ends
there; *all in its order* is what one may make of it with more tokens: the next of these, then of the next ten.

The default was settled on `llama` and frozen before `nemotron` was made.
"""

TAIL = """## What was tried and did not help

On `llama`, medians over ten seeds of the share of exhaustive search's tokens to the target, where the default takes 0.0100:

| changed | share |
|---|---|
| without `prior: budget`, all first trials drawn | 0.0208 |
| a fixed quarter advances | 0.0213 |
| a fixed half advances | 0.0097 |
| `keep` 0.15, 1/3, 1/2 | 0.0145, 0.0097, 0.0081 |
| rungs at 0 and 1/4; at 1/16 and 1/4; at 0, 1/8 and 1/2 | 0.0075, 0.0081, 0.0144 |

Some of these are quicker there. The default was chosen by three copies of the table that were made worse, when 345 of its
400 rows were there. `python -m tests.search_bench.worsened` makes such copies of the whole table, one draw of each, and replays
six seeds on each up to a sixth of exhaustive search's tokens. The copies: losses before retraining shuffled among architectures;
noise of 1.0, 0.15, 0.1, 0.05 and 0.02 nats (standard deviations) at 0, 1/16, 1/8, 1/4 and 1/2 of the tokens, none on later losses;
losses that grow away from middling depths and MLPs. Medians of the share of exhaustive search's tokens to the target:

| | shuffled | noise | middling |
|---|---|---|---|
| default | 0.0091 | 0.0094 | 0.0100 |
| a fixed quarter advances | 0.0213 | 0.0225 | 0.0213 |
| a fixed half advances | 0.0098 | 0.0098 | 0.0100 |
| `keep` 1/2 | 0.0080 | 0.0081 | 0.0139 |
| rungs at 0 and 1/4 | 0.0106 | 0.0081 | 0.0150 |
| rungs at 1/16 and 1/4 | 0.0081 | 0.0098 | 0.0158 |

All find the best of each copy with each seed, but for two on the second: a fixed quarter ends 0.0153 nats above it in the
median, 0.0528 at worst and never comes to the target there, a fixed half 0.0024 and 0.0049. The default is not the quickest of
each: `keep` of a half is quicker on two copies, rungs at 0 and 1/4 and at 1/16 and 1/4 on one each, and each of them takes 1.4 to 1.6
times its tokens on the third, where none is quicker. A fixed half is as quick, and misses the best. A thousandth of exhaustive search is a fifth of one training
here, so that of six seeds only the larger differences tell anything. The third copy worsens little, since the best of the table
is of middling sizes itself. On the copies of the 345 rows, whose draws were not kept, a fixed quarter missed the best of the first too.
The prior `importance_kept` ranks worse than the count of parameters (ARCHITECTURE.md, 69).

What these tables do not show: students that are as large as allowed are nearly always the best here, which the rule of the
nearest takes for granted and the default has to find out. Where it is so, training in that order is as quick as any
search. On SmolLM2 the rule's first choice is the best of all that either method trained, with both seeds. The default comes to the
same student and is no better there: it has it after 57,344 tokens, where the rule takes 32,768, and keeps it to the end, so that at
equal tokens, also at the 327,680 of the rule's ten, both hand over the same. What it spends after that, eight to twelve trainings,
buys the knowledge that nothing else it tried is better, and two more students within 0.012 nats, where the rule's next best is
0.05 behind.
"""


def page(found: Mapping[str, tuple[Table, Mapping[str, Summary]]], *, num_seeds: int, real: str = "") -> str:
    """Return the whole page; ``real`` is the section of searches that trained a real model."""
    sections = [_section(name, *of, num_seeds) for name, of in found.items()]
    return "\n".join([HEAD, *sections, *([real] if real else []), TAIL])


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
            f"those tokens, medians; loss of the best that each had found in the end, after {SHARES[-1]:g} of them."
        ),
        "",
        "| method | median | least | most | "
        + " | ".join(f"regret at {share:.3f}" for share in SHARES)
        + " | final loss | worst |",
        "|---|---|---|---|" + "---|" * (len(SHARES) + 2),
        *(_row(method, of) for method, of in methods.items()),
        "",
        _verdict(methods, table),
        "",
    ]
    return "\n".join(lines)


def _row(method: str, of: Summary) -> str:
    tokens = (of.median, of.tokens[0], of.tokens[-1])
    regrets = (f"{regret:.4f}" for regret in of.regrets)
    losses = (f"{loss:.4f}" for loss in (np.median(of.final_losses), max(of.final_losses)))
    return f"| {method} | " + " | ".join([*map(_share, tokens), *regrets, *losses]) + " |"


def _verdict(methods: Mapping[str, Summary], table: Table) -> str:
    """Return how the default does against what was asked of it."""
    default, chance, rule = (methods[name] for name in (DEFAULT, RANDOM, RULE))
    worse = max(a - b for a, b in zip(default.final_losses, rule.final_losses, strict=True))
    better = float(np.median(rule.final_losses)) - float(np.median(default.final_losses))
    return (
        f"The default takes {default.median:.4f} of exhaustive search's tokens (asked: at most {1 / 6:.4f}) and "
        f"{default.median / chance.median:.2f} of random search's (asked: at most 0.5). Against the rule of the nearest "
        f"its final loss is {better:.4f} nats lower in the median, and at its worst {worse:+.4f} (seeds: "
        f"{table.seed_deviation:.4f})."
    )


def _share(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.4f}"


def _millions(architecture: Architecture) -> str:
    return f"{architecture.parameter_count / 1e6:.2f}"
