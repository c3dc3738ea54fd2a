"""Hidden states on the way: the student's are drawn to the teacher's, beside the loss on logits.

Compared are the outputs of the last layers but two, since the last ones are specialised, and the embeddings: what goes
into the first block and into the last but one, each scaled to a mean square of 1, as a norm without weights would. Of
models of other widths, one matrix for all states takes the student's to the teacher's; it learns with the student
and is no part of it. Knows no data and no schedule.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of
from minitron.recipe import State, StateLoss
from minitron.sharding import everywhere

# B blocks, T tokens of a block, D hidden of the student, E hidden of the teacher, V vocabulary

BEFORE: Mapping[State, int] = {"embedding": 0, "output": -2}
"""The block that each state goes into."""

LEAST_LOSS = 1e-6
"""A loss on states below this is not made larger than it is."""


@contextmanager
def watched(model: PreTrainedModel, states: Sequence[State]) -> Iterator[dict[State, Tensor]]:
    """Collect hidden states, BTD, of the forward pass that is made meanwhile."""
    seen: dict[State, Tensor] = {}
    layers = layers_of(model, anatomy_of(model))
    handles = [
        layers[BEFORE[state]].register_forward_pre_hook(_keeper(seen, state), with_kwargs=True)
        for state in states
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keeper(seen: dict[State, Tensor], state: State) -> Any:
    def keep(_: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        seen[state] = arguments[0] if arguments else options["hidden_states"]

    return keep


class Projection(nn.Module):
    """One matrix for all states, in float32 whatever its weights run in."""

    def __init__(self, weight_ED: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_ED)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Return what hidden states are in the teacher's width."""
        return functional.linear(hidden_BTD, self.weight.float())


def make_projection(student: PreTrainedModel, teacher: PreTrainedModel) -> Projection | None:
    """Return what takes the student's width to the teacher's; None where they are equal. Collective.

    It begins as the one that makes the best of the teacher's embedding out of the student's, by least squares: a
    channel that was kept goes to where it was.
    """
    own_VD, whole_VE = _embedding(student), _embedding(teacher).to(student.device)
    if own_VD.shape == whole_VE.shape:
        return None
    square_DD = (own_VD.T @ own_VD).double()
    square_DD += 1e-6 * square_DD.diagonal().mean() * torch.eye(len(square_DD), device=square_DD.device)
    solution_DE = torch.linalg.solve(square_DD, (own_VD.T @ whole_VE).double())
    return Projection(solution_DE.T.float().contiguous())


def states_loss(
    own: Mapping[State, Tensor],
    teachers: Mapping[State, Tensor],
    projection: Projection | None,
    loss: StateLoss,
) -> Tensor:
    """Return the sum over states of the mean over tokens."""
    total = torch.zeros(())
    for state, own_BTD in own.items():
        whole_BTE = _scaled(teachers[state].to(own_BTD.device))
        found_BTE = _scaled(own_BTD)
        if projection is not None:
            found_BTE = projection(found_BTE)
        if loss == "cosine":
            of_state = 1.0 - functional.cosine_similarity(found_BTE, whole_BTE, dim=-1).mean()
        else:
            of_state = functional.mse_loss(found_BTE, whole_BTE)
        total = total.to(of_state.device) + of_state
    return total


def balanced(of_states: Tensor, of_logits: Tensor) -> Tensor:
    """Return the loss on states made as large as the loss on logits; gradients flow through the former alone."""
    return of_states * (of_logits.detach() / of_states.detach().clamp_min(LEAST_LOSS))


def _embedding(model: PreTrainedModel) -> Tensor:
    module = model.get_submodule(anatomy_of(model).embedding)
    assert isinstance(module, nn.Embedding)
    return everywhere(module.weight.detach()).float()


def _scaled(hidden_BTD: Tensor) -> Tensor:
    return functional.rms_norm(hidden_BTD.float(), hidden_BTD.shape[-1:])
