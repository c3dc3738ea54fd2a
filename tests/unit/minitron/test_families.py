"""Configs to architectures and back, held to transformers' own configs."""

import json
from dataclasses import replace

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given
from transformers import AutoConfig

from minitron.errors import InvalidArchitecture, UnsupportedModel
from minitron.families import FAMILIES, family_named, read_architecture, student_config
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
    except StrictDataclassClassValidationError:
        return False
    assert replace(read_architecture(config.to_dict()), traits=architecture.traits) == replace(
        architecture,
        tie_word_embeddings=bool(entries["tie_word_embeddings"]),
        vocab_size=entries["vocab_size"],
    )
    return True


def test_refusal_names_the_field_and_what_is_allowed():
    llama = read_architecture(tiny_config("llama"))
    with pytest.raises(
        InvalidArchitecture, match=r"hidden_size: found 47, allowed for llama: a multiple of the 6"
    ):
        FAMILIES["llama"].check(replace(llama, hidden_size=47))


@pytest.mark.parametrize("model_type", ["gpt2", None, "bert"])
def test_other_families_are_refused(model_type):
    with pytest.raises(UnsupportedModel, match=r"model_type: found .*, allowed: llama, mistral"):
        family_named(model_type)


def test_a_config_without_sizes_is_refused():
    config = tiny_config("llama")
    del config["hidden_size"], config["vocab_size"]
    with pytest.raises(UnsupportedModel, match=r"hidden_size, vocab_size: missing"):
        read_architecture(config)


def test_student_config_keeps_everything_but_the_shape():
    parent = tiny_config("qwen2", rope_theta=5e5, quantization_config={"bits": 4})
    target = replace(read_architecture(parent), num_layers=2, hidden_size=40, intermediate_size=20)
    student = student_config(parent, target, (0, 3))
    assert student["layer_types"] == ["full_attention", "sliding_attention"]
    assert student["rope_theta"] == 5e5
    assert student["head_dim"] == 8
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
