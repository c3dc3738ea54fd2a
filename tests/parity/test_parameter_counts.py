"""Our parameter counts against transformers' own models, and against what the papers and cards print."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from transformers import AutoConfig, AutoModelForCausalLM

from minitron.families import FAMILIES, read_architecture, student_config
from tests.parity.configs import CONFIGS
from tests.strategies import architectures
from tests.tiny import NAMES, tiny_config


def real_count(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).num_parameters()


def test_every_family_has_a_real_config():
    assert {config["model_type"] for config in CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", CONFIGS)
def test_real_models_have_the_counted_parameters(name):
    config = CONFIGS[name]
    assert read_architecture(config).parameter_count == real_count(config)


@pytest.mark.parametrize("name", NAMES)
def test_biases_ties_and_norms_are_counted(name):
    config = tiny_config(name)
    assert read_architecture(config).parameter_count == real_count(config)


@pytest.mark.parametrize("name", NAMES)
def test_biases_that_a_family_ignores_are_not_counted(name):
    """Some configs carry entries that transformers reads in other families only."""
    config = tiny_config(name, mlp_bias=True, attention_bias=True)
    assert read_architecture(config).parameter_count == real_count(config)


def test_biases_of_a_plain_mlp_are_counted():
    """Two matrices, so two biases: there is no gate to bias."""
    config = tiny_config("nemotron", mlp_bias=True, attention_bias=True)
    assert read_architecture(config).parameter_count == real_count(config)


@given(architecture=architectures())
@settings(max_examples=40)  # the first model of a family imports its code
def test_any_shape_of_any_family_is_counted(architecture):
    config = student_config(
        {
            "model_type": architecture.family, "tie_word_embeddings": architecture.tie_word_embeddings,
            "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0,
            "n_positions": architecture.traits.learned_positions,
        },
        architecture, range(architecture.num_layers),
    )  # fmt: skip
    assert read_architecture(config) == architecture
    assert real_count(config) == architecture.parameter_count


@pytest.mark.parametrize(
    ("name", "total", "non_embedding"),
    [
        ("Nemotron-4-15B", "15.6", "12.5"),
        ("Nemotron-3-8B", "8.5", "6.4"),
        ("Minitron-8B", "8.27", "6.2"),
        ("Minitron-4B", "4.19", "2.6"),
        ("Llama-3.1-8B", "8.03", "6.98"),
        ("Llama-3.1-Minitron-4B-Width", "4.51", "3.7"),
        ("Llama-3.1-Minitron-4B-Depth", "4.54", "3.49"),
        ("Mistral-NeMo-12B", "12.2", "10.9"),
        ("MN-Minitron-8B", "8.41", "7.3"),
        ("Gemma-2-9B", "9.24", "8.32"),
        ("Phi-3-mini-4k", "3.82", "3.6"),
        ("SmolLM3-3B", "3.08", "2.8"),
        ("OLMo-2-7B", "7.30", "6.48"),
        ("GPT-NeoX-20B", "20.6", "19.9"),
    ],
)
def test_billions_that_papers_and_cards_print(name, total, non_embedding):
    architecture = read_architecture(CONFIGS[name])
    assert in_billions(architecture.parameter_count, like=total) == total
    assert in_billions(architecture.non_embedding_parameters, like=non_embedding) == non_embedding


@pytest.mark.parametrize(
    ("name", "total"),
    [("GPT-2", 124_439_808), ("GPT-2-XL", 1_557_611_200), ("Pythia-160M", 162_322_944)],
)
def test_counts_that_cards_print(name, total):
    assert read_architecture(CONFIGS[name]).parameter_count == total


def test_the_width_ablation_of_the_paper_has_eight_groups():
    """It is the shape of Nemotron-3 8B with 8 KV heads, 7.735 B (printed as 7.74); with 32 it would be 8.5 B."""
    architecture = replace(read_architecture(CONFIGS["Nemotron-3-8B"]), num_key_value_heads=8)
    assert in_billions(architecture.parameter_count, like="7.735") == "7.735"


TABLE_19 = """
1 32 32 12800 5120 8.494   9 30 32 12800 5120 8.127
2 32 32 13824 4608 7.947  10 30 32 16128 4608 8.235
3 32 48 11520 4608 7.871  11 30 48 13824 4608 8.164
4 32 48 16384 4096 8.272  12 30 48 16384 4096 7.886
5 31 32 12800 5120 8.311  13 29 32 12800 5120 7.944
6 31 32 16128 4608 8.430  14 29 32 16128 4608 8.039
7 31 48 13824 4608 8.357  15 29 48 13824 4608 7.970
8 31 48 16384 4096 8.079
"""


def test_candidates_of_the_papers_search():
    """Number, layers, heads, neurons, hidden size and billions of every 8 B candidate."""
    fields = iter(TABLE_19.split())
    rows = list(zip(fields, fields, fields, fields, fields, fields, strict=True))
    assert len(rows) == 15
    parent = read_architecture(CONFIGS["Nemotron-4-15B"])
    for number, layers, heads, neurons, hidden, billions in rows:
        candidate = replace(
            parent, num_layers=int(layers), num_attention_heads=int(heads),
            intermediate_size=int(neurons), hidden_size=int(hidden),
        )  # fmt: skip
        assert in_billions(candidate.parameter_count, like=billions) == billions, number


def in_billions(count, *, like):
    return f"{count / 1e9:.{len(like.partition('.')[2])}f}"
