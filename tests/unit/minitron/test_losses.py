"""Each loss and its gradient, written in closed form, against autograd in float64 on the textbook formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from minitron.losses import NOT_PREDICTED, ON_LOGITS, ON_TOP_K, cross_entropy
from minitron.recipe import SERVED
from minitron.teacher import TopKAnswer

C, V = 6, 17
KL = ("forward_kl", "reverse_kl")


def logits(seed, scale=3.0):
    return torch.randn((C, V), generator=torch.Generator().manual_seed(seed)) * scale


def top_k_answer(teacher_logits, k):
    """As the cache keeps it, in full precision."""
    log_probs = teacher_logits.double().log_softmax(-1)
    kept, ids = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return TopKAnswer(token_ids_BTK=ids, log_probs_BTK=kept, log_rest_BT=rest)


def divergence(p, q, loss):
    """KL of two distributions along the last axis, where 0 log 0 is 0."""
    if loss == "reverse_kl":
        p, q = q, p
    return (p * (p.log() - q.log())).masked_fill(p == 0, 0.0).sum(-1)


def reference(student, teacher, loss, temperature=1.0):
    """The textbook formula of one token."""
    if loss == "mse":
        return functional.mse_loss(student, teacher)
    if loss == "cosine":
        return 1 - functional.cosine_similarity(student, teacher, dim=-1)
    p, q = ((each / temperature).exp() for each in (teacher, student))
    return divergence(p / p.sum(), q / q.sum(), loss) * temperature**2


def bucketed_reference(student, answer, token, loss):
    """Over k tokens and one bucket with all of the rest's mass."""
    ids = answer.token_ids_BTK[token]
    p = torch.cat([answer.log_probs_BTK[token], answer.log_rest_BT[token, None]]).double().exp()
    q = student.softmax(-1)
    rest = torch.ones(V, dtype=torch.bool)
    rest[ids] = False
    buckets = [q[ids], q[rest].sum()[None]] if rest.any() else [q[ids]]
    return divergence((p / p.sum())[: len(ids) + len(buckets) - 1], torch.cat(buckets), loss)


def check(found, student, formula, *, rtol=1e-4, atol=1e-6):
    """Hold losses and gradients to autograd in float64 on ``formula(student logits, token)``."""
    losses, gradients = found
    assert torch.isfinite(losses).all()
    for token in range(C):
        leaf = student[token].double().requires_grad_()
        value = formula(leaf, token)
        (gradient,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(losses[token].double(), value.detach(), rtol=rtol, atol=atol)
        torch.testing.assert_close(gradients[token].double(), gradient, rtol=10 * rtol, atol=atol)


CASES = [("mse", 1.0), ("cosine", 1.0), *((loss, at) for loss in KL for at in (0.5, 1.0, 3.0))]


@pytest.mark.parametrize(("loss", "temperature"), CASES)
def test_losses_on_logits(loss, temperature):
    student, teacher = logits(0), logits(1)
    found = ON_LOGITS[loss](student, teacher, temperature)
    check(found, student, lambda x, token: reference(x, teacher[token].double(), loss, temperature))
    assert found[1].abs().max() > 1e-2, "a gradient that is nowhere would agree with one that is nowhere"


@pytest.mark.parametrize("loss", KL)
@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_losses_on_top_k(loss, k):
    student, answer = logits(0), top_k_answer(logits(1), k)
    found = ON_TOP_K[loss](student, answer)
    check(found, student, lambda x, token: bucketed_reference(x, answer, token, loss))
    assert found[1].abs().max() > 1e-2


@given(k=st.integers(1, V), scale=st.sampled_from([0.1, 3.0, 10.0]), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_top_k_answers_in_float16_are_proper_distributions(k, scale, seed):
    """The loss is that of the rounded teacher, never below 0."""
    exact = top_k_answer(logits(seed + 1, scale), k)
    answer = TopKAnswer(
        token_ids_BTK=exact.token_ids_BTK,
        log_probs_BTK=exact.log_probs_BTK.half().float(),
        log_rest_BT=exact.log_rest_BT.float(),
    )
    student = logits(seed, scale)
    for loss in KL:
        found = ON_TOP_K[loss](student, answer)
        assert found[0].min() >= -1e-5
        check(
            found, student, lambda x, token, loss=loss: bucketed_reference(x, answer, token, loss),
            rtol=1e-3, atol=1e-4,
        )  # fmt: skip


class AsFunction(torch.autograd.Function):
    """Losses of tokens whose gradients are the closed ones, for gradcheck to find wrong."""

    @staticmethod
    def forward(ctx, student, of):
        losses, gradient = of(student.detach())
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream[:, None] * gradient, None


LABELS = torch.tensor([3, 0, NOT_PREDICTED, 16, 3, NOT_PREDICTED])
EVERY = {
    **{f"{loss} at {at}": lambda x, loss=loss, at=at: ON_LOGITS[loss](x, logits(1).double(), at) for loss, at in CASES},
    **{
        f"{loss} on top {k}": lambda x, loss=loss, k=k: ON_TOP_K[loss](x, top_k_answer(logits(1), k))
        for loss in KL
        for k in (4, V)
    },
    "labels": lambda x: cross_entropy(x, LABELS),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("start", ["apart", "equal"])
def test_gradients_are_those_of_finite_differences(name, start):
    student = logits(0 if start == "apart" else 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: AsFunction.apply(x, EVERY[name]), student)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "labels"])
def test_a_student_that_agrees_has_no_loss_and_no_gradient(name):
    """In float32 too; and nothing else has none: a shift is seen by the loss that compares logits themselves."""
    teacher = logits(1)
    of = EVERY[name]
    losses, gradient = of(teacher)
    assert losses.abs().max() < 1e-6
    assert gradient.abs().max() < 1e-6
    shifted, slope = of(teacher + 5.0)
    if "kl" in name:
        assert shifted.abs().max() < 1e-5
        assert slope.abs().max() < 1e-5
    elif "mse" in name:
        assert shifted.numpy() == pytest.approx(25.0, rel=1e-5)
    else:
        assert shifted.min() > 0.05
        assert of(3 * teacher)[0].abs().max() < 1e-6, "length is not seen"


def test_top_k_sees_the_rest_as_one_bucket():
    """Moving mass inside the rest is invisible; moving it into or out of the rest is not."""
    teacher = logits(1)
    answer = top_k_answer(teacher, 3)
    lowest, second = teacher.topk(2, dim=-1, largest=False).indices.unbind(-1)
    swapped = teacher.clone()
    swapped.scatter_(-1, lowest[..., None], teacher.gather(-1, second[..., None]))
    swapped.scatter_(-1, second[..., None], teacher.gather(-1, lowest[..., None]))
    moved = teacher.scatter_add(-1, lowest[..., None], torch.full((C, 1), 6.0))
    for loss in KL:
        assert ON_TOP_K[loss](swapped, answer)[0].abs().max() < 1e-6
        assert ON_TOP_K[loss](moved, answer)[0].max() > 1e-3


def test_top_k_of_the_whole_vocabulary_is_the_loss_on_logits():
    student, teacher = logits(0), logits(1)
    for loss in KL:
        some, whole = (
            ON_TOP_K[loss](student, top_k_answer(teacher, V)),
            ON_LOGITS[loss](student, teacher, 1.0),
        )
        for found, expected in zip(some, whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", KL)
@pytest.mark.parametrize("gap", [20.0, 60.0, 200.0])
def test_a_student_sure_of_the_kept_tokens_still_feels_the_rest(gap, loss):
    """1 minus the kept mass would be 0 in float32; the rest is summed over the rest itself."""
    student = logits(0, scale=0.1)
    student[..., 0] += gap
    half = torch.full((C,), 0.5).log()
    answer = TopKAnswer(
        token_ids_BTK=torch.zeros((C, 1), dtype=torch.int64), log_probs_BTK=half[..., None], log_rest_BT=half
    )
    losses, gradient = ON_TOP_K[loss](student, answer)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    if loss == "forward_kl":
        assert (gradient[..., 0] - 0.5).abs().max() < 1e-3
    if gap < 80:  # beyond, the rest's softmax underflows float32
        check(
            (losses, gradient), student, lambda x, token: bucketed_reference(x, answer, token, loss),
            rtol=1e-4, atol=1e-6,
        )  # fmt: skip


def test_labels_are_next_tokens_where_there_are_any():
    student = logits(0)
    losses, gradient = cross_entropy(student, LABELS)
    ignored = LABELS == NOT_PREDICTED
    assert torch.equal(losses[ignored], torch.zeros(2))
    assert torch.equal(gradient[ignored], torch.zeros(2, V))
    keep = torch.where(ignored, 0, LABELS)
    check(
        (losses, gradient), student,
        lambda x, token: -x.log_softmax(-1)[keep[token]] * ~ignored[token],
    )  # fmt: skip


def test_what_a_source_serves_is_what_there_is():
    assert SERVED["top_k"].keys() == ON_TOP_K.keys()
    assert SERVED["hidden"].keys() == SERVED["live"].keys() == ON_LOGITS.keys()
