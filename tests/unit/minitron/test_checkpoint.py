"""Checkpoint directories: what is loaded, what is refused by name, what is written."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minitron.checkpoint import (
    fingerprint,
    load_parent,
    load_tokenizer,
    save_checkpoint,
    tokenizer_fingerprint,
)
from minitron.errors import PickledCheckpoint, UnreadableCheckpoint, UnsupportedModel
from tests.checkpoints import write_checkpoint
from tests.tiny import logits_of, random_blocks, tiny_model

BLOCKS = random_blocks(2)


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "parent")


def edit_config(directory, **entries):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def edit_weights(directory, edit):
    path = directory / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["llama", "llama-untied", "qwen3", "nemotron"])
def test_a_model_is_loaded_as_it_was_saved(tmp_path, name):
    model = load_parent(write_checkpoint(tmp_path, name))
    assert torch.equal(logits_of(model, BLOCKS), logits_of(tiny_model(name), BLOCKS))
    assert not model.training


def test_half_precision_is_loaded_in_float32(tmp_path):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_parent(tmp_path).parameters()} == {torch.float32}


def test_shards_are_one_model(tmp_path):
    tiny_model().save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(logits_of(load_parent(tmp_path), BLOCKS), logits_of(tiny_model(), BLOCKS))


def test_a_missing_shard_is_named(tmp_path):
    tiny_model().save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(UnreadableCheckpoint, match=shard.name):
        load_parent(tmp_path)


def test_a_damaged_index_is_named(tmp_path):
    tiny_model().save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UnreadableCheckpoint, match=r"index\.json"):
        load_parent(tmp_path)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    """Even a file that would unpickle: nothing of it is read."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(PickledCheckpoint, match=r"pytorch_model\.bin.*convert to safetensors"):
        load_parent(tmp_path)


def test_safetensors_are_taken_where_pickles_lie_beside(checkpoint):
    (checkpoint / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert torch.equal(logits_of(load_parent(checkpoint), BLOCKS), logits_of(tiny_model(), BLOCKS))


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [truncate, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"garbage" * 100)],
    ids=["truncated", "empty", "garbage"],
)
def test_damaged_weights_are_named(checkpoint, damage):
    damage(checkpoint / "model.safetensors")
    with pytest.raises(UnreadableCheckpoint, match=r"model\.safetensors"):
        load_parent(checkpoint)


def test_missing_tensors_are_refused_not_drawn_at_random(checkpoint):
    name = "model.layers.1.mlp.up_proj.weight"
    edit_weights(checkpoint, lambda weights: weights.pop(name))
    with pytest.raises(UnreadableCheckpoint, match=name):
        load_parent(checkpoint)


def test_tensors_of_the_wrong_shape_are_refused(checkpoint):
    edit_config(checkpoint, intermediate_size=32)
    with pytest.raises(UnreadableCheckpoint, match=r"up_proj.*\(40, 48\).*\(32, 48\)"):
        load_parent(checkpoint)


def test_a_directory_without_weights_says_so(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UnreadableCheckpoint, match=r"model\.safetensors"):
        load_parent(checkpoint)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "t5"}, "model_type: found 't5', allowed: llama"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config: found 'awq'"),
        ({"quantization_config": "awq"}, "quantization_config: found 'awq'"),
    ],
)
def test_unsupported_models_are_refused(checkpoint, entries, message):
    edit_config(checkpoint, **entries)
    with pytest.raises(UnsupportedModel, match=message):
        load_parent(checkpoint)


def test_code_of_a_checkpoint_is_never_run(checkpoint):
    """The config asks for it, and a file that would leave a trace lies ready."""
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"})
    (checkpoint / "evil.py").write_text(f"open({str(checkpoint / 'trace')!r}, 'w')")
    load_parent(checkpoint)
    assert not (checkpoint / "trace").exists()


def test_a_fingerprint_is_that_of_the_content(checkpoint, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(checkpoint, copy)
    os.utime(copy / "model.safetensors", (1, 1))
    edit_config(copy, transformers_version="0.0")
    assert fingerprint(copy) == fingerprint(checkpoint)
    assert tokenizer_fingerprint(copy) == tokenizer_fingerprint(checkpoint)


def test_a_fingerprint_changes_with_a_weight_and_with_the_config(checkpoint, tmp_path):
    other_weight, other_config = tmp_path / "weight", tmp_path / "config"
    shutil.copytree(checkpoint, other_weight)
    shutil.copytree(checkpoint, other_config)
    edit_weights(other_weight, lambda weights: weights["model.norm.weight"][0].add_(1e-3))
    edit_config(other_config, rms_norm_eps=1e-3)
    assert len({fingerprint(path) for path in (checkpoint, other_weight, other_config)}) == 3


def test_a_tokenizer_has_a_fingerprint_of_its_own(checkpoint, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"model"', '"modal"'))
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(checkpoint)
    assert fingerprint(other) == fingerprint(checkpoint)


def test_a_student_takes_along_what_belongs_to_it(checkpoint, tmp_path):
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    generation = {"eos_token_id": 1, "temperature": 0.7, "do_sample": True}
    (checkpoint / "generation_config.json").write_text(json.dumps(generation))
    saved = tmp_path / "student"
    save_checkpoint(tiny_model(seed=1), saved, companions=checkpoint, card="# A card")
    assert torch.equal(logits_of(load_parent(saved), BLOCKS), logits_of(tiny_model(seed=1), BLOCKS))
    assert load_tokenizer(saved)("the model prunes")["input_ids"] == [2, 6, 16]
    assert json.loads((saved / "generation_config.json").read_text()) == generation
    assert (saved / "chat_template.jinja").read_text() == "{{ messages }}"
    assert (saved / "README.md").read_text() == "# A card"


def test_a_student_says_nothing_of_quantization(checkpoint, tmp_path):
    model = tiny_model()
    model.config.quantization_config = {"quant_method": "gguf"}
    save_checkpoint(model, tmp_path / "student", companions=checkpoint)
    assert "quantization_config" not in json.loads((tmp_path / "student" / "config.json").read_text())
    assert model.config.quantization_config == {"quant_method": "gguf"}


def test_a_directory_without_tokenizer_says_so(checkpoint):
    for path in checkpoint.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UnreadableCheckpoint, match="holds no tokenizer"):
        load_tokenizer(checkpoint)


def test_a_damaged_tokenizer_is_named(checkpoint):
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(UnreadableCheckpoint, match="tokenizer"):
        load_tokenizer(checkpoint)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(checkpoint):
    edit_config(checkpoint, vocab_size=16)
    with pytest.raises(UnreadableCheckpoint, match=r"tokenizer: found 24 tokens.*at most 16"):
        load_tokenizer(checkpoint)
