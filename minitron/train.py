"""Light retraining of a student, resumable to the bit.

Knows neither plans nor trials. The order of the blocks and the learning rate are functions of the
recipe and the tokens trained so far, so every student of a recipe sees the same, however often it was
interrupted.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of
from minitron.chunked_head import Term, chunked_loss, distillation_term, label_term
from minitron.device import autocast
from minitron.errors import ArtifactMismatch, DivergedTraining, InvalidRecipe, UnservedLoss
from minitron.files import new_file
from minitron.head import final_hidden, head_of
from minitron.intermediate import balanced, make_projection, states_loss, watched
from minitron.optimizer import bfloat16_weights, empty_state, make_optimizer, parts_of
from minitron.recipe import DistillationRecipe, State, TrainingRecipe
from minitron.sharding import ALONE, Group, everywhere, local, within
from minitron.teacher import LiveTeacher, Teacher
from minitron.tensor_file import write_tensors

# N training blocks, S blocks of an optimiser step, B blocks of a micro-batch, T tokens of a block

STATE_FILE = "retraining.safetensors"
PROJECTION = "intermediate.projection"
"""What is trained beside the student and saved with the state alone."""


class Retraining:
    """One student's retraining: forward to a token count, saved, loaded, forward again.

    The student is trained in place. ``teacher`` None trains on the labels alone.

    The processes of a ``group`` that hold the student together, and a live teacher, each make one of these and call
    the same methods in the same order; each trains on its share of a step's blocks, and is told the same losses.

    Raises:
        ArtifactMismatch: A live teacher of another vocabulary.
        InvalidRecipe: A recipe that these processes cannot train by together, or that asks for states which this
            student does not have.
        UnservedLoss: A loss that this teacher cannot serve.
        MissingExtra: Moments that need a library which is not installed.
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
        group: Group = ALONE,
    ) -> None:
        _check_group(training, group, sequence_length=int(training_NT.shape[1]))
        self.states = _states(student, teacher, distillation)
        """The hidden states that the student learns from, beside logits."""
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
        self._group = group
        self._parameters = dict(student.named_parameters())
        self._projection = None
        if self.states:
            assert isinstance(teacher, LiveTeacher)
            self._projection = make_projection(student, teacher.model)
        if self._projection is not None:
            group.shard_beside(self._projection)
            self._parameters[PROJECTION] = self._projection.weight
        self._optimizer = make_optimizer(self._parameters, training)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimiser step."""
        sequence_length = int(self._training_NT.shape[1])
        return self._training.blocks_per_step(sequence_length) * sequence_length

    def ask(self, make_teacher: Callable[[], Teacher]) -> None:
        """Learn from another teacher of the same kind from now on; the one before may go before it is made."""
        assert self._teacher is not None
        is_live = isinstance(self._teacher, LiveTeacher)
        self._teacher = None
        self._teacher = make_teacher()
        assert isinstance(self._teacher, LiveTeacher) == is_live

    def advance(self, to_tokens: int, *, max_seconds: float | None = None) -> float:
        """Train on, to at most ``to_tokens`` in all; stop early, after a whole step, at ``max_seconds``.

        At least one step is made.

        Returns:
            The mean loss over what this call trained, on logits and labels: nats per token, where the loss has them.

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
                if self._group.first(time.monotonic() >= deadline):
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
        own_ids = self._group.share(torch.from_numpy(block_ids_S))
        micro_batches = torch.split(own_ids, self._training.micro_batch_size)
        with self._running_weights():
            losses = [self._accumulate(block_ids_B, len(block_ids_S)) for block_ids_B in micro_batches]
        norm = everywhere(
            nn.utils.clip_grad_norm_(self._parameters.values(), self._training.max_gradient_norm)
        )
        loss_sum = self._group.total(sum(losses, torch.zeros_like(norm)))
        loss, norm_value = torch.stack([loss_sum, norm]).tolist()
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
        # Gradients are averaged over the processes, where their sum is meant.
        loss, of_logits = self._loss(block_ids_B, scale=self._group.count * len(block_ids_B) / step_blocks)
        loss.backward()  # type: ignore[no-untyped-call]
        return of_logits / self._group.count

    def _loss(self, block_ids_B: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """Return the loss of a micro-batch times ``scale``, and what of it is on logits, without gradients.

        What it was computed from is gone by then.
        """
        input_ids_BT = torch.from_numpy(self._training_NT[block_ids_B.numpy()].astype(np.int64))
        input_ids_BT = input_ids_BT.to(self._device)
        terms, teachers = self._asked(block_ids_B, input_ids_BT)
        losses: tuple[Tensor, Tensor] = within(
            self.student, lambda: self._losses(input_ids_BT, terms, teachers, scale)
        )
        return losses

    def _asked(self, block_ids_B: Tensor, input_ids_BT: Tensor) -> tuple[list[Term], dict[State, Tensor]]:
        """Return the losses on logits and the teacher's states; it is asked before the student takes memory."""
        teacher, recipe = self._teacher, self._distillation
        if teacher is None:
            return [label_term(input_ids_BT)], {}
        with ExitStack() as stack:
            seen: dict[State, Tensor] = {}
            if self.states and isinstance(teacher, LiveTeacher):
                seen = stack.enter_context(watched(teacher.model, self.states))
            answer = teacher.answer(block_ids_B, input_ids_BT)
        terms = [distillation_term(answer, loss=recipe.loss, temperature=recipe.temperature)]
        if recipe.label_weight:
            terms.append(label_term(input_ids_BT, weight=recipe.label_weight))
        return terms, seen

    def _losses(
        self, input_ids_BT: Tensor, terms: list[Term], teachers: dict[State, Tensor], scale: float
    ) -> tuple[Tensor, Tensor]:
        with self._running_precision(), watched(self.student, self.states) as own:
            hidden_BTD = final_hidden(self.student, input_ids_BT)
            loss, means_K = chunked_loss(hidden_BTD, head_of(self.student), terms, scale=scale)
        of_logits = loss.detach()
        if self.states:
            of_states = states_loss(own, teachers, self._projection, self._distillation.intermediate_loss)
            loss = loss + scale * balanced(of_states, means_K[0])
        return loss, of_logits

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

        The file is the same whether one process writes it or several together.

        Raises:
            OutOfSpace: The disk is full; the earlier file stands.
        """
        parts = self._parts()
        layout = {
            name: (part.dtype, (parameter.shape[0], *part.shape[1:]))
            for name, (part, parameter) in parts.items()
        }
        whole = (self._group.gathered(part, parameter.shape[0]) for part, parameter in parts.values())
        metadata = {"num_tokens": str(self.num_tokens), "identity": json.dumps(self._identity())}
        if self._group.rank:
            for _ in whole:
                pass
            return
        with new_file(directory / STATE_FILE) as scratch:
            write_tensors(scratch, layout, whole, metadata=metadata)

    def _parts(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """Return what this process holds of the state, by name, with the weight that each belongs to."""
        parts = {
            f"weights.{name}": (local(parameter), parameter) for name, parameter in self._parameters.items()
        }
        for name, parameter in self._parameters.items() if self.num_tokens else ():
            for part, tensor in parts_of(self._optimizer.state[parameter]).items():
                parts[f"{part}.{name}"] = (tensor, parameter)
        return parts

    def load(self, directory: Path) -> None:
        """Go on from what ``save`` wrote, to the bit as if there had been no interruption.

        Raises:
            ArtifactMismatch: Nothing was saved there, or another student, recipe or data.
        """
        path = directory / STATE_FILE
        if not path.is_file():
            raise ArtifactMismatch(f"{path}: found nothing, allowed: a saved retraining")
        try:
            opened = safe_open(path, framework="pt", device=str(self._device))
        except (OSError, SafetensorError) as error:
            raise ArtifactMismatch(
                f"{path}: cannot be read ({error}), allowed: a saved retraining, or nothing"
            ) from error
        with opened as file:
            metadata = file.metadata() or {}
            if not {"identity", "num_tokens"} <= metadata.keys():
                raise ArtifactMismatch(f"{path}: found other tensors, allowed: a saved retraining")
            saved = _complete(json.loads(metadata["identity"]))
            other = [name for name, value in self._identity().items() if saved[name] != value]
            if other:
                raise ArtifactMismatch(f"{path}: found another {', '.join(other)}, allowed: the same")
            self.num_tokens = int(metadata["num_tokens"])
            self._optimizer.state.clear()
            for parameter in self._parameters.values() if self.num_tokens else ():
                self._optimizer.state[parameter] = empty_state(
                    parameter, self._training.optimizer_state, num_steps=self.num_tokens // self.step_tokens
                )
            with torch.no_grad():
                for name, (part, parameter) in self._parts().items():
                    part.copy_(file.get_slice(name)[self._group.rows(parameter)])

    def _identity(self) -> dict[str, object]:
        """What must be equal for a saved state to be continued, as a JSON value."""
        return {
            "student": {name: list(parameter.shape) for name, parameter in self._parameters.items()},
            "number of training blocks": list(self._training_NT.shape),
            "teacher": self._teacher is not None,
            "hidden states learnt from": list(self.states),
            "training recipe": asdict(self._training),
            "distillation recipe": asdict(self._distillation),
        }


def _states(
    student: PreTrainedModel, teacher: Teacher | None, distillation: DistillationRecipe
) -> tuple[State, ...]:
    """Return the hidden states that this student learns from, once its teacher is one that it can learn from."""
    if not isinstance(teacher, LiveTeacher):
        if teacher is not None and distillation.intermediate not in {"auto", "none"}:
            raise UnservedLoss(
                f"distillation.intermediate: found {distillation.intermediate}, allowed with kept answers: auto, none"
            )
        return ()
    found, allowed = teacher.model.config.vocab_size, student.config.vocab_size
    if found != allowed:
        raise ArtifactMismatch(
            f"teacher: found a vocabulary of {found} tokens, allowed: the student's {allowed}"
        )
    student_layers, parent_layers = (
        len(layers_of(model, anatomy_of(model))) for model in (student, teacher.model)
    )
    return distillation.states(student_layers=student_layers, parent_layers=parent_layers, is_live=True)


def _check_group(training: TrainingRecipe, group: Group, *, sequence_length: int) -> None:
    """Raise InvalidRecipe for what several processes cannot do together."""
    blocks = training.blocks_per_step(sequence_length)
    if blocks % group.count:
        raise InvalidRecipe(
            "training.batch_tokens",
            f"found {blocks} blocks of {sequence_length} tokens in a step, allowed: a multiple of the {group.count} "
            "processes",
        )
    if group.count > 1 and training.weights != "float32":
        raise InvalidRecipe(
            "training.weights", f"found {training.weights!r}, allowed with {group.count} processes: 'float32'"
        )


def _complete(identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity with the defaults of the recipes' fields that are newer than the saved state."""
    recipes = {"training recipe": TrainingRecipe, "distillation recipe": DistillationRecipe}
    older: dict[str, Any] = {"hidden states learnt from": []}
    return older | identity | {name: asdict(recipe(**identity[name])) for name, recipe in recipes.items()}


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
