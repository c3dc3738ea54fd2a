"""The copies of a table on which the default was chosen are worse in what they say they are, and in nothing else."""

import numpy as np
import pytest

from tests.search_bench.measures import summary
from tests.search_bench.table import TableFile
from tests.search_bench.worsened import COPIES, DEVIATIONS, METHODS, NAME, middling, noisy, row, shuffled


@pytest.fixture(scope="module")
def table():
    return TableFile(NAME).load()


def test_before_retraining_each_has_the_losses_of_another_and_later_its_own(table):
    before, worse = table.losses_NSP[..., 0], shuffled(table).losses_NSP[..., 0]
    assert sorted(map(tuple, worse)) == sorted(map(tuple, before)), "of one architecture stay together"
    assert (worse == before).all(axis=1).mean() < 0.05
    np.testing.assert_array_equal(shuffled(table).losses_NSP[..., 1:], table.losses_NSP[..., 1:])


def test_noise_grows_towards_the_beginning_and_spares_the_end(table):
    assert [tokens / table.num_tokens for tokens in table.points[:5]] == [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    noise_P = (noisy(table).losses_NSP - table.losses_NSP).std(axis=(0, 1))
    np.testing.assert_allclose(noise_P, (*DEVIATIONS, 0, 0), rtol=0.15)


def test_losses_grow_away_from_middling_sizes_at_all_token_counts_alike(table):
    added_NSP = middling(table).losses_NSP - table.losses_NSP
    np.testing.assert_allclose(added_NSP, added_NSP[:, :1, :1].repeat(2, 1).repeat(7, 2), atol=1e-12)
    added = {each.name: added_NSP[number, 0, 0] for number, each in enumerate(table.architectures)}
    assert added["L4-D128-F160-N8-K4"] == 0
    assert added["L5-D128-F144-N4-K4"] == pytest.approx(0.06 + 0.0006 * 16)


@pytest.mark.parametrize("worsen", COPIES.values(), ids=lambda each: each.__name__)
def test_a_copy_is_the_same_each_time_and_leaves_the_table_as_it_is(table, worsen):
    kept = table.losses_NSP.copy()
    np.testing.assert_array_equal(worsen(table).losses_NSP, worsen(table).losses_NSP)
    np.testing.assert_array_equal(table.losses_NSP, kept)


def test_each_method_finds_the_target_and_its_line_tells_what_that_took(table):
    most = int(0.05 * table.exhaustive_tokens)
    for name, method in METHODS.items():
        found = summary(table, [method(table, 0, most)], ())
        (share,), (loss,) = found.tokens, found.final_losses
        told = f"{share:.4f} ({share:.4f} to {share:.4f}) | {loss - table.final_N.min():.4f}, "
        assert row(name, [(table, found)]).startswith(f"| {name} | {told}")
        assert share < 0.05
