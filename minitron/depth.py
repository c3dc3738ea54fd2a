"""Which layers matter: block influence, after ShortGPT and the Minitron paper.

BI of a layer is ``1 - E[cos(input, output)]`` over all tokens: a layer that hardly turns the residual
stream can go. All layers are measured in the one calibration pass; see ``minitron.importance``.
"""

import torch
from torch import Tensor

# B blocks, T tokens of a block, D hidden channels

_TINY = 1e-12
"""Keeps the cosine of a zero vector at 0."""


def influence(input_BTD: Tensor, output_BTD: Tensor) -> Tensor:
    """Return the sum over all tokens of ``1 - cos(input, output)``, a float64 scalar."""
    input_BTD, output_BTD = input_BTD.float(), output_BTD.float()
    norms_BT = torch.linalg.vector_norm(input_BTD, dim=-1) * torch.linalg.vector_norm(output_BTD, dim=-1)
    cosine_BT: Tensor = (input_BTD * output_BTD).sum(dim=-1) / norms_BT.clamp_min(_TINY)
    return (1.0 - cosine_BT.double()).sum()
