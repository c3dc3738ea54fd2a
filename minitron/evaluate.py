"""The held-out loss of a model: nats per token on blocks that nothing was trained on."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minitron.chunked_head import label_loss
from minitron.device import autocast, inference
from minitron.errors import DivergedTraining
from minitron.head import final_hidden, head_of
from minitron.progress import Progress, Report, silent
from minitron.recipe import Precision
from minitron.sharding import ALONE, Group, within

# N blocks in all, B blocks of a batch, T tokens of a block


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A held-out loss in the units in which it is told."""

    nats_per_token: float
    num_tokens: int
    num_bytes: int
    """Of the text that the tokens stand for, in UTF-8."""

    @property
    def bits_per_byte(self) -> float:
        """The loss that tokenizers can be compared by."""
        return self.nats_per_token * self.num_tokens / self.num_bytes / math.log(2)

    @property
    def perplexity(self) -> float:
        """Between how many equally likely tokens the model is in doubt; infinite where no float can hold it."""
        try:
            return math.exp(self.nats_per_token)
        except OverflowError:
            return math.inf


def held_out_loss(
    model: PreTrainedModel,
    blocks_NT: npt.NDArray[np.int32],
    *,
    batch_size: int = 8,
    precision: Precision = "float32",
    group: Group = ALONE,
    report: Report = silent,
) -> float:
    """Return the mean next-token cross entropy over all predicted tokens of all blocks, in nats.

    The processes of a ``group`` that hold the model together all call this, and each computes some batches.

    Raises:
        DivergedTraining: The loss is not finite.
    """
    total = 0.0
    with inference(model):
        for first in range(0, len(blocks_NT), batch_size * group.count):
            start = first + group.rank * batch_size
            num_blocks = len(blocks_NT[start : start + batch_size])
            # Whoever has no blocks left computes one for the others' sake.
            taken_NT = blocks_NT[start : start + batch_size] if num_blocks else blocks_NT[:1]
            batch_BT = torch.from_numpy(taken_NT.astype(np.int64)).to(model.device)
            with autocast(model.device, precision):
                loss = within(model, partial(_loss, model, batch_BT))
            total += float(loss) * num_blocks
            done = min(first + batch_size * group.count, len(blocks_NT))
            report(Progress(stage="held-out loss", done=done, total=len(blocks_NT), unit="blocks"))
    group.reshard(model)
    loss = float(group.total(torch.tensor(total, dtype=torch.float64))) / len(blocks_NT)
    if not np.isfinite(loss):
        raise DivergedTraining(f"held-out loss: found {loss}, allowed: a finite number")
    return loss


def _loss(model: PreTrainedModel, input_ids_BT: Tensor) -> Tensor:
    return label_loss(final_hidden(model, input_ids_BT), head_of(model), input_ids_BT)
