"""Losses against float64 references written out here, values and gradients both."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.errors import UnservedLoss
from minitron.losses import distillation_loss, label_loss
from minitron.teacher import LogitsAnswer, TopKAnswer

B, T, V = 2, 3, 17


def logits(seed, scale=3.0, shape=(B, T, V)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def top_k_answer(teacher_logits, k):
    """As the cache keeps it, in full precision."""
    log_probs = teacher_logits.double().log_softmax(-1)
    kept, ids = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return TopKAnswer(token_ids_BTK=ids, log_probs_BTK=kept.float(), log_rest_BT=rest.float())


def value_and_gradient(loss, student_logits):
    student = student_logits.clone().requires_grad_()
    value = loss(student)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


def reference_kl(student, teacher, temperature=1.0):
    """Token by token: the sum over the vocabulary of p (log p - log q)."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        for t in range(T):
            p = (teacher[b, t].double() / temperature).exp()
            q = (student[b, t] / temperature).exp()
            p, q = p / p.sum(), q / q.sum()
            total = total + (p * (p.log() - q.log())).sum()
    return total / (B * T) * temperature**2


def reference_bucketed_kl(student, answer):
    """Token by token, over k tokens and one bucket with all of the rest's mass."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        for t in range(T):
            ids = answer.token_ids_BTK[b, t]
            p = torch.cat([answer.log_probs_BTK[b, t], answer.log_rest_BT[b, t, None]]).double().exp()
            p = p / p.sum()
            q = student[b, t].softmax(-1)
            rest = torch.ones(student.shape[-1], dtype=torch.bool)
            rest[ids] = False
            q = torch.cat([q[ids], q[rest].sum()[None]])
            total = total + (p * (p.log() - q.log())).nan_to_num().sum()
    return total / (B * T)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_full_kl_and_its_gradient(temperature):
    student, teacher = logits(0), logits(1)
    answer = LogitsAnswer(logits_BTV=teacher)
    value, gradient = value_and_gradient(
        lambda x: distillation_loss(x, answer, temperature=temperature), student
    )
    expected = value_and_gradient(lambda x: reference_kl(x, teacher, temperature), student.double())
    check(value, gradient, *expected)


@pytest.mark.parametrize("k", [1, 5, V - 1])
def test_top_k_kl_and_its_gradient(k):
    student, answer = logits(0), top_k_answer(logits(1), k)
    value, gradient = value_and_gradient(lambda x: distillation_loss(x, answer), student)
    expected = value_and_gradient(lambda x: reference_bucketed_kl(x, answer), student.double())
    check(value, gradient, *expected)


@given(k=st.integers(1, V), scale=st.sampled_from([0.1, 3.0, 10.0]), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_top_k_kl_from_float16_answers(k, scale, seed):
    """Halved precision leaves a proper distribution: the loss is that of the rounded teacher, never below 0."""
    answer = top_k_answer(logits(seed + 1, scale), k)
    answer = TopKAnswer(
        token_ids_BTK=answer.token_ids_BTK,
        log_probs_BTK=answer.log_probs_BTK.half().float(),
        log_rest_BT=answer.log_rest_BT,
    )
    student = logits(seed, scale)
    value, gradient = value_and_gradient(lambda x: distillation_loss(x, answer), student)
    if k < V:
        expected = value_and_gradient(lambda x: reference_bucketed_kl(x, answer), student.double())
        torch.testing.assert_close(value.double(), expected[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-3, atol=1e-6)
    assert value >= -1e-6


def test_top_k_of_the_whole_vocabulary_is_the_full_kl():
    student, teacher = logits(0), logits(1)
    all_of_it = value_and_gradient(lambda x: distillation_loss(x, top_k_answer(teacher, V)), student)
    full = value_and_gradient(lambda x: distillation_loss(x, LogitsAnswer(logits_BTV=teacher)), student)
    check(*all_of_it, *(part.double() for part in full))


def check(value, gradient, expected_value, expected_gradient):
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(value.double(), expected_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-7)


def test_a_student_that_agrees_has_no_loss_and_no_gradient():
    teacher = logits(1)
    for answer in (LogitsAnswer(logits_BTV=teacher), top_k_answer(teacher, 4), top_k_answer(teacher, V)):
        value, gradient = value_and_gradient(lambda x, a=answer: distillation_loss(x, a), teacher + 5.0)
        assert abs(float(value)) < 1e-6
        assert gradient.abs().max() < 1e-6


def test_top_k_sees_the_rest_as_one_bucket():
    """Moving mass inside the rest is invisible; moving it into or out of the rest is not."""
    teacher = logits(1)
    answer = top_k_answer(teacher, 3)
    lowest, second = teacher.topk(2, dim=-1, largest=False).indices.unbind(-1)
    swapped = teacher.clone()
    swapped.scatter_(-1, lowest[..., None], teacher.gather(-1, second[..., None]))
    swapped.scatter_(-1, second[..., None], teacher.gather(-1, lowest[..., None]))
    assert distillation_loss(swapped, answer) == pytest.approx(0.0, abs=1e-6)
    moved = teacher.scatter_add(-1, lowest[..., None], torch.full((B, T, 1), 6.0))
    assert distillation_loss(moved, answer) > 1e-3


@pytest.mark.parametrize("gap", [20.0, 60.0, 200.0])
def test_a_student_sure_of_the_kept_tokens_still_feels_the_rest(gap):
    """1 minus the kept mass would be 0 in float32; the rest is summed over the rest itself."""
    student = logits(0, scale=0.1)
    student[..., 0] += gap
    ids = torch.zeros((B, T, 1), dtype=torch.int64)
    half = torch.full((B, T), 0.5).log()
    answer = TopKAnswer(token_ids_BTK=ids, log_probs_BTK=half[..., None], log_rest_BT=half)
    value, gradient = value_and_gradient(lambda x: distillation_loss(x, answer), student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., 0] * B * T - 0.5).abs().max() < 1e-3
    if gap < 80:  # beyond, the rest's softmax underflows float32
        expected = value_and_gradient(lambda x: reference_bucketed_kl(x, answer), student.double())
        check(value, gradient, *expected)


def test_low_precision_logits_are_compared_in_float32():
    teacher = logits(1)
    for answer in (LogitsAnswer(logits_BTV=teacher), top_k_answer(teacher, 4)):
        student = logits(0).bfloat16()
        value, gradient = value_and_gradient(lambda x, a=answer: distillation_loss(x, a), student)
        assert value.dtype == torch.float32
        assert gradient.dtype == torch.bfloat16
        assert value == distillation_loss(student.float(), answer)


def test_top_k_answers_serve_no_other_temperature():
    with pytest.raises(
        UnservedLoss, match=r"distillation.temperature: found 2.0, allowed for top-k answers: 1"
    ):
        distillation_loss(logits(0), top_k_answer(logits(1), 3), temperature=2.0)


def test_label_loss_is_next_token_cross_entropy():
    student = logits(0)
    tokens = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(2))
    before = tokens.clone()
    value, gradient = value_and_gradient(lambda x: label_loss(x, tokens), student)

    def reference(x):
        terms = [-x[b, t].log_softmax(-1)[tokens[b, t + 1]] for b in range(B) for t in range(T - 1)]
        return torch.stack(terms).mean()

    check(value, gradient, *value_and_gradient(reference, student.double()))
    assert torch.equal(gradient[:, -1], torch.zeros(B, V)), "the last position predicts nothing"
    assert torch.equal(tokens, before)
