"""What a student is trained on: the teacher's distribution, or the next token.

Knows no model. All in float32 whatever the logits come in, all means over tokens, in nats.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from minitron.errors import UnservedLoss
from minitron.teacher import Answer, LogitsAnswer, TopKAnswer

# B blocks, T tokens of a block, V vocabulary, K likeliest tokens of a teacher's distribution

_NOT_PREDICTED = -100


def distillation_loss(student_logits_BTV: Tensor, answer: Answer, *, temperature: float = 1.0) -> Tensor:
    """Return the forward KL from teacher to student, nats per token, times the temperature squared.

    A top-k answer is a distribution over k tokens and one bucket for all others: the loss is 0 where
    the student agrees on each of these, and only there.

    Raises:
        UnservedLoss: A temperature other than 1 of a top-k answer.
    """
    if isinstance(answer, LogitsAnswer):
        log_q_BTV = (student_logits_BTV.float() / temperature).log_softmax(dim=-1)
        log_p_BTV = (answer.logits_BTV.float() / temperature).log_softmax(dim=-1)
        kl_BTV = functional.kl_div(log_q_BTV, log_p_BTV, reduction="none", log_target=True)
        return kl_BTV.sum(dim=-1).mean() * temperature**2
    if temperature != 1.0:
        raise UnservedLoss(f"distillation.temperature: found {temperature}, allowed for top-k answers: 1")
    loss: Tensor = _TopKForwardKL.apply(student_logits_BTV.float(), answer)  # type: ignore[no-untyped-call]
    return loss


def label_loss(logits_BTV: Tensor, input_ids_BT: Tensor) -> Tensor:
    """Return the next-token cross entropy, nats per predicted token; the last position predicts none."""
    labels_BT = input_ids_BT.roll(-1, dims=1)
    labels_BT[:, -1] = _NOT_PREDICTED
    return functional.cross_entropy(
        logits_BTV.float().flatten(0, 1), labels_BT.flatten(), ignore_index=_NOT_PREDICTED
    )


class _TopKForwardKL(torch.autograd.Function):
    """Forward KL over k tokens and the bucket of the rest, with its gradient in closed form.

    With q the student's softmax, p the teacher's and r = p(rest) / q(rest), the gradient by a logit is
    q - p for a kept token and q (1 - r) for any other. That takes one buffer of the vocabulary's size
    where autograd takes four, and q(rest) is summed over the rest itself, so nothing cancels when the
    student's kept mass nears 1.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits_BTV: Tensor, answer: TopKAnswer) -> Tensor:
        token_ids_BTK = answer.token_ids_BTK
        # float16 log-probabilities do not quite sum to 1
        log_total_BT = torch.logaddexp(answer.log_probs_BTK.logsumexp(dim=-1), answer.log_rest_BT)
        log_p_BTK = answer.log_probs_BTK - log_total_BT.unsqueeze(-1)
        p_BTK = log_p_BTK.exp()
        p_rest_BT = (answer.log_rest_BT - log_total_BT).exp()

        log_total_BT1 = logits_BTV.logsumexp(dim=-1, keepdim=True)
        log_q_BTK = logits_BTV.gather(-1, token_ids_BTK) - log_total_BT1
        q_BTV = (logits_BTV - log_total_BT1).exp_().scatter_(-1, token_ids_BTK, 0.0)
        q_rest_BT = q_BTV.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
        ratio_BT = p_rest_BT / q_rest_BT
        kl_BT = (p_BTK * (log_p_BTK - log_q_BTK)).sum(dim=-1) + torch.xlogy(p_rest_BT, ratio_BT)

        gradient_BTV = q_BTV.mul_(1.0 - ratio_BT.unsqueeze(-1))
        gradient_BTV.scatter_(-1, token_ids_BTK, log_q_BTK.exp() - p_BTK)
        ctx.save_for_backward(gradient_BTV)
        return kl_BT.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient_BTV,) = ctx.saved_tensors
        return gradient_BTV * (upstream / gradient_BTV[..., 0].numel()), None
