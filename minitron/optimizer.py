"""AdamW, with moments as wide as the recipe says, and the weights that a step runs on.

Knows no model, no data and no schedule. Moments are narrow only between steps: a weight is stepped by torch's own
arithmetic in float32.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.adamw import adamw

from minitron import extras
from minitron.errors import MissingExtra
from minitron.recipe import OptimizerState, TrainingRecipe
from minitron.sharding import local

MOMENTS = ("exp_avg", "exp_avg_sq")
LARGEST_BLOCK, SMALLEST_BLOCK = 256, 32
"""Elements that share a scale in int8; as many as divide a row evenly, so that no block spans two rows."""


def require_library(kept: OptimizerState) -> None:
    """Raise MissingExtra when this Python lacks what moments of this kind need."""
    if kept == "int8" and extras.missing(extras.INT8):
        raise MissingExtra(
            "training.optimizer_state: found int8, which needs torchao, which this Python lacks: "
            f"pip install '{extras.EXTRA_INT8}'"
        )


def make_optimizer(parameters: Mapping[str, nn.Parameter], recipe: TrainingRecipe) -> AdamW:
    """Return an AdamW that decays matrices and leaves norms and biases.

    Raises:
        MissingExtra: int8 moments were asked for and torchao is not installed.
    """
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    options: dict[str, Any] = {
        "lr": recipe.peak_learning_rate, "betas": (recipe.beta1, recipe.beta2), "fused": True,
    }  # fmt: skip
    if recipe.optimizer_state == "float32":
        return AdamW(groups, **options)
    return _NarrowAdamW(groups, recipe.optimizer_state, **options)


def empty_state(parameter: Tensor, kept: OptimizerState, *, num_steps: int) -> dict[str, Tensor]:
    """Return what an optimiser of ``make_optimizer`` keeps of a weight after ``num_steps`` steps, moments zero."""
    step = torch.tensor(float(num_steps), device=parameter.device)
    return {"step": step} | {moment: _zeros(parameter, moment, kept) for moment in MOMENTS}


def parts_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the plain tensors that hold the moments of a weight here, by name; writing to them changes the moments.

    Each has as many rows as this process holds of the weight.
    """
    parts: dict[str, Tensor] = {}
    for moment in MOMENTS:
        tensor = local(state[moment])
        if _is_int8(tensor):
            codes, scale = tensor.codes, tensor.scale  # type: ignore[attr-defined]
            parts |= {f"{moment}.codes": codes, f"{moment}.scale": scale.view(len(codes), -1)}
        else:
            parts[moment] = tensor
    return parts


@contextmanager
def bfloat16_weights(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Put bfloat16 copies in the place of float32 weights; at the end the gradients that they got are widened."""
    weights = [(parameter, parameter.data) for parameter in parameters]
    for parameter, weight in weights:
        parameter.data = weight.bfloat16()
    try:
        yield
    finally:
        for parameter, weight in weights:
            gradient, parameter.grad = parameter.grad, None
            parameter.data = weight
            if gradient is not None:
                parameter.grad = gradient.float()


class _NarrowAdamW(AdamW):
    """AdamW whose moments are float32 only while their weight is stepped, one weight after another."""

    def __init__(self, groups: list[dict[str, Any]], kept: OptimizerState, **options: Any) -> None:
        super().__init__(groups, **options)
        require_library(kept)
        self._kept = kept

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self.state[parameter] = empty_state(parameter, self._kept, num_steps=0)
                self._step(parameter, self.state[parameter], group)

    def _step(self, parameter: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        weight, gradient = local(parameter), local(parameter.grad)
        average, square = (torch.empty_like(weight).copy_(local(state[moment])) for moment in MOMENTS)
        adamw(
            [weight], [gradient], [average], [square], [], [state["step"]],
            fused=True, amsgrad=False, maximize=False, lr=group["lr"], eps=group["eps"],
            beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"],
        )  # fmt: skip
        for moment, wide in zip(MOMENTS, (average, square), strict=True):
            local(state[moment]).copy_(wide)


def _zeros(parameter: Tensor, moment: str, kept: OptimizerState) -> Tensor:
    block = _block(parameter)
    if kept == "int8" and block is not None:
        from torchao.optim.subclass_8bit import OptimState8bit

        zeros: Tensor = OptimState8bit.zeros(
            local(parameter).shape, signed=moment == "exp_avg", block_size=block, device=parameter.device
        )
        return zeros
    dtype = torch.bfloat16 if kept == "bfloat16" else torch.float32
    return torch.zeros_like(parameter, dtype=dtype)


def _block(parameter: Tensor) -> int | None:
    """Return how many elements of a matrix share a scale; None where it stays float32, as norms and biases do."""
    if parameter.ndim < 2:
        return None
    row = parameter.shape[-1]
    block = next(size for size in range(min(row, LARGEST_BLOCK), 0, -1) if row % size == 0)
    return block if block >= SMALLEST_BLOCK else None


def _is_int8(moment: Tensor) -> bool:
    return hasattr(moment, "codes")
