"""Block influence: how far a layer turns the residual stream, whatever its length."""

import math

import pytest
import torch

from minitron.depth import influence

STREAM = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize(("degrees", "expected"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_influence_is_one_minus_the_cosine_summed_over_tokens(degrees, expected, scale):
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    assert float(influence(scale * STREAM, 3 * scale * STREAM @ turn)) == pytest.approx(
        2 * expected, abs=1e-6
    )


def test_a_zero_vector_is_at_a_right_angle_to_all():
    assert float(influence(STREAM, torch.zeros_like(STREAM))) == 2.0


def test_bfloat16_streams_are_compared_in_float32():
    stream = torch.randn(2, 3, 64).bfloat16()
    assert float(influence(stream, stream)) == pytest.approx(0.0, abs=1e-5)
