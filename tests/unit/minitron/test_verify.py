"""A checkpoint is believed when a fresh process with stock transformers agrees."""

import json

import pytest
import torch

from minitron.architecture import Architecture
from minitron.checkpoint import save_checkpoint
from minitron.errors import ArtifactMismatch
from minitron.families import read_architecture
from minitron.verify import verify_reload
from tests.checkpoints import write_checkpoint
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("parents") / "parent")


def count(model) -> int:
    architecture = read_architecture(model.config.to_dict())
    assert isinstance(architecture, Architecture)
    return architecture.parameter_count


def test_a_checkpoint_that_is_what_it_should_be_passes(checkpoint, tmp_path):
    model = tiny_model().train()
    save_checkpoint(model, tmp_path / "saved", companions=checkpoint)
    verify_reload(tmp_path / "saved", model, expected_parameters=count(model))
    assert model.training


def test_other_weights_are_found(checkpoint):
    """One weight of one norm, off by a tenth, under the same parameter count."""
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] += 0.1
    with pytest.raises(ArtifactMismatch, match="logits differ"):
        verify_reload(checkpoint, model, expected_parameters=count(model))


def test_another_parameter_count_is_found(checkpoint):
    model = tiny_model()
    with pytest.raises(ArtifactMismatch, match=f"found {count(model)} parameters.*{count(model) + 1}"):
        verify_reload(checkpoint, model, expected_parameters=count(model) + 1)


def test_what_transformers_refuses_is_told_in_its_words(checkpoint, tmp_path):
    model = tiny_model()
    save_checkpoint(model, tmp_path / "saved", companions=checkpoint)
    path = tmp_path / "saved" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_attention_heads": 5}))
    with pytest.raises(ArtifactMismatch, match=r"cannot be reloaded by transformers: .*attention heads"):
        verify_reload(tmp_path / "saved", model, expected_parameters=count(model))
