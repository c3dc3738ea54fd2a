"""Losses on logits: what each token's is, and its gradient by that token's logits, both in closed form.

Knows no model, no batch and no weights of losses: ``chunked_head`` adds them up. Closed forms take one or two
buffers of the vocabulary's size where autograd takes four. Everything runs in the logits' own precision; temperature
enters as in Hinton's distillation, with its square in front, so that gradients keep their size.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from minitron.recipe import Loss
from minitron.teacher import TopKAnswer

# C tokens at once, V vocabulary, K likeliest tokens of a teacher's distribution

NOT_PREDICTED = -100
"""The label of a token whose successor is not known."""

TokenLosses = tuple[Tensor, Tensor]
"""The loss of each token, C, and its gradient by the token's logits, CV."""


def forward_kl(logits_CV: Tensor, teacher_CV: Tensor, temperature: float) -> TokenLosses:
    """Return KL(teacher || student) in nats; the gradient is q - p."""
    log_q_CV = (logits_CV / temperature).log_softmax(dim=-1)
    log_p_CV = (teacher_CV / temperature).log_softmax(dim=-1)
    p_CV = log_p_CV.exp()
    kl_C = log_p_CV.sub_(log_q_CV).mul_(p_CV).sum(dim=-1)
    return kl_C * temperature**2, log_q_CV.exp_().sub_(p_CV).mul_(temperature)


def reverse_kl(logits_CV: Tensor, teacher_CV: Tensor, temperature: float) -> TokenLosses:
    """Return KL(student || teacher) in nats; the gradient is q (log q/p - KL)."""
    log_q_CV = (logits_CV / temperature).log_softmax(dim=-1)
    log_p_CV = (teacher_CV / temperature).log_softmax(dim=-1)
    q_CV = log_q_CV.exp()
    ratio_CV = log_q_CV.sub_(log_p_CV)
    kl_C = (q_CV * ratio_CV).sum(dim=-1)
    gradient_CV = ratio_CV.sub_(kl_C.unsqueeze(-1)).mul_(q_CV)
    return kl_C * temperature**2, gradient_CV.mul_(temperature)


def mse(logits_CV: Tensor, teacher_CV: Tensor, temperature: float) -> TokenLosses:
    """Return the mean squared difference over the vocabulary."""
    assert temperature == 1.0, "divides out"
    difference_CV = logits_CV - teacher_CV
    return difference_CV.square().mean(dim=-1), difference_CV.mul_(2.0 / logits_CV.shape[-1])


def cosine(logits_CV: Tensor, teacher_CV: Tensor, temperature: float) -> TokenLosses:
    """Return 1 minus the cosine of the angle between the two."""
    assert temperature == 1.0, "divides out"
    tiny = torch.finfo(logits_CV.dtype).tiny
    norm_C1 = logits_CV.norm(dim=-1, keepdim=True).clamp_min(tiny)
    student_CV = logits_CV / norm_C1
    direction_CV = teacher_CV / teacher_CV.norm(dim=-1, keepdim=True).clamp_min(tiny)
    cosine_C1 = (student_CV * direction_CV).sum(dim=-1, keepdim=True)
    return 1.0 - cosine_C1.squeeze(-1), student_CV.mul_(cosine_C1).sub_(direction_CV).div_(norm_C1)


def top_k_forward_kl(logits_CV: Tensor, answer: TopKAnswer) -> TokenLosses:
    """Return the forward KL over k tokens and one bucket for all others.

    With r = p(rest) / q(rest), the gradient is q - p for a kept token and q (1 - r) for any other. The loss is 0 where
    the student agrees on each of these, and only there.
    """
    ids_CK, log_p_CK, log_p_rest_C = _normalised(answer, logits_CV.dtype)
    p_CK, p_rest_C = log_p_CK.exp(), log_p_rest_C.exp()
    log_q_CK, q_CV, q_rest_C = _student(logits_CV, ids_CK)
    ratio_C = p_rest_C / q_rest_C
    kl_C = (p_CK * (log_p_CK - log_q_CK)).sum(dim=-1) + torch.xlogy(p_rest_C, ratio_C)
    gradient_CV = q_CV.mul_(1.0 - ratio_C.unsqueeze(-1))
    return kl_C, gradient_CV.scatter_(-1, ids_CK, log_q_CK.exp() - p_CK)


def top_k_reverse_kl(logits_CV: Tensor, answer: TopKAnswer) -> TokenLosses:
    """Return the reverse KL over k tokens and one bucket for all others: at most that over the vocabulary.

    The gradient is q (log q/p - KL), with the bucket's ratio for every token in it.
    """
    ids_CK, log_p_CK, log_p_rest_C = _normalised(answer, logits_CV.dtype)
    log_q_CK, q_CV, q_rest_C = _student(logits_CV, ids_CK)
    q_CK = log_q_CK.exp()
    ratio_CK = log_q_CK - log_p_CK
    # Where the k tokens are the whole vocabulary nothing is in the bucket, on either side.
    ratio_rest_C = (q_rest_C.log() - log_p_rest_C).masked_fill_(log_p_rest_C.isneginf(), 0.0)
    kl_C = (q_CK * ratio_CK).sum(dim=-1) + q_rest_C * ratio_rest_C
    gradient_CV = q_CV.mul_((ratio_rest_C - kl_C).unsqueeze(-1))
    return kl_C, gradient_CV.scatter_(-1, ids_CK, q_CK * (ratio_CK - kl_C.unsqueeze(-1)))


def cross_entropy(logits_CV: Tensor, labels_C: Tensor) -> TokenLosses:
    """Return minus the log-probability of each token's label in nats; 0 where there is none."""
    is_predicted_C = labels_C != NOT_PREDICTED
    labels_C1 = labels_C.clamp_min(0).unsqueeze(-1)
    log_total_C1 = logits_CV.logsumexp(dim=-1, keepdim=True)
    loss_C = (log_total_C1 - logits_CV.gather(-1, labels_C1)).squeeze(-1)
    q_CV = (logits_CV - log_total_C1).exp_()
    gradient_CV = q_CV.scatter_add_(-1, labels_C1, q_CV.new_full(labels_C1.shape, -1.0))
    return loss_C * is_predicted_C, gradient_CV.mul_(is_predicted_C.unsqueeze(-1))


ON_LOGITS: Mapping[Loss, Callable[[Tensor, Tensor, float], TokenLosses]] = MappingProxyType(
    {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "mse": mse, "cosine": cosine}
)
ON_TOP_K: Mapping[Loss, Callable[[Tensor, TopKAnswer], TokenLosses]] = MappingProxyType(
    {"forward_kl": top_k_forward_kl, "reverse_kl": top_k_reverse_kl}
)


def _normalised(answer: TopKAnswer, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kept tokens, their log-probabilities and the rest's, which in float16 did not quite sum to 1."""
    log_p_CK, log_rest_C = answer.log_probs_BTK.to(dtype), answer.log_rest_BT.to(dtype)
    log_total_C = torch.logaddexp(log_p_CK.logsumexp(dim=-1), log_rest_C)
    return answer.token_ids_BTK, log_p_CK - log_total_C.unsqueeze(-1), log_rest_C - log_total_C


def _student(logits_CV: Tensor, ids_CK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kept tokens' log-probabilities, all probabilities but theirs, and the sum of these.

    The rest is summed over the rest itself, so nothing cancels when the kept mass nears 1.
    """
    log_total_C1 = logits_CV.logsumexp(dim=-1, keepdim=True)
    log_q_CK = logits_CV.gather(-1, ids_CK) - log_total_C1
    q_CV = (logits_CV - log_total_C1).exp_().scatter_(-1, ids_CK, 0.0)
    return log_q_CK, q_CV, q_CV.sum(dim=-1).clamp_min(torch.finfo(logits_CV.dtype).tiny)
