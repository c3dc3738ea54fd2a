"""Configs to architectures and back, held to transformers' own configs."""

import json
from dataclasses import replace

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given
from transformers import AutoConfig

from minitron.assemble import empty_model
from minitron.errors import InvalidArchitecture, UnsupportedModel
from minitron.families import (
    FAMILIES,
    family_named,
    num_positions,
    planning_config,
    read_architecture,
    resized,
    student_config,
)
from minitron.parents import BUILTIN_CONFIGS, TINY
from tests.strategies import architectures
from tests.tiny import CONFIGS, NAMES, tiny_config


def test_every_family_has_a_tiny_model():
    assert {config["model_type"] for config in CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_saved_configs_are_read_as_they_were_meant(name, tied, tmp_path):
    """What transformers leaves out of ``config.json`` must not change what we read."""
    entries = tiny_config(name, tie_word_embeddings=tied)
    AutoConfig.for_model(**entries).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert read_architecture(saved) == read_architecture(entries)
    assert read_architecture(saved).tie_word_embeddings is tied


@given(architecture=architectures())
def test_families_refuse_what_transformers_refuses(architecture):
    """Every legal shape is accepted by the real config class; spoiled ones fall with it."""
    family = FAMILIES[architecture.family]
    family.check(architecture)
    assert _transformers_accepts(architecture)
    spoiled = replace(architecture, hidden_size=architecture.hidden_size + 1)
    if architecture.traits.heads_span_hidden and architecture.num_attention_heads == 1:
        return  # and a head of one channel more
    try:
        family.check(spoiled)
    except InvalidArchitecture:
        assert not _transformers_accepts(spoiled)
    else:
        assert _transformers_accepts(spoiled)


def _transformers_accepts(architecture):
    entries = tiny_config(next(name for name in NAMES if CONFIGS[name]["model_type"] == architecture.family))
    entries.pop("layer_types", None)
    try:
        config = AutoConfig.for_model(**student_config(entries, architecture, range(architecture.num_layers)))
        empty_model(config, dtype=torch.float32)
    except (StrictDataclassClassValidationError, ValueError):
        return False
    assert replace(read_architecture(config.to_dict()), traits=architecture.traits) == replace(
        architecture,
        tie_word_embeddings=bool(entries["tie_word_embeddings"]),
    )
    return True


def test_refusal_names_the_field_and_what_is_allowed():
    llama = read_architecture(tiny_config("llama"))
    with pytest.raises(
        InvalidArchitecture, match=r"hidden_size: found 47, allowed for llama: a multiple of the 6"
    ):
        FAMILIES["llama"].check(replace(llama, hidden_size=47))


@pytest.mark.parametrize("model_type", ["t5", None, "bert"])
def test_other_families_are_refused(model_type):
    with pytest.raises(UnsupportedModel, match=r"model_type: found .*, allowed: llama, mistral"):
        family_named(model_type)


def test_a_config_without_sizes_is_refused():
    config = tiny_config("llama")
    del config["hidden_size"], config["vocab_size"]
    with pytest.raises(UnsupportedModel, match=r"hidden_size, vocab_size: missing"):
        read_architecture(config)


def test_student_config_keeps_everything_but_the_shape():
    parent = tiny_config("qwen2", rope_theta=5e5, quantization_config={"bits": 4}, attention_dropout=0.1)
    target = replace(read_architecture(parent), num_layers=2, hidden_size=40, intermediate_size=20)
    student = student_config(parent, target, (0, 3))
    assert student["layer_types"] == ["full_attention", "sliding_attention"]
    assert student["rope_theta"] == 5e5
    assert student["head_dim"] == 8
    assert student["attention_dropout"] == 0
    assert "quantization_config" not in student
    assert parent["num_hidden_layers"] == 4
    assert len(parent["layer_types"]) == 4
    assert read_architecture(student) == target


@pytest.mark.parametrize(
    ("name", "size"),
    [("hidden_size", "big"), ("num_attention_heads", 0), ("vocab_size", 1.5), ("head_dim", -1)],
)
def test_a_size_that_is_none_is_named(name, size):
    config = BUILTIN_CONFIGS[TINY] | {name: size}
    with pytest.raises(
        UnsupportedModel, match=rf"^config.json: {name}: found {size!r}, allowed: a whole number"
    ):
        read_architecture(config)


def test_missing_heads_are_named():
    config = {name: value for name, value in BUILTIN_CONFIGS[TINY].items() if name != "num_attention_heads"}
    with pytest.raises(UnsupportedModel, match="num_attention_heads: missing"):
        read_architecture(config)


@pytest.mark.parametrize(
    ("name", "lists", "gone"),
    [
        ("smollm3", {"no_rope_layers": [1, 0], "layer_types": ["full_attention", "sliding_attention"]}, 3),
        ("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"]}, 3),
        ("gemma2", {"layer_types": ["sliding_attention", "sliding_attention"]}, None),
    ],
)
def test_lists_that_follow_from_a_pattern_are_cut_and_stand_alone(name, lists, gone, tmp_path):
    """Layers 0 and 2 of a parent whose config gives a pattern only; a reload must not make its own of it."""
    parent = AutoConfig.for_model(**tiny_config(name)).to_dict()
    target = replace(read_architecture(parent), num_layers=2)
    AutoConfig.for_model(**student_config(parent, target, (0, 2))).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved | lists == saved
    assert gone is None or gone not in {
        saved.get(pattern) for pattern in ("no_rope_layer_interval", "_sliding_window_pattern")
    }
    again = AutoConfig.from_pretrained(tmp_path)
    assert {entry: getattr(again, entry) for entry in lists} == lists


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("gpt2", "scale_attn_by_inverse_layer_idx"),
        ("gpt2", "add_cross_attention"),
        ("gemma2", "use_bidirectional_attention"),
    ],
)
def test_what_would_not_survive_pruning_is_refused(name, entry):
    with pytest.raises(
        UnsupportedModel, match=rf"^config.json: {entry}: found true, allowed for {name}: false$"
    ):
        read_architecture(tiny_config(name, **{entry: True}))


@pytest.mark.parametrize("name", NAMES)
def test_the_entries_for_planning_say_as_much(name):
    """What a search keeps of a parent's config gives the same shape, and its positions."""
    config = tiny_config(name)
    planned = json.loads(json.dumps(planning_config(config)))
    assert read_architecture(planned) == read_architecture(config)
    assert num_positions(planned) == num_positions(config) == 512


def test_sizes_that_follow_from_others_follow():
    gpt2 = read_architecture(tiny_config("gpt2"))
    for sizes in ({"hidden_size": 32}, {"num_attention_heads": 4}):
        student = resized(gpt2, sizes)
        assert (student.hidden_size, student.num_attention_heads, student.num_key_value_heads) == (32, 4, 4)
        FAMILIES["gpt2"].check(student)
    with pytest.raises(InvalidArchitecture, match="hidden_size: found 36, allowed for gpt2: 4 heads times 8"):
        FAMILIES["gpt2"].check(resized(gpt2, {"hidden_size": 36}))
    with pytest.raises(InvalidArchitecture, match="num_key_value_heads: found 6, allowed for gpt2: as many"):
        FAMILIES["gpt2"].check(replace(gpt2, num_attention_heads=12, hidden_size=96))
