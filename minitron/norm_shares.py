"""What share of a norm's input each hidden channel has, from which a student's norms can be rescaled.

An RMSNorm of fewer channels divides by another root mean square than the parent's did; how much larger that of the
kept channels is follows from their shares. Knows no plan.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of

# M norms, D hidden channels, B blocks of a batch, T tokens of a block


class NormShares:
    """Tells the shares in passes that are made anyway, of the norms of every layer and of the final one."""

    def __init__(self, model: PreTrainedModel, hidden_size: int) -> None:
        anatomy = anatomy_of(model)
        self._norms = [
            layer.get_submodule(name) for layer in layers_of(model, anatomy) for name in anatomy.hidden_norms
        ]
        self._norms.append(model.get_submodule(anatomy.final_norm))
        self._total_MD = torch.zeros(len(self._norms), hidden_size, dtype=torch.float64, device=model.device)
        self._seen_M = torch.zeros(len(self._norms), 1, dtype=torch.float64, device=model.device)
        self.valid_BT: Tensor | None = None
        """Which tokens of the batch at hand count; None: all."""

    @contextmanager
    def on(self) -> Iterator[None]:
        """Hook every norm; every hook is gone at the end, also after an exception."""
        handles: list[Any] = []
        try:
            for index, norm in enumerate(self._norms):
                handles.append(norm.register_forward_pre_hook(partial(self._take, index)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _take(self, index: int, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        square_BTD = args[0].float().square()
        share_BTD = square_BTD / square_BTD.mean(dim=-1, keepdim=True).clamp_min(torch.finfo().tiny)
        share_CD = share_BTD.flatten(0, 1) if self.valid_BT is None else share_BTD[self.valid_BT]
        self._total_MD[index] += share_CD.sum(dim=0, dtype=torch.float64)
        self._seen_M[index] += len(share_CD)

    def shares(self) -> Tensor:
        """Return the mean square of each channel over that of all, MD, in the order of the anatomy."""
        return (self._total_MD / self._seen_M).float().cpu()
