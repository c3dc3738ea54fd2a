"""The batches that importance is measured on.

Knows neither models nor scores. Blocks of the packer hold no padding; blocks of other makers may, and say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# N blocks in all, B blocks of a batch, T tokens of a block


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some blocks, on the device of the model that reads them."""

    input_ids_BT: Tensor
    valid_BT: Tensor | None
    """False for padding; None where every token counts."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Arguments of a model's forward pass."""
        mask = {} if self.valid_BT is None else {"attention_mask": self.valid_BT.long()}
        return {"input_ids": self.input_ids_BT, "use_cache": False, **mask}

    def valid(self) -> Tensor:
        """Return which tokens count, also where all do."""
        if self.valid_BT is not None:
            return self.valid_BT
        return torch.ones_like(self.input_ids_BT, dtype=torch.bool)


def batches(
    blocks_NT: npt.NDArray[np.int32],
    valid_NT: npt.NDArray[np.bool_] | None,
    *,
    batch_size: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield all blocks in order, ``batch_size`` at a time."""
    for start in range(0, len(blocks_NT), batch_size):
        taken = slice(start, start + batch_size)
        yield Batch(
            input_ids_BT=torch.from_numpy(blocks_NT[taken].astype(np.int64)).to(device),
            valid_BT=None if valid_NT is None else torch.from_numpy(valid_NT[taken].astype(bool)).to(device),
        )
