"""Precision: bfloat16 where the device gains or the user insists, float32 elsewhere."""

import pytest
import torch

from minitron.device import autocast, effective_precision, inference, pick_device
from tests.tiny import tiny_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_of_matrix_products_on_a_cpu(precision, dtype):
    x = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (x @ x).dtype == dtype


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", None])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(feature, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, feature: True})
    expected = "float32" if feature is None else "bfloat16"
    assert effective_precision(CPU, "auto") == expected
    x = torch.ones(2, 2)
    with autocast(CPU, "auto"):
        assert (x @ x).dtype == getattr(torch, expected)


def test_an_accelerator_is_picked_where_there_is_one():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_inference_restores_mode_and_gradients_after_a_failure():
    model = tiny_model().train()

    def fail():
        with inference(model):
            assert not model.training
            assert not torch.is_grad_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.training
    assert torch.is_grad_enabled()
