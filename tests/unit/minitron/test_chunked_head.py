"""Head and losses in one, some tokens at a time: autograd's gradients on whole logits, at a chunk's memory."""

import pytest
import torch

from minitron import costs
from minitron.chunked_head import chunked_loss, distillation_term, label_loss, label_term
from minitron.errors import UnservedLoss
from minitron.head import Head
from minitron.losses import ON_LOGITS, ON_TOP_K
from minitron.teacher import HiddenAnswer, TopKAnswer
from tests.memory import peak_bytes

B, T, V, D = 3, 5, 19, 7
SHAPES = {"plain": {}, "scaled": {"divisor": 4.0}, "capped": {"cap": 2.0}, "biased": {"bias_V": True}}


@pytest.fixture(params=[1, 4, 512], autouse=True)
def tokens_at_once(request, monkeypatch):
    """Chunks of one token, of four with a rest, and one of all."""
    monkeypatch.setattr(costs, "LEAST_TOKENS", request.param)
    monkeypatch.setattr(costs, "LOGITS_AT_ONCE", 1)
    return request.param


def random(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def head_like(shape, *, seed=0, dtype=torch.float32, requires_grad=False):
    bias = random(9, V, dtype=dtype).requires_grad_(requires_grad) if shape.get("bias_V") else None
    return Head(
        weight_VD=random(seed, V, D, dtype=dtype).requires_grad_(requires_grad), **shape | {"bias_V": bias}
    )


def hidden_answer(dtype=torch.float32):
    return HiddenAnswer(hidden_BTD=random(5, B, T, D, dtype=dtype), head=head_like({}, seed=6, dtype=dtype))


def top_k_answer(k=4):
    log_probs = (
        hidden_answer(torch.float64).head.logits(hidden_answer(torch.float64).hidden_BTD).log_softmax(-1)
    )
    kept, ids = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return TopKAnswer(token_ids_BTK=ids, log_probs_BTK=kept.float(), log_rest_BT=rest.float())


TOKENS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(3))


def textbook(logits, loss, temperature=1.0, *, top_k=None):
    """A mean over all tokens, on whole logits in float64."""
    answer = hidden_answer(torch.float64)
    teacher = answer.head.logits(answer.hidden_BTD)
    if loss == "labels":
        return -logits.log_softmax(-1)[:, :-1].gather(-1, TOKENS[:, 1:, None]).mean()
    if loss == "mse":
        return (logits - teacher).square().mean()
    if loss == "cosine":
        return (1 - torch.nn.functional.cosine_similarity(logits, teacher, dim=-1)).mean()
    p, q = (teacher / temperature).softmax(-1), (logits / temperature).softmax(-1)
    if top_k is not None:
        ids = top_k.token_ids_BTK
        p, q = (
            torch.cat([each.gather(-1, ids), each.scatter(-1, ids, 0.0).sum(-1, keepdim=True)], -1)
            for each in (p, q)
        )
    if loss == "reverse_kl":
        p, q = q, p
    return (p * (p / q).log()).sum(-1).mean() * temperature**2


CASES = {
    **{loss: ({"loss": loss}, False) for loss in ON_LOGITS},
    "forward_kl at 2": ({"loss": "forward_kl", "temperature": 2.0}, False),
    "reverse_kl at 0.5": ({"loss": "reverse_kl", "temperature": 0.5}, False),
    **{f"{loss} on top k": ({"loss": loss}, True) for loss in ON_TOP_K},
}


def gradients_of(total, hidden, head):
    return torch.autograd.grad(total, [hidden, head.weight_VD] + [head.bias_V] * (head.bias_V is not None))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_autograds_on_whole_logits(case, shape):
    """With a label loss beside it, in another weight, and all of it scaled."""
    options, is_top_k = CASES[case]
    answer = top_k_answer() if is_top_k else hidden_answer()
    hidden, head = random(1, B, T, D).requires_grad_(), head_like(SHAPES[shape], requires_grad=True)
    terms = [distillation_term(answer, **options), label_term(TOKENS, weight=0.3)]
    total, means = chunked_loss(hidden, head, terms, scale=0.25)
    found = gradients_of(total, hidden, head)

    hidden = hidden.detach().double().requires_grad_()
    head = head_like(SHAPES[shape], dtype=torch.float64, requires_grad=True)
    logits = head.logits(hidden)
    expected = [
        textbook(logits, **options, top_k=answer if is_top_k else None), textbook(logits, "labels"),
    ]  # fmt: skip
    torch.testing.assert_close(means.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)
    whole = 0.25 * (expected[0] + 0.3 * expected[1])
    torch.testing.assert_close(total.double(), whole, rtol=1e-5, atol=1e-6)
    for gradient, exact in zip(found, gradients_of(whole, hidden, head), strict=True):
        assert exact.abs().max() > 1e-4
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens_at_once", [4], indirect=True)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_finite_differences(shape):
    head = head_like(SHAPES[shape], dtype=torch.float64, requires_grad=True)
    terms = [distillation_term(hidden_answer(torch.float64), temperature=2.0), label_term(TOKENS)]

    def total(hidden, weight, *bias):
        shaped = Head(weight_VD=weight, bias_V=bias[0] if bias else None, divisor=head.divisor, cap=head.cap)
        return chunked_loss(hidden, shaped, terms)[0]

    inputs = [random(1, B, T, D, dtype=torch.float64).requires_grad_(), head.weight_VD]
    inputs += [head.bias_V] if head.bias_V is not None else []
    assert torch.autograd.gradcheck(total, inputs, check_undefined_grad=False)


@pytest.mark.parametrize("tokens_at_once", [4], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_a_student_moves_to_the_teacher(case):
    """Under each loss alone: with a gradient of zero, or of the wrong sign, it would stay or go."""
    options, is_top_k = CASES[case]
    teacher = hidden_answer()
    likeliest = teacher.head.logits(teacher.hidden_BTD).argmax(-1)
    answer = top_k_answer() if is_top_k else teacher
    hidden = (0.3 * teacher.hidden_BTD + random(1, B, T, D)).requires_grad_()
    head = Head(weight_VD=(0.3 * teacher.head.weight_VD + random(0, V, D)).requires_grad_())
    optimizer = torch.optim.AdamW([hidden, head.weight_VD], lr=0.03, weight_decay=0.0)
    losses, agreements = [], []
    for _ in range(150):
        agreements.append(float((head.logits(hidden).argmax(-1) == likeliest).float().mean()))
        total, _ = chunked_loss(hidden, head, [distillation_term(answer, **options)])
        losses.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]
    assert agreements[-1] > agreements[0] + 0.3


def test_a_scaled_sum_may_be_scaled_again():
    hidden, head = random(1, B, T, D).requires_grad_(), head_like({}, requires_grad=True)
    once, again = (
        gradients_of(factor * chunked_loss(hidden, head, [label_term(TOKENS)], scale=scale)[0], hidden, head)
        for factor, scale in ((1.0, 6.0), (3.0, 2.0))
    )
    for one, other in zip(once, again, strict=True):
        torch.testing.assert_close(one, other)


def test_a_tied_head_gets_both_gradients():
    weight = random(0, V, D).requires_grad_()
    hidden = torch.nn.functional.embedding(TOKENS, weight).tanh()
    total, _ = chunked_loss(hidden, Head(weight_VD=weight), [label_term(TOKENS)])
    (found,) = torch.autograd.grad(total, weight)
    exact = weight.detach().double().requires_grad_()
    logits = torch.nn.functional.embedding(TOKENS, exact).tanh() @ exact.T
    (expected,) = torch.autograd.grad(textbook(logits, "labels"), exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_products_in_bfloat16_give_gradients_in_the_weights_precision(stored):
    """Under autocast of float32 weights, and of weights in bfloat16; losses are float32 either way."""
    hidden, head = (
        random(1, B, T, D, dtype=stored).requires_grad_(),
        head_like({}, dtype=stored, requires_grad=True),
    )
    terms = [distillation_term(hidden_answer())]
    with torch.autocast("cpu", torch.bfloat16, enabled=stored == torch.float32):
        total, means = chunked_loss(hidden, head, terms)
    assert total.dtype == means.dtype == torch.float32
    found = gradients_of(total, hidden, head)
    assert {gradient.dtype for gradient in found} == {stored}
    exact, wide = hidden.detach().float().requires_grad_(), head_like({}, requires_grad=True)
    expected = gradients_of(chunked_loss(exact, wide, terms)[0], exact, wide)
    assert total.detach() != chunked_loss(exact, wide, terms)[0].detach()
    for gradient, close in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.float(), close, rtol=0.05, atol=0.03 * float(close.abs().max()))


def test_a_frozen_head_costs_no_gradient():
    hidden, head = random(1, B, T, D).requires_grad_(), head_like({})
    total, _ = chunked_loss(hidden, head, [label_term(TOKENS)])
    total.backward()
    assert hidden.grad is not None
    assert head.weight_VD.grad is None


def test_held_out_loss_is_the_label_loss():
    hidden, head = random(1, B, T, D), head_like(SHAPES["capped"])
    _, means = chunked_loss(hidden.clone().requires_grad_(), head, [label_term(TOKENS)])
    assert float(label_loss(hidden, head, TOKENS)) == pytest.approx(float(means[0]), rel=1e-6)
    logits = head.to(torch.float64).logits(hidden.double())
    assert float(label_loss(hidden, head, TOKENS)) == pytest.approx(
        float(textbook(logits, "labels")), rel=1e-6
    )


@pytest.mark.parametrize("options", [{"loss": "mse"}, {"loss": "cosine"}, {"temperature": 2.0}])
def test_top_k_answers_serve_the_kl_family_at_temperature_one(options):
    with pytest.raises(
        UnservedLoss, match=r"distillation.loss: found .* allowed for top-k answers: forward_kl, rev"
    ):
        distillation_term(top_k_answer(), **options)


@pytest.mark.parametrize("tokens_at_once", [64], indirect=True)
@pytest.mark.parametrize("case", [*CASES, "labels"])
@pytest.mark.parametrize("is_narrow", [False, True])
def test_memory_does_not_grow_with_the_batch_but_by_hidden_states(case, is_narrow, tokens_at_once):
    """Logits of 64 tokens at a time, of 256 in all and of 1024: the larger batch takes what its states do."""
    vocab, width = 1000, 8
    weight = random(0, vocab, width)

    def peak(blocks):
        tokens = torch.randint(vocab, (blocks, 64))
        hidden = random(1, blocks, 64, width)
        teacher = HiddenAnswer(hidden_BTD=random(2, blocks, 64, width), head=Head(weight_VD=weight))
        if case.endswith("top k"):
            shape = (blocks, 64, 16)
            log_probs = torch.full(shape, -4.0)
            teacher = TopKAnswer(
                token_ids_BTK=torch.arange(16).expand(shape),
                log_probs_BTK=log_probs,
                log_rest_BT=log_probs[..., 0],
            )

        def work():
            leaf, head = hidden.requires_grad_(), Head(weight_VD=weight.clone().requires_grad_())
            term = label_term(tokens) if case == "labels" else distillation_term(teacher, **CASES[case][0])
            with torch.autocast("cpu", torch.bfloat16, enabled=is_narrow):
                chunked_loss(leaf, head, [term])[0].backward()

        return peak_bytes(work)

    small, large = peak(4), peak(16)
    logits = tokens_at_once * vocab * 4
    states = 12 * 64 * width * 4
    assert large - small < 5 * states < logits
    assert small < 12 * logits
