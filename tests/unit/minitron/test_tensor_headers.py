"""What a checkpoint lacks is told from its headers as transformers would tell it, for every family."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from minitron.checkpoint_files import check_weights
from minitron.errors import UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.parents import check_parent, read_config
from minitron.tensor_headers import check_tensors, expected_tensors
from tests.checkpoints import write_checkpoint
from tests.parity.configs import CONFIGS
from tests.tiny import NAMES, tiny_model


@pytest.mark.parametrize("name", NAMES)
def test_the_expected_tensors_are_those_of_the_real_model(name):
    """All of them, by name and shape; what is stored on the disk, under whatever name, is complete."""
    model = tiny_model(name)
    expected = dict(expected_tensors(read_architecture(model.config.to_dict())))
    assert expected == {name: tuple(weight.shape) for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_published_models_have_as_many_parameters_as_are_expected(name):
    architecture = read_architecture(CONFIGS[name])
    assert (
        sum(math.prod(shape) for _, shape in expected_tensors(architecture)) == architecture.parameter_count
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_that_is_missing_is_refused(name, tmp_path):
    write_checkpoint(tmp_path, name)
    config, path = read_config(str(tmp_path)), tmp_path / "model.safetensors"
    check_weights(tmp_path, config)
    architecture = read_architecture(config)
    stored = {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
    for lacking in stored:
        with pytest.raises(UnreadableCheckpoint, match=r"^here: tensors are missing: \S+$"):
            check_tensors({key: stored[key] for key in stored if key != lacking}, architecture, "here")
        other = stored | {lacking: (7, *stored[lacking][1:])}
        with pytest.raises(
            UnreadableCheckpoint, match=r"tensors have the wrong shape: \S+ \(found \(7,.*allowed"
        ):
            check_tensors(other, architecture, "here")


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_files_may_call_tensors_as_published_ones_do(name, tmp_path):
    """GPT-2 without its prefix, Pythia with ``embed_out``."""
    write_checkpoint(tmp_path, name)
    path = tmp_path / "model.safetensors"
    old = {"transformer.": "", "lm_head.": "embed_out."}
    weights = load_file(path)
    renamed = {}
    for key, tensor in weights.items():
        begin = next((begin for begin in old if key.startswith(begin)), "")
        renamed[old.get(begin, "") + key.removeprefix(begin)] = tensor
    save_file(renamed, path, metadata={"format": "pt"})
    assert check_parent(str(tmp_path)).family == name


def test_of_a_tied_table_files_may_hold_either_end():
    model = tiny_model("llama")
    stored = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    stored["lm_head.weight"] = stored.pop("model.embed_tokens.weight")
    check_tensors(stored, read_architecture(model.config.to_dict()), "here")


def test_names_that_nobody_knows_here_are_left_to_transformers():
    architecture = read_architecture(tiny_model().config.to_dict())
    check_tensors({"embed_tokens.weight": (1, 1)}, architecture, "here")


def test_a_parent_that_lacks_a_tensor_is_told_without_loading_it(tmp_path):
    path = write_checkpoint(tmp_path) / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = torch.zeros(47)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(
        UnreadableCheckpoint, match=r"model\.norm\.weight \(found \(47,\), allowed by config.json: \(48,\)"
    ):
        check_parent(str(tmp_path))
