"""The tabular benchmark counts what it says and replays what the driver decides, on tables of simulated losses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from nas.rungs import schedule
from nas.search import Rungs
from nas.space import search_space
from tests.fakes import simulated_loss
from tests.search_bench.measures import regret, summary, target, tokens_to
from tests.search_bench.methods import METHODS, nearest_budget, searched
from tests.search_bench.page import SHARES, page
from tests.search_bench.specs import SPECS, llama
from tests.search_bench.table import IncompleteTable, Row, Table, TableFile, sizes_of

WHOLE = 10**12
"""Tokens that no search of a table needs."""


@pytest.fixture(scope="module")
def table() -> Table:
    spec = llama()
    space = search_space(replace(spec, budget=replace(spec.budget, min_parameters=560_000)))
    points = schedule(spec).points
    noise = np.random.default_rng(0).normal(0, 0.001, (len(space), 2, len(points)))
    losses = [[simulated_loss(each, tokens // 800) for tokens in points] for each in space.architectures]
    return Table(
        spec=replace(spec, budget=space.budget),
        parent=space.parent,
        parent_loss=1.0,
        losses_NSP=np.array(losses)[:, None, :] + noise,
    )


def test_the_table_is_read_as_it_was_written_row_by_row(table, tmp_path):
    file = TableFile("some", tmp_path)
    file.begin(table.spec, table.parent_loss)
    rows = [
        Row(sizes=sizes_of(each), seed=seed, losses=tuple(losses_P))
        for each, losses_SP in zip(table.architectures, table.losses_NSP, strict=True)
        for seed, losses_P in enumerate(losses_SP)
    ]
    for row in reversed(rows[1:]):
        file.add(row)
    with pytest.raises(IncompleteTable, match=f"found {len(rows) - 1} rows of {len(rows)}"):
        file.load()
    file.begin(table.spec, table.parent_loss)
    file.add(rows[0])
    found = file.load()
    assert found.spec == table.spec
    np.testing.assert_allclose(found.losses_NSP, table.losses_NSP, atol=1e-5)


def test_random_search_to_the_end_costs_the_whole_table_and_finds_its_best(table):
    steps = searched(sampler="random", rungs=Rungs(fractions=()))(table, 0, WHOLE)
    assert steps[-1].row == table.losses_NSP[:, 0, -1].argmin()
    assert steps[-1].num_tokens <= table.exhaustive_tokens
    losses = [table.losses_NSP[step.row, 0, -1] for step in steps]
    assert losses == sorted(losses, reverse=True)


def test_tokens_of_stopped_trials_count(table):
    """All are trained to the first rung; of n a quarter, rounded down, goes on from there, and no token is trained twice."""
    rungs = Rungs(fractions=(1 / 16,), keep=1 / 4, adaptive=False)
    (*_, last) = searched(sampler="random", rungs=rungs)(table, 0, WHOLE)
    count, first = len(table.architectures), table.num_tokens // 16
    assert last.num_tokens <= count * first + count // 4 * (table.num_tokens - first)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_repeatable_and_keeps_to_its_tokens(table, method):
    most = table.exhaustive_tokens // 6
    steps = METHODS[method](table, 3, most)
    assert steps == METHODS[method](table, 3, most)
    assert all(a.num_tokens < b.num_tokens for a, b in itertools.pairwise(steps))
    assert steps[-1].num_tokens < most + table.num_tokens


def test_nearest_budget_trains_the_best_untrained_of_the_ten_largest_first(table):
    (step,) = nearest_budget(table, 0, table.num_tokens)
    counts = [each.parameter_count for each in table.architectures]
    ten = sorted(range(len(counts)), key=lambda row: (-counts[row], row))[:10]
    assert step.row == min(ten, key=lambda row: table.losses_NSP[row, 0, 0])
    assert step.num_tokens == table.num_tokens


def test_measures_and_page(table):
    steps = searched(sampler="random", rungs=Rungs(fractions=()))(table, 0, WHOLE)
    goal = target(table)
    at = tokens_to(table, steps, goal)
    assert regret(table, steps, at) <= goal - table.final_N.min()
    assert regret(table, steps, at - 1) > goal - table.final_N.min()
    assert tokens_to(table, steps, 0.0) == float("inf")
    found = summary(table, [steps, steps], SHARES)
    assert found.median == at / table.exhaustive_tokens
    text = page({"some": (table, dict.fromkeys(METHODS, found))}, num_seeds=2)
    assert f"{len(table.architectures)} students" in text
    assert f"| random | {found.median:.4f} |" in text


@pytest.mark.parametrize("name", SPECS)
def test_tables_are_whole_and_of_their_specs(name):
    table = TableFile(name).load()
    assert table.spec == SPECS[name]()
    assert table.losses_NSP.shape == (len(table.architectures), 2, len(table.points))
    assert len(table.architectures) >= 200
    assert "/" not in str(table.spec.data.source)
