"""Layers chosen by a score of whole models."""

import math
from dataclasses import replace

import pytest
import torch

from minitron.depth import ModelCost
from minitron.downstream import DownstreamCost, layers_by_score
from minitron.evaluate import held_out_loss
from minitron.families import read_architecture
from minitron.plan import kept_layers, plan_pruning
from tests.scores import random_scores
from tests.tiny import random_blocks, tiny_model


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_score_that_is_the_loss_costs_what_the_loss_costs(name):
    model, blocks = tiny_model(name), random_blocks(3)
    costs = DownstreamCost(model, lambda student: -held_out_loss(student, blocks))(range(4), [1, 2])
    for found, expected in zip(costs, ModelCost(model, blocks, "lm_loss")(range(4), [1, 2]), strict=True):
        assert found == pytest.approx(expected, abs=2e-5)


def test_the_score_may_generate():
    """Students are models of their own, whose cache begins at their own first layer."""

    def score(student):
        prompt = torch.tensor([[1, 2, 3]])
        cached = student.generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
        again = student.generate(prompt, max_new_tokens=4, do_sample=False, use_cache=False, pad_token_id=0)
        assert torch.equal(cached, again)
        return float(cached.sum())

    layers_by_score(tiny_model(), score, "independent")


def test_the_block_that_the_task_needs_least_goes():
    """A task that only layers 0 and 3 serve."""
    model = tiny_model()
    marks = [layer.self_attn.q_proj.weight[0, 0].item() for layer in model.model.layers]

    def score(student):
        found = {layer.self_attn.q_proj.weight[0, 0].item() for layer in student.model.layers}
        return float((marks[0] in found) + (marks[3] in found))

    told = []
    layers = layers_by_score(model, score, report=told.append)
    scores = random_scores(read_architecture(model.config.to_dict())).by_layers(layers)
    assert kept_layers(scores, 2) == (0, 3)
    assert kept_layers(scores, 3) == (0, 2, 3)
    plan = plan_pruning(scores, replace(scores.architecture, num_layers=2))
    assert plan.layers == (0, 3)
    assert (told[-1].done, told[-1].total) == (9, 9)


def test_a_score_that_is_no_number_keeps_the_layer():
    model = tiny_model()
    second = model.model.layers[1].self_attn.q_proj.weight[0, 0].item()

    def score(student):
        marks = [layer.self_attn.q_proj.weight[0, 0].item() for layer in student.model.layers]
        return 1.0 if second in marks else math.nan

    assert layers_by_score(model, score, "independent").layers_L.tolist() == [0, math.inf, 0, 0]
    assert kept_layers(
        random_scores(read_architecture(model.config.to_dict())).by_layers(
            layers_by_score(model, score, "iterative")
        ),
        1,
    ) == (1,)
