"""From tokens to final hidden states, and from these to logits: the two halves of a forward pass.

Knows no loss and no data. A whole batch's logits are larger than all else of a step, so whoever needs them asks a
``Head`` for those of a few tokens at a time.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of

# B blocks, T tokens of a block, D hidden, V vocabulary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """What makes logits of final hidden states: a matrix product, and what some families do to it."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    divisor: float = 1.0
    """By which logits are divided; Granite's ``logits_scaling``."""
    cap: float | None = None
    """Logits bend towards plus and minus this; Gemma's ``final_logit_softcapping``."""

    def logits(self, hidden_D: Tensor) -> Tensor:
        """Return the logits of hidden states of any leading shape."""
        return self.bent(functional.linear(hidden_D, self.weight_VD, self.bias_V))

    def bent(self, products_V: Tensor) -> Tensor:
        """Return the logits that matrix products become."""
        logits_V = products_V if self.divisor == 1.0 else products_V / self.divisor
        return logits_V if self.cap is None else (logits_V / self.cap).tanh() * self.cap

    def unbent(self, gradient_V: Tensor, logits_V: Tensor) -> Tensor:
        """Return the gradient by the matrix products, of that by the logits which they became."""
        if self.cap is not None:
            gradient_V = gradient_V * (1.0 - (logits_V / self.cap).square())
        return gradient_V if self.divisor == 1.0 else gradient_V / self.divisor

    def to(self, target: torch.device | torch.dtype) -> "Head":
        """Return the head on another device or in another precision."""
        bias_V = None if self.bias_V is None else self.bias_V.to(target)
        return replace(self, weight_VD=self.weight_VD.to(target), bias_V=bias_V)

    def detached(self) -> "Head":
        """Return the head without gradients."""
        bias_V = None if self.bias_V is None else self.bias_V.detach()
        return replace(self, weight_VD=self.weight_VD.detach(), bias_V=bias_V)


def head_of(model: PreTrainedModel) -> Head:
    """Return the head of a model; it shares the model's weights."""
    anatomy, config = anatomy_of(model), model.config
    module = model.get_submodule(anatomy.head)
    assert isinstance(module, nn.Linear)
    return Head(
        weight_VD=module.weight,
        bias_V=module.bias,
        divisor=getattr(config, anatomy.logit_divisor) if anatomy.logit_divisor else 1.0,
        cap=getattr(config, anatomy.logit_cap) if anatomy.logit_cap else None,
    )


def final_hidden(model: PreTrainedModel, input_ids_BT: Tensor) -> Tensor:
    """Return the final hidden states, BTD, of which the head makes logits."""
    decoder = model.get_submodule(anatomy_of(model).decoder)
    hidden_BTD: Tensor = decoder(input_ids=input_ids_BT, use_cache=False).last_hidden_state
    return hidden_BTD


def logits_of(model: PreTrainedModel, hidden_BTD: Tensor) -> Tensor:
    """Return the logits that a model makes of final hidden states."""
    return head_of(model).logits(hidden_BTD)


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Return the precision in which a matrix product with a tensor runs here: autocast's, or the tensor's."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
