"""The head of a student and all losses on its logits as one operation, some tokens at a time.

The logits of a batch, their gradient and the teacher's logits would be the largest tensors of a step: 128,256
tokens of vocabulary at 8192 positions are 4 GB each. Here only those of ``tokens_at_once`` exist; what is kept for the
backward pass are the gradients by the hidden states and by the head. Knows no model, no recipe and no schedule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from minitron.costs import WIDENED_ROWS, tokens_at_once
from minitron.errors import UnservedLoss
from minitron.head import Head, product_dtype
from minitron.losses import NOT_PREDICTED, ON_LOGITS, ON_TOP_K, TokenLosses, cross_entropy
from minitron.recipe import Loss
from minitron.teacher import Answer, TopKAnswer

# B blocks, T tokens of a block, N tokens of all blocks, C tokens at once, D hidden, V vocabulary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """One loss of a sum: its mean over ``num_tokens``, times ``weight``."""

    of: Callable[[Tensor, slice], TokenLosses]
    """Called with the logits of some tokens, CV, and where they are among all."""
    num_tokens: int
    weight: float = 1.0


def distillation_term(answer: Answer, *, loss: Loss = "forward_kl", temperature: float = 1.0) -> Term:
    """Return the loss that compares a student with the teacher at every token.

    Raises:
        UnservedLoss: A loss or temperature that top-k answers do not serve.
    """
    if isinstance(answer, TopKAnswer):
        if loss not in ON_TOP_K or temperature != 1.0:
            raise UnservedLoss(
                f"distillation.loss: found {loss} at temperature {temperature}, "
                f"allowed for top-k answers: {', '.join(ON_TOP_K)} at temperature 1"
            )
        on_top_k = ON_TOP_K[loss]
        return Term(
            of=lambda logits_CV, tokens: on_top_k(logits_CV, answer.part(tokens)),
            num_tokens=answer.log_rest_BT.numel(),
        )
    on_logits = ON_LOGITS[loss]
    return Term(
        of=lambda logits_CV, tokens: on_logits(logits_CV, answer.part(tokens).to(logits_CV), temperature),
        num_tokens=answer.hidden_BTD[..., 0].numel(),
    )


def label_term(input_ids_BT: Tensor, *, weight: float = 1.0) -> Term:
    """Return the next-token cross entropy; the last token of a block predicts none."""
    labels_N = _labels(input_ids_BT)
    return Term(
        of=lambda logits_CV, tokens: cross_entropy(logits_CV, labels_N[tokens]),
        num_tokens=_num_predicted(input_ids_BT),
        weight=weight,
    )


def chunked_loss(
    hidden_BTD: Tensor, head: Head, terms: Sequence[Term], *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return ``scale`` times the weighted sum of the terms, with gradients, and the mean of each without.

    Gradients are computed on the way, so that a caller who passes ``scale`` rather than multiply the sum saves a
    pass over the head's. Products run in autocast's precision where that is on, losses in float32 at least.
    """
    of = _Sum(
        head=head.detached().to(product_dtype(head.weight_VD)),
        terms=terms,
        factors=[scale * term.weight / term.num_tokens for term in terms],
    )
    total, means_K = _ChunkedLoss.apply(hidden_BTD, head.weight_VD, head.bias_V, of)  # type: ignore[no-untyped-call]
    return total, means_K


def label_loss(hidden_BTD: Tensor, head: Head, input_ids_BT: Tensor) -> Tensor:
    """Return the next-token cross entropy, nats per predicted token, without gradients."""
    labels_N = _labels(input_ids_BT)
    total = torch.zeros((), device=hidden_BTD.device)
    with torch.no_grad():
        head = head.to(product_dtype(head.weight_VD))
        for tokens in _chunks(len(labels_N), head):
            logits_CV = head.logits(hidden_BTD.flatten(0, 1)[tokens].to(head.weight_VD.dtype))
            total += functional.cross_entropy(
                logits_CV.float(), labels_N[tokens], ignore_index=NOT_PREDICTED, reduction="sum"
            )
    return total / _num_predicted(input_ids_BT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sum:
    """What is summed, in the head's precision; ``factors`` are those of the tokens' losses."""

    head: Head
    terms: Sequence[Term]
    factors: Sequence[float]


class _ChunkedLoss(torch.autograd.Function):
    """The forward pass computes losses and gradients, the backward pass hands these on."""

    @staticmethod
    def forward(
        ctx: Any, hidden_BTD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, of: _Sum
    ) -> tuple[Tensor, Tensor]:
        head, hidden_ND = of.head, hidden_BTD.flatten(0, 1).to(of.head.weight_VD.dtype)
        by_hidden_ND = torch.empty_like(hidden_BTD).flatten(0, 1)
        by_weight_VD = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        by_bias_V = None if bias_V is None else torch.zeros_like(bias_V)
        sums_K = []
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            for tokens in _chunks(len(hidden_ND), head):
                of_chunk_K, by_products_CV = _of_chunk(of, hidden_ND[tokens], tokens)
                sums_K.append(of_chunk_K)
                by_hidden_ND[tokens] = by_products_CV @ head.weight_VD
                if by_weight_VD is not None:
                    _add_product(by_weight_VD, by_products_CV, hidden_ND[tokens])
                if by_bias_V is not None:
                    by_bias_V += by_products_CV.sum(dim=0)
                del by_products_CV
        total_K = torch.stack(sums_K).sum(dim=0)
        means_K = total_K / total_K.new_tensor([term.num_tokens for term in of.terms])
        ctx.save_for_backward(by_hidden_ND.view_as(hidden_BTD), by_weight_VD, by_bias_V)
        ctx.mark_non_differentiable(means_K)
        return (total_K * total_K.new_tensor(of.factors)).sum(), means_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        # In place, since the head's gradient is as large as the head; a CPU need not wait to see a factor of 1.
        if upstream.device.type != "cpu" or float(upstream) != 1.0:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(upstream)
        return *gradients, None


def _of_chunk(of: _Sum, hidden_CD: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
    """Return the sum of each term over some tokens, and the gradient of their weighted sum by the matrix products."""
    head = of.head
    products_CV = functional.linear(hidden_CD, head.weight_VD, head.bias_V)
    logits_CV = head.bent(products_CV.to(torch.promote_types(products_CV.dtype, torch.float32)))
    dtype = products_CV.dtype
    del products_CV
    sums, gradient_CV = [], None
    for term, factor in zip(of.terms, of.factors, strict=True):
        losses_C, of_term_CV = term.of(logits_CV, tokens)
        sums.append(losses_C.sum())
        of_term_CV.mul_(factor)
        gradient_CV = of_term_CV if gradient_CV is None else gradient_CV.add_(of_term_CV)
    assert gradient_CV is not None
    return torch.stack(sums), head.unbent(gradient_CV, logits_CV).to(dtype)


def _add_product(sum_VD: Tensor, by_products_CV: Tensor, hidden_CD: Tensor) -> None:
    """Add what some tokens contribute to the gradient by the head; a narrower product is widened part by part."""
    if by_products_CV.dtype == sum_VD.dtype:
        torch.addmm(sum_VD, by_products_CV.T, hidden_CD, out=sum_VD)
        return
    for start in range(0, len(sum_VD), WIDENED_ROWS):
        rows = slice(start, start + WIDENED_ROWS)
        sum_VD[rows] += by_products_CV[:, rows].T @ hidden_CD


def _chunks(num_tokens: int, head: Head) -> list[slice]:
    size = tokens_at_once(head.weight_VD.shape[0])
    return [slice(start, min(start + size, num_tokens)) for start in range(0, num_tokens, size)]


def _labels(input_ids_BT: Tensor) -> Tensor:
    labels_BT = input_ids_BT.roll(-1, dims=1)
    labels_BT[:, -1] = NOT_PREDICTED
    return labels_BT.flatten()


def _num_predicted(input_ids_BT: Tensor) -> int:
    return input_ids_BT[:, 1:].numel()
