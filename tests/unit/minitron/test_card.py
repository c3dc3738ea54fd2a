"""The model card: metadata that Hugging Face can read, and all that made the student."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from minitron.card import model_card
from minitron.parents import SMOLLM2, parent_architecture
from minitron.recipe import DataRecipe, DataSource, TrainingRecipe

BEFORE = parent_architecture(SMOLLM2)
AFTER = replace(BEFORE, num_layers=20)


def card(parent=SMOLLM2, **more):
    facts = {
        "title": "small",
        "parent_fingerprint": "abc",
        "before": BEFORE,
        "after": AFTER,
        "recipes": {},
        "losses": {},
    }
    return model_card(parent=parent, **(facts | more))


@pytest.mark.parametrize(
    ("parent", "base_model"),
    [
        (SMOLLM2, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (f"hub:org/llama@{'0' * 40}#x.gguf", "org/llama"),
        ("builtin:tiny", None),
        ("/models/my: llama", None),
    ],
)
def test_the_head_is_metadata_that_the_hub_takes(parent, base_model):
    """It names a model of the hub or none: what is no such name is refused there."""
    text = card(parent)
    _, head, _ = text.split("---\n", 2)
    expected = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["minitron", "pruning", "distillation"],
    }
    assert yaml.safe_load(head) == ({"base_model": base_model} if base_model else {}) | expected
    data = ModelCard(text).data
    assert (data.base_model, data.library_name) == (base_model, "transformers")
    assert data.to_dict() == yaml.safe_load(head)


def test_a_card_for_the_world_tells_no_folders():
    text = card("/home/me/my-llama", recipes={"data": DataRecipe(source="/home/me/secret/text.jsonl")})
    assert "/home" not in text
    assert "`my-llama`" in text
    assert "| source | text.jsonl |" in text


def test_it_tells_lineage_shapes_losses_and_recipes():
    text = card(
        recipes={"data": DataRecipe(), "training": TrainingRecipe(num_tokens=123_456)},
        losses={"parent": 2.34567, "student": 2.5},
    )
    assert f"from {BEFORE.parameter_count:,} to {AFTER.parameter_count:,} parameters" in text
    assert "`builtin:smollm2-135m`, SHA-256 of its config and weights `abc`" in text
    for row in (
        "| num_layers | 30 | 20 |",
        "| parent | 2.3457 |",
        "| student | 2.5000 |",
        "| num_tokens | 123,456 |",
    ):
        assert row in text
    assert "AutoModelForCausalLM.from_pretrained" in text


def test_a_blend_is_told_source_by_source():
    blend = (DataSource(source="hub:a/b@123", config="en", weight=3), DataSource(source="x.jsonl"))
    text = card(recipes={"data": DataRecipe(source=blend, validation=blend[1])})
    assert (
        "| source | hub:a/b@123 (weight 3, config en, split train); x.jsonl (weight 1.0, split train) |"
        in text
    )
    assert "| validation | x.jsonl (weight 1.0, split train) |" in text
    assert "| validation | None |" in card(recipes={"data": DataRecipe()})


def test_what_is_not_known_is_left_out():
    assert "Held-out loss" not in card()
    assert "Recipe" not in card()
