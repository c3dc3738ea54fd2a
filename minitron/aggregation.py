"""Reduce activations to one number for each channel: over the tokens of a block, then over the blocks.

The nine pairs of the Minitron papers (2407.14679, section 2.2). Results do not depend on how blocks are batched.
Knows no model.
"""

import torch
from torch import Tensor

from minitron.recipe import Aggregation

# B blocks of a batch, T tokens of a block, C channels of any kind


def over_sequence(activation_BTC: Tensor, how: Aggregation, valid_BT: Tensor | None = None) -> Tensor:
    """Aggregate over the tokens of each block, in float32.

    Args:
        activation_BTC: In any floating-point type.
        how: ``mean`` of the absolute value, ``l2`` norm, or ``variance``, which divides by the tokens.
        valid_BT: True for tokens, False for padding, which then counts nowhere; None where all are tokens.

    Returns:
        One row for each block that holds a token, so at most B.
    """
    activation_BTC = activation_BTC.float()
    count: int | Tensor = activation_BTC.shape[1]
    mask_BT1: int | Tensor = 1
    if valid_BT is not None:
        is_used_B = valid_BT.any(dim=1)
        mask_BT1 = valid_BT[is_used_B].unsqueeze(-1)
        activation_BTC = activation_BTC[is_used_B].masked_fill(~mask_BT1, 0.0)
        count = mask_BT1.sum(dim=1)
    match how:
        case "mean":
            return activation_BTC.abs().sum(dim=1) / count
        case "l2":
            norm_BC: Tensor = torch.linalg.vector_norm(activation_BTC, dim=1)
            return norm_BC
        case "variance":
            mean_B1C = (activation_BTC.sum(dim=1) / count).unsqueeze(1)
            return ((activation_BTC - mean_B1C).square() * mask_BT1).sum(dim=1) / count


class OverBatches:
    """Aggregate per-block values over all blocks as they come, in float64.

    Count, mean and squared deviations are merged batch by batch (Chan, Golub and LeVeque, 1979), and give
    each aggregation in the end.
    """

    def __init__(self, num_channels: int, device: torch.device) -> None:
        self._count = 0
        self._mean_C = torch.zeros(num_channels, dtype=torch.float64, device=device)
        self._deviation_C = torch.zeros_like(self._mean_C)

    def add(self, values_BC: Tensor) -> None:
        """Take in a batch of values, none of which is negative; it may be empty."""
        count = len(values_BC)
        if count == 0:
            return
        values_BC = values_BC.double()
        mean_C = values_BC.mean(dim=0)
        shift_C, total = mean_C - self._mean_C, self._count + count
        self._deviation_C += (values_BC - mean_C).square().sum(dim=0)
        self._deviation_C += shift_C.square() * (self._count * count / total)
        self._mean_C += shift_C * (count / total)
        self._count = total

    def value(self, how: Aggregation) -> Tensor:
        """Return the mean, the L2 norm or the variance over all blocks so far; zero where there are none."""
        match how:
            case "mean":
                return self._mean_C
            case "l2":
                return (self._deviation_C + self._count * self._mean_C.square()).sqrt()
            case "variance":
                return self._deviation_C / max(1, self._count)
