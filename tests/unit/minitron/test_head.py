"""The two halves of a forward pass against the whole, on real classes of every family that bends its logits."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from minitron.families import FAMILIES, Family
from minitron.head import Head, final_hidden, head_of, logits_of
from tests.tiny import NAMES, random_blocks, tiny_config, tiny_model

BENT = {
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {"final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 4.0},
}
"""Strongly, so that it shows."""
TOKENS = torch.from_numpy(random_blocks(3)).long()


def bent_model(name):
    config = AutoConfig.for_model(**tiny_config("llama-untied") | {"model_type": name} | BENT[name])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("name", [*NAMES, *BENT])
def test_logits_are_the_models(name, monkeypatch):
    if name in BENT and name not in FAMILIES:
        monkeypatch.setitem(FAMILIES, name, Family(name=name))
    model = bent_model(name) if name in BENT else tiny_model(name)
    with torch.no_grad():
        expected = model(input_ids=TOKENS, use_cache=False).logits
        hidden = final_hidden(model, TOKENS)
        found = logits_of(model, hidden)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    if name in BENT:
        plain = hidden @ head_of(model).weight_VD.detach().T
        assert (plain - expected).abs().max() > 0.5, "the family's bend would not show"


@pytest.mark.parametrize("shape", [{}, {"divisor": 4.0}, {"cap": 2.0}, {"divisor": 3.0, "cap": 2.0}])
def test_a_gradient_goes_back_through_the_bend(shape):
    head = Head(weight_VD=torch.randn(7, 5, dtype=torch.float64), **shape)
    products = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, 7, dtype=torch.float64)
    (expected,) = torch.autograd.grad(head.bent(products), products, upstream)
    torch.testing.assert_close(head.unbent(upstream, head.bent(products.detach())), expected)
