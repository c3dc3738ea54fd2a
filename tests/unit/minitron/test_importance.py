"""Importance: what is tapped, how it is aggregated, and what the pass leaves behind."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.importance import ImportanceScores, measure_importance
from minitron.plan import plan_pruning
from minitron.recipe import CalibrationRecipe
from tests.tiny import NAMES, SEQUENCE_LENGTH, random_blocks, tiny_model

TENSORS = ("hidden_D", "neurons_LF", "heads_LN", "layers_L")


PARTS = {
    "llama": {
        "layers": "model.layers", "down": "mlp.down_proj", "o": "self_attn.o_proj",
        "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    },
    "gpt2": {
        "layers": "transformer.h", "down": "mlp.c_proj", "o": "attn.c_proj", "norm1": "ln_1", "norm2": "ln_2",
    },
    "gpt_neox": {
        "layers": "gpt_neox.layers", "down": "mlp.dense_4h_to_h", "o": "attention.dense",
        "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    },
}  # fmt: skip
"""Where the papers' formulas look, by family."""
PARTS["gemma2"] = PARTS["gemma3_text"] = PARTS["llama"] | {"norm2": "pre_feedforward_layernorm"}
PARTS["olmo2"] = PARTS["llama"] | {"norm1": "post_attention_layernorm", "norm2": "post_feedforward_layernorm"}


def measure(model, blocks, batch_size=4, fingerprint="f"):
    recipe = CalibrationRecipe(num_tokens=blocks.size, batch_size=batch_size)
    return measure_importance(model, blocks, recipe, fingerprint=fingerprint)


def activations(model, block):
    """Run one block and keep all that importance is made of, as float64 (tokens, channels) arrays."""
    kept, handles = {}, []

    def keep(name, tensor):
        kept[name] = tensor[0].detach().double().numpy()

    taps = PARTS[model.config.model_type] if model.config.model_type in PARTS else PARTS["llama"]
    for index, layer in enumerate(model.get_submodule(taps["layers"])):
        for name in ("down", "o"):
            module = layer.get_submodule(taps[name])
            handles.append(module.register_forward_pre_hook(lambda _, x, key=(name, index): keep(key, x[0])))
        for name in ("norm1", "norm2"):
            module = layer.get_submodule(taps[name])
            handles.append(module.register_forward_hook(lambda _, __, y, key=(name, index): keep(key, y)))
        handles.append(layer.register_forward_pre_hook(lambda _, x, key=("in", index): keep(key, x[0])))
        handles.append(layer.register_forward_hook(lambda _, __, y, key=("out", index): keep(key, y)))
    with torch.no_grad():
        model(input_ids=torch.from_numpy(block[None].astype(np.int64)))
    for handle in handles:
        handle.remove()
    return kept


def naive_scores(model, blocks):
    """The formulas of the paper as loops: one block, one layer, one token at a time."""
    shape = read_architecture(model.config.to_dict())
    runs = [activations(model, block) for block in blocks]
    layers = range(shape.num_layers)

    def aggregate(name, index, channel):
        per_sample = [float(np.mean(np.abs(run[name, index][:, channel]))) for run in runs]
        return math.sqrt(sum(score**2 for score in per_sample))

    def influence(index):
        cosines = []
        for run in runs:
            for x, y in zip(run["in", index], run["out", index], strict=True):
                cosines.append(float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))))
        return 1 - sum(cosines) / len(cosines)

    hidden = [
        sum(aggregate(norm, index, channel) for norm in ("norm1", "norm2") for index in layers)
        for channel in range(shape.hidden_size)
    ]
    neurons = [[aggregate("down", index, j) for j in range(shape.intermediate_size)] for index in layers]
    heads = [
        [
            math.sqrt(
                sum(aggregate("o", index, head * shape.head_dim + c) ** 2 for c in range(shape.head_dim))
            )
            for head in range(shape.num_attention_heads)
        ]
        for index in layers
    ]
    return {
        "hidden_D": hidden, "neurons_LF": neurons, "heads_LN": heads,
        "layers_L": [influence(index) for index in layers],
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_papers_loops(name):
    model, blocks = tiny_model(name), random_blocks(5)
    scores = measure(model, blocks, batch_size=2)
    for tensor, expected in naive_scores(model, blocks).items():
        np.testing.assert_allclose(
            getattr(scores, tensor).numpy(), expected, rtol=2e-5, atol=1e-6, err_msg=tensor
        )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_scores_do_not_depend_on_the_batch_size(batch_size):
    model, blocks = tiny_model(), random_blocks(12)
    scores, expected = measure(model, blocks, batch_size), measure(model, blocks, 12)
    for tensor in TENSORS:
        torch.testing.assert_close(getattr(scores, tensor), getattr(expected, tensor), rtol=2e-6, atol=1e-6)
    target = replace(
        scores.architecture, num_layers=2, hidden_size=24, intermediate_size=9, num_attention_heads=4
    )
    assert plan_pruning(scores, target) == plan_pruning(expected, target)


def test_only_the_first_num_tokens_count():
    model, blocks = tiny_model(), random_blocks(8)
    scores = measure_importance(
        model, blocks, CalibrationRecipe(num_tokens=blocks[:5].size + 1), fingerprint="f"
    )
    assert torch.equal(scores.neurons_LF, measure(model, blocks[:5], 8).neurons_LF)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    model = tiny_model().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, random_blocks(3))
    assert model.training is training
    assert hooks_of(model) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_gone_after_a_failure():
    model = tiny_model().train()
    with pytest.raises(IndexError):
        measure(model, random_blocks(3, vocab_size=10_000))
    assert hooks_of(model) == 0
    assert model.training


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_the_output_head_is_never_run():
    """Logits over a large vocabulary cost more than the rest of a small model."""
    model, runs = tiny_model(), []
    model.lm_head.register_forward_hook(lambda *_: runs.append(1))
    measure(model, random_blocks(3))
    assert not runs


def test_progress_counts_tokens():
    seen = []
    recipe = CalibrationRecipe(num_tokens=5 * SEQUENCE_LENGTH, batch_size=2)
    measure_importance(tiny_model(), random_blocks(5), recipe, fingerprint="f", report=seen.append)
    assert [(progress.done, progress.total, progress.unit) for progress in seen] == [
        (32, 80, "tokens"), (64, 80, "tokens"), (80, 80, "tokens"),
    ]  # fmt: skip


def test_bfloat16_models_are_scored_in_float32():
    model = tiny_model()
    exact, rounded = measure(model, random_blocks(4)), measure(model.bfloat16(), random_blocks(4))
    assert rounded.neurons_LF.dtype == torch.float32
    torch.testing.assert_close(rounded.neurons_LF, exact.neurons_LF, rtol=0.1, atol=0.05)


def test_too_few_blocks():
    with pytest.raises(
        DatasetTooSmall, match=r"calibration.num_tokens: found 144, allowed for this data: at most 48"
    ):
        measure_importance(tiny_model(), random_blocks(3), CalibrationRecipe(num_tokens=144), fingerprint="f")


def test_damaged_weights_are_named():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = torch.nan
    with pytest.raises(UnreadableCheckpoint, match="not finite"):
        measure(model, random_blocks(3))


def test_saved_scores_come_back_equal(tmp_path):
    scores = measure(tiny_model("qwen3"), random_blocks(3), fingerprint="made-from-this")
    scores.save(tmp_path / "deep" / "scores.safetensors")
    loaded = ImportanceScores.load(
        tmp_path / "deep" / "scores.safetensors", expected_fingerprint="made-from-this"
    )
    assert (loaded.architecture, loaded.fingerprint) == (scores.architecture, scores.fingerprint)
    assert all(torch.equal(getattr(loaded, name), getattr(scores, name)) for name in TENSORS)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.safetensors"]


def test_scores_of_something_else_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "scores.safetensors"
    measure(tiny_model(), random_blocks(2), fingerprint="this").save(path)
    with pytest.raises(ArtifactMismatch, match=r"found scores this of metric 2, allowed: that of metric 2"):
        ImportanceScores.load(path, expected_fingerprint="that")
    monkeypatch.setattr("minitron.importance.METRIC_VERSION", 3)
    with pytest.raises(ArtifactMismatch, match="metric 3"):
        ImportanceScores.load(path, expected_fingerprint="this")


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_scores_that_are_no_scores_are_named(tmp_path, content):
    path = tmp_path / "scores.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableCheckpoint, match=r"scores\.safetensors: cannot be read as scores"):
        ImportanceScores.load(path, expected_fingerprint="f")


@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo2"])
def test_shares_of_norms_are_those_of_each_token(name):
    """What a norm gets of each token is divided by its own mean square, so that no loud token drowns the rest."""
    model, blocks = tiny_model(name), random_blocks(3)
    inputs, handles = {}, []
    for key, module in model.named_modules():
        if key == "model.norm" or key.rpartition(".")[2].endswith("layernorm"):
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, x, key=key: inputs.setdefault(key, []).append(x[0].double().flatten(0, 1))
                )
            )
    with torch.no_grad():
        model(input_ids=torch.from_numpy(blocks.astype(np.int64)))
    for handle in handles:
        handle.remove()
    scores = measure(model, blocks, batch_size=2)
    norms = len(scores.norms_MD) // 4
    assert len(scores.norms_MD) == len(inputs) == 4 * norms + 1
    torch.testing.assert_close(scores.norms_MD.mean(dim=1), torch.ones(4 * norms + 1), rtol=1e-5, atol=0)
    for row, key in ((0, "model.layers.0."), (3 * norms, "model.layers.3."), (4 * norms, "model.norm")):
        found = next(tokens[0] for name, tokens in inputs.items() if name.startswith(key))
        share = (found.square() / found.square().mean(dim=1, keepdim=True)).mean(dim=0)
        torch.testing.assert_close(scores.norms_MD[row], share.float(), rtol=1e-4, atol=1e-6)
    assert measure(tiny_model("gpt2"), blocks).norms_MD is None
