"""How a student is trained."""

import math
from dataclasses import dataclass
from typing import Literal

from minitron.recipe.checks import require, require_positive

Precision = Literal["auto", "float32", "bfloat16"]
Weights = Literal["float32", "bfloat16"]
OptimizerState = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """A light retraining, complete: the same recipe, seed and data give the same student."""

    num_tokens: int = 1_000_000
    batch_tokens: int = 2_048
    """Tokens per optimiser step."""
    micro_batch_size: int = 8
    """Blocks per forward and backward pass; gradients of a step are accumulated over them."""
    peak_learning_rate: float = 1e-3
    final_learning_rate_ratio: float = 0.1
    """The cosine ends at this fraction of the peak, at ``num_tokens``."""
    warmup_tokens: int = 0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    max_gradient_norm: float = 1.0
    precision: Precision = "auto"
    """``auto``: bfloat16 autocast where the device gains from it, else float32."""
    weights: Weights = "float32"
    """``bfloat16``: each step runs on bfloat16 copies of the weights, in bfloat16 throughout, and sums the
    gradients of its micro-batches in bfloat16; the weights that are stepped, measured and saved are float32."""
    optimizer_state: OptimizerState = "float32"
    """How the moments of AdamW are kept. ``int8`` needs the extra ``[int8]``; it and ``bfloat16`` round the
    second moment, which stands still where ``beta2`` is above 0.99."""
    activation_checkpointing: bool = False
    """Keep one input for each layer and compute the rest again for the backward pass: less memory, a third
    more work, the same result."""
    seed: int = 0
    """Shuffles the training blocks."""

    def __post_init__(self) -> None:
        require(
            not (self.weights == "bfloat16" and self.precision == "float32"),
            "training.weights", self.weights, "float32, as training.precision is",
        )  # fmt: skip
        require(self.batch_tokens >= 1, "training.batch_tokens", self.batch_tokens, "at least 1")
        require(
            self.num_tokens >= self.batch_tokens,
            "training.num_tokens", self.num_tokens, "at least one step of batch_tokens",
        )  # fmt: skip
        require(self.micro_batch_size >= 1, "training.micro_batch_size", self.micro_batch_size, "at least 1")
        require_positive("training.peak_learning_rate", self.peak_learning_rate)
        require(
            0 <= self.final_learning_rate_ratio <= 1,
            "training.final_learning_rate_ratio", self.final_learning_rate_ratio, "0 to 1",
        )  # fmt: skip
        require(
            0 <= self.warmup_tokens < self.num_tokens,
            "training.warmup_tokens", self.warmup_tokens, "0 to below num_tokens",
        )  # fmt: skip
        require(
            0 <= self.weight_decay < math.inf,
            "training.weight_decay", self.weight_decay, "at least 0, and finite",
        )  # fmt: skip
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"training.{name}", value, "0 to below 1")
        require(self.max_gradient_norm > 0, "training.max_gradient_norm", self.max_gradient_norm, "above 0")
        require(self.seed >= 0, "training.seed", self.seed, "at least 0")

    def require_a_step(self, sequence_length: int, *, field: str = "training.num_tokens") -> None:
        """Raise InvalidRecipe, naming ``field``, when ``num_tokens`` is less than one step, which is one block at least."""
        least = self.blocks_per_step(sequence_length) * sequence_length
        require(
            self.num_tokens >= least,
            field, self.num_tokens, f"at least one step of {least}, with such a sequence_length",
        )  # fmt: skip

    def blocks_per_step(self, sequence_length: int) -> int:
        """Whole blocks of one optimiser step, at least one."""
        return max(1, self.batch_tokens // sequence_length)

    def blocks_at_once(self, sequence_length: int, processes: int = 1) -> int:
        """Blocks of one forward pass, in training and in evaluation: a micro-batch, at most a process's part of a step."""
        return min(self.micro_batch_size, self.blocks_per_step(sequence_length) // processes)

    def num_steps(self, sequence_length: int) -> int:
        """Optimiser steps of the whole training, at least one."""
        return max(1, self.num_tokens // (self.blocks_per_step(sequence_length) * sequence_length))
