"""The nine aggregations: as the formulas say, whatever the batches, whatever the padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minitron.aggregation import OverBatches, over_sequence
from tests.formulas import HOW, PAIRS, along

CPU = torch.device("cpu")


def aggregated(values_NTC, sequence, batch, batch_size=4, valid_NT=None):
    seen = OverBatches(values_NTC.shape[-1], CPU)
    for start in range(0, len(values_NTC), batch_size):
        taken = slice(start, start + batch_size)
        valid_BT = None if valid_NT is None else torch.from_numpy(valid_NT[taken])
        seen.add(over_sequence(torch.from_numpy(values_NTC[taken]), sequence, valid_BT))
    return seen.value(batch).numpy()


activations = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


@pytest.mark.parametrize(("sequence", "batch"), PAIRS)
@given(values=activations, batch_size=st.integers(1, 9))
@settings(max_examples=30)
def test_each_pair_is_its_formula_whatever_the_batches(sequence, batch, values, batch_size):
    per_block = along(values.astype(np.float64), sequence, axis=1)
    expected = along(per_block, batch, axis=0)
    found = aggregated(values, sequence, batch, batch_size)
    scale = np.abs(per_block).max() ** (2 if batch == "variance" else 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(scale, 1e-3))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_streaming_variance_does_not_cancel(offset):
    """Of values far from zero, the mean of squares less the square of the mean would be noise."""
    values = offset + np.random.default_rng(0).random((257, 3))
    seen = OverBatches(3, CPU)
    for row in values:
        seen.add(torch.from_numpy(row[None]))
    np.testing.assert_allclose(seen.value("variance").numpy(), values.var(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("sequence", "batch"), PAIRS)
@given(values=activations, padding=st.integers(1, 5), data=st.data())
@settings(max_examples=20)
def test_padding_counts_nowhere(sequence, batch, values, padding, data):
    lengths = [data.draw(st.integers(0, values.shape[1])) for _ in values]
    padded = np.pad(values, ((0, 0), (0, padding), (0, 0)), constant_values=77.0)
    valid = np.arange(padded.shape[1]) < np.array(lengths)[:, None]
    found = aggregated(padded, sequence, batch, valid_NT=valid)
    blocks = [block[:length] for block, length in zip(values, lengths, strict=True) if length]
    if not blocks:
        assert not found.any()
        return
    per_block = np.stack([along(block.astype(np.float64), sequence, axis=0) for block in blocks])
    scale = np.abs(per_block).max() ** (2 if batch == "variance" else 1)
    np.testing.assert_allclose(
        found, along(per_block, batch, axis=0), rtol=1e-5, atol=1e-5 * max(scale, 1e-3)
    )


@pytest.mark.parametrize("how", HOW)
def test_bfloat16_activations_are_reduced_in_float32(how):
    values = torch.randn(3, 512, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = over_sequence(values, how)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), along(values.double().numpy(), how, axis=1), rtol=1e-5)


@pytest.mark.parametrize("how", HOW)
def test_nothing_seen_is_zero(how):
    assert OverBatches(3, CPU).value(how).tolist() == [0.0] * 3
