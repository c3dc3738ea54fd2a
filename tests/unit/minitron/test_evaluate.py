"""Held-out loss: nats per predicted token, whatever the batch."""

import math

import numpy as np
import pytest
import torch

from minitron.errors import DivergedTraining
from minitron.evaluate import held_out_loss
from tests.tiny import VOCAB_SIZE, random_blocks, tiny_model

BLOCKS = random_blocks(5)


def test_loss_is_the_mean_over_every_predicted_token():
    model = tiny_model("qwen3")
    losses = []
    for block in BLOCKS.astype(np.int64):
        with torch.no_grad():
            log_probs = model(input_ids=torch.from_numpy(block[None])).logits[0].double().log_softmax(-1)
        losses += [-float(log_probs[t, block[t + 1]]) for t in range(len(block) - 1)]
    assert held_out_loss(model, BLOCKS) == pytest.approx(sum(losses) / len(losses), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_loss_does_not_depend_on_the_batch_size(batch_size):
    model = tiny_model()
    assert held_out_loss(model, BLOCKS, batch_size=batch_size) == pytest.approx(
        held_out_loss(model, BLOCKS), rel=1e-6
    )


def test_a_model_that_knows_nothing_is_at_the_log_of_the_vocabulary():
    model = tiny_model("llama-untied")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert held_out_loss(model, BLOCKS) == pytest.approx(math.log(VOCAB_SIZE), rel=1e-6)


def test_the_model_is_left_as_it_was_and_progress_is_told():
    model, seen = tiny_model().train(), []
    held_out_loss(model, BLOCKS, batch_size=2, report=seen.append)
    assert model.training
    assert [(progress.done, progress.total) for progress in seen] == [(2, 5), (4, 5), (5, 5)]


def test_bfloat16_is_close_to_float32():
    model = tiny_model()
    rounded = held_out_loss(model, BLOCKS, precision="bfloat16")
    assert rounded == pytest.approx(held_out_loss(model, BLOCKS), rel=0.02)
    assert rounded != held_out_loss(model, BLOCKS)


def test_a_loss_that_is_not_finite_is_an_error():
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.inf
    with pytest.raises(DivergedTraining, match="held-out loss: found nan"):
        held_out_loss(model, BLOCKS)
