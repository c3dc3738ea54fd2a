"""One loss curve, committed: a change of any number on the way from scores to loss shows here.

``UPDATE_GOLDEN=1 pytest tests/golden`` writes it anew; say in the commit why it moved.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minitron.evaluate import held_out_loss
from minitron.families import read_architecture
from minitron.importance import measure_importance
from minitron.plan import plan_pruning
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, DistillationRecipe, TrainingRecipe
from minitron.teacher import build_teacher_cache, open_teacher_cache
from minitron.train import Retraining
from tests.tiny import SEQUENCE_LENGTH, text_blocks, tiny_model

GOLDEN = Path(__file__).with_name("loss_curve.json")
CPU = torch.device("cpu")
STEP = 8 * SEQUENCE_LENGTH


def loss_curve(directory):
    """Train a parent on generated text, prune it by its scores, distil it from its cached answers."""
    blocks, held_out, calibration = text_blocks(96), text_blocks(16, seed=1), text_blocks(16, seed=2)
    distillation = DistillationRecipe(top_k=16)
    parent = tiny_model()
    recipe = TrainingRecipe(
        num_tokens=60 * STEP, batch_tokens=STEP, peak_learning_rate=5e-3, precision="float32"
    )
    Retraining(parent, blocks, None, training=recipe, distillation=distillation, device=CPU).advance(
        60 * STEP
    )

    scores = measure_importance(
        parent, calibration, CalibrationRecipe(num_tokens=calibration.size), fingerprint="golden"
    )
    source = read_architecture(parent.config.to_dict())
    target = replace(source, num_layers=3, hidden_size=36, intermediate_size=24, num_attention_heads=4)
    student = prune(parent, plan_pruning(scores, target))
    build_teacher_cache(parent, blocks, distillation, directory / "t", fingerprint="golden", batch_size=8)
    run = Retraining(
        student, blocks, open_teacher_cache(directory / "t", expected_fingerprint="golden", head=None),
        training=replace(recipe, num_tokens=30 * STEP, warmup_tokens=2 * STEP),
        distillation=distillation, device=CPU,
    )  # fmt: skip
    points = [{"num_tokens": 0, "loss": held_out_loss(student, held_out)}]
    for _ in range(6):
        train_loss = run.advance(run.num_tokens + 5 * STEP)
        loss = held_out_loss(student, held_out)
        points.append({"num_tokens": run.num_tokens, "train_loss": train_loss, "loss": loss})
    return {"parent_loss": held_out_loss(parent, held_out), "points": points}


def test_the_loss_curve_is_the_committed_one(tmp_path):
    curve = loss_curve(tmp_path)
    losses = [point["loss"] for point in curve["points"]]
    assert losses == sorted(losses, reverse=True), "a curve that does not fall would prove nothing"
    if "UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps(curve, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert curve["parent_loss"] == pytest.approx(golden["parent_loss"], rel=2e-3)
    for point, expected in zip(curve["points"], golden["points"], strict=True):
        assert point == pytest.approx(expected, rel=2e-3)
