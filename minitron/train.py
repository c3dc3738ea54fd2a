"""Light retraining of a student, resumable to the bit.

Knows neither plans nor trials. The order of the blocks and the learning rate are functions of the
recipe and the tokens trained so far, so every student of a recipe sees the same, however often it was
interrupted.
"""

import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.device import autocast
from minitron.errors import ArtifactMismatch, DivergedTraining
from minitron.files import new_file
from minitron.losses import distillation_loss, label_loss
from minitron.optimizer import bfloat16_weights, empty_state, make_optimizer, parts_of
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.teacher import Teacher

# N training blocks, S blocks of an optimiser step, B blocks of a micro-batch, T tokens of a block

STATE_FILE = "retraining.safetensors"


class Retraining:
    """One student's retraining: forward to a token count, saved, loaded, forward again.

    The student is trained in place. ``teacher`` None trains on the labels alone.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        training_NT: npt.NDArray[np.int32],
        teacher: Teacher | None,
        *,
        training: TrainingRecipe,
        distillation: DistillationRecipe,
        device: torch.device,
    ) -> None:
        self.student = student
        self.student.to(device)  # type: ignore[arg-type]  # the stub loses self
        if training.activation_checkpointing:
            self.student.activation_checkpointing_enable({"use_reentrant": False})
        self.num_tokens = 0
        """Trained so far; whole optimiser steps."""
        self._training_NT = training_NT
        self._teacher = teacher
        self._training = training
        self._distillation = distillation
        self._device = device
        self._parameters = dict(student.named_parameters())
        self._optimizer = make_optimizer(self._parameters, training)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimiser step."""
        sequence_length = int(self._training_NT.shape[1])
        return self._training.blocks_per_step(sequence_length) * sequence_length

    def advance(self, to_tokens: int, *, max_seconds: float | None = None) -> float:
        """Train on, to at most ``to_tokens`` in all; stop early, after a whole step, at ``max_seconds``.

        At least one step is made.

        Returns:
            The mean loss over what this call trained, nats per token.

        Raises:
            DivergedTraining: A loss or gradient is not finite; the weights are those before that step.
        """
        total = self._training.num_steps(self._training_NT.shape[1]) * self.step_tokens
        assert self.num_tokens + self.step_tokens <= to_tokens < total + self.step_tokens, (
            f"from {self.num_tokens} to {to_tokens} of {total} tokens: no whole step"
        )
        deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        losses: list[float] = []
        self.student.train()
        try:
            while self.num_tokens + self.step_tokens <= to_tokens:
                losses.append(self._step())
                if time.monotonic() >= deadline:
                    break
        finally:
            self.student.eval()  # type: ignore[no-untyped-call]
        return math.fsum(losses) / len(losses)

    def _step(self) -> float:
        """Make one optimiser step and return its loss."""
        sequence_length = self._training_NT.shape[1]
        block_ids_S = block_ids(
            self.num_tokens // sequence_length,
            self.step_tokens // sequence_length,
            num_blocks=len(self._training_NT),
            seed=self._training.seed,
        )
        self._optimizer.zero_grad()
        micro_batches = torch.split(torch.from_numpy(block_ids_S), self._training.micro_batch_size)
        with self._running_weights():
            losses = [self._accumulate(block_ids_B, len(block_ids_S)) for block_ids_B in micro_batches]
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._training.max_gradient_norm)
        loss, norm_value = torch.stack([sum(losses, torch.zeros_like(norm)), norm]).tolist()
        if not math.isfinite(loss + norm_value):
            raise DivergedTraining(
                f"training: found loss {loss} and gradient norm {norm_value} after {self.num_tokens} tokens, "
                "allowed: finite; a lower training.peak_learning_rate may help"
            )
        self.num_tokens += self.step_tokens
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._training, self.num_tokens)
        self._optimizer.step()
        return float(loss)

    def _accumulate(self, block_ids_B: Tensor, step_blocks: int) -> Tensor:
        """Add the gradients of a micro-batch, weighted by its share of the step; return its share of the loss."""
        loss = self._loss(block_ids_B) * (len(block_ids_B) / step_blocks)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _loss(self, block_ids_B: Tensor) -> Tensor:
        input_ids_BT = torch.from_numpy(self._training_NT[block_ids_B.numpy()].astype(np.int64))
        input_ids_BT = input_ids_BT.to(self._device)
        with self._running_precision():
            logits_BTV = self.student(input_ids=input_ids_BT, use_cache=False).logits
        if self._teacher is None:
            return label_loss(logits_BTV, input_ids_BT)
        answer = self._teacher.answer(block_ids_B, input_ids_BT)
        loss = distillation_loss(logits_BTV, answer, temperature=self._distillation.temperature)
        if self._distillation.label_weight:
            loss = loss + self._distillation.label_weight * label_loss(logits_BTV, input_ids_BT)
        return loss

    def _running_weights(self) -> AbstractContextManager[None]:
        if self._training.weights == "bfloat16":
            return bfloat16_weights(self._parameters.values())
        return nullcontext()

    def _running_precision(self) -> AbstractContextManager[object]:
        if self._training.weights == "bfloat16":
            return nullcontext()
        return autocast(self._device, self._training.precision)

    def save(self, directory: Path) -> None:
        """Write all that is needed to go on, as one file that replaces an earlier one whole.

        Raises:
            OutOfSpace: The disk is full; the earlier file stands.
        """
        tensors: dict[str, Tensor] = {
            f"weights.{name}": parameter for name, parameter in self._parameters.items()
        }
        for name, parameter in self._parameters.items() if self.num_tokens else ():
            for part, tensor in parts_of(self._optimizer.state[parameter]).items():
                tensors[f"{part}.{name}"] = tensor
        metadata = {"num_tokens": str(self.num_tokens), "identity": json.dumps(self._identity())}
        with new_file(directory / STATE_FILE) as scratch:
            save_file(tensors, scratch, metadata=metadata)

    def load(self, directory: Path) -> None:
        """Go on from what ``save`` wrote, to the bit as if there had been no interruption.

        Raises:
            ArtifactMismatch: Nothing was saved there, or another student, recipe or data.
        """
        path = directory / STATE_FILE
        if not path.is_file():
            raise ArtifactMismatch(f"{path}: found nothing, allowed: a saved retraining")
        with safe_open(path, framework="pt", device=str(self._device)) as file:
            metadata = file.metadata()
            saved = _complete(json.loads(metadata["identity"]))
            other = [name for name, value in self._identity().items() if saved[name] != value]
            if other:
                raise ArtifactMismatch(f"{path}: found another {', '.join(other)}, allowed: the same")
            self.num_tokens = int(metadata["num_tokens"])
            self._optimizer.state.clear()
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(file.get_tensor(f"weights.{name}"))
                    if self.num_tokens:
                        state = empty_state(
                            parameter,
                            self._training.optimizer_state,
                            num_steps=self.num_tokens // self.step_tokens,
                        )
                        for part, tensor in parts_of(state).items():
                            tensor.copy_(file.get_tensor(f"{part}.{name}"))
                        self._optimizer.state[parameter] = state

    def _identity(self) -> dict[str, object]:
        """What must be equal for a saved state to be continued, as a JSON value."""
        return {
            "student": {name: list(parameter.shape) for name, parameter in self._parameters.items()},
            "number of training blocks": list(self._training_NT.shape),
            "teacher": self._teacher is not None,
            "training recipe": asdict(self._training),
            "distillation recipe": asdict(self._distillation),
        }


def _complete(identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity with the defaults of the recipes' fields that are newer than the saved state."""
    recipes = {"training recipe": TrainingRecipe, "distillation recipe": DistillationRecipe}
    return identity | {name: asdict(recipe(**identity[name])) for name, recipe in recipes.items()}


def learning_rate(recipe: TrainingRecipe, num_tokens: int) -> float:
    """Return the rate of the step that ends at ``num_tokens``: linear warm-up, then a cosine.

    The peak is reached at ``warmup_tokens``, the final rate at ``recipe.num_tokens``, where it stays.
    """
    if num_tokens < recipe.warmup_tokens:
        return recipe.peak_learning_rate * num_tokens / recipe.warmup_tokens
    progress = (num_tokens - recipe.warmup_tokens) / (recipe.num_tokens - recipe.warmup_tokens)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    ratio = recipe.final_learning_rate_ratio
    return recipe.peak_learning_rate * (ratio + (1.0 - ratio) * cosine)


def block_ids(first: int, count: int, *, num_blocks: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which blocks stand at ``first``, ``first + 1``, ... of the endless training order.

    Every epoch is another permutation of all blocks.
    """
    positions = np.arange(first, first + count)
    return np.array(
        [
            _epoch(num_blocks, seed, int(position // num_blocks))[position % num_blocks]
            for position in positions
        ]
    )


@lru_cache(maxsize=2)
def _epoch(num_blocks: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, number)).permutation(num_blocks)
