"""Importance: what is tapped, how it is aggregated, and what the pass leaves behind."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.importance import ImportanceScores, measure_importance
from minitron.plan import kept_layers, plan_pruning
from minitron.recipe import CalibrationRecipe
from tests.formulas import PAIRS, along
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


PAPERS = {"metric": "activation", "sequence_aggregation": "mean", "batch_aggregation": "l2"}


def measure(model, blocks, batch_size=4, fingerprint="f", valid=None, **fields):
    recipe = CalibrationRecipe(num_tokens=blocks.size, batch_size=batch_size, **fields)
    return measure_importance(model, blocks, recipe, fingerprint=fingerprint, valid_NT=valid)


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

    def aggregate(values_of):
        per_sample = [float(np.mean(np.abs(values_of(run)))) for run in runs]
        return math.sqrt(sum(score**2 for score in per_sample))

    def channel(name, index, number):
        return aggregate(lambda run: run[name, index][:, number])

    def head(index, number):
        channels = slice(number * shape.head_dim, (number + 1) * shape.head_dim)
        return aggregate(lambda run: [np.linalg.norm(token) for token in run["o", index][:, channels]])

    def influence(index):
        cosines = []
        for run in runs:
            for x, y in zip(run["in", index], run["out", index], strict=True):
                cosines.append(float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))))
        return 1 - sum(cosines) / len(cosines)

    hidden = [
        sum(channel(norm, index, number) for norm in ("norm1", "norm2") for index in layers)
        for number in range(shape.hidden_size)
    ]
    neurons = [[channel("down", index, j) for j in range(shape.intermediate_size)] for index in layers]
    heads = [[head(index, number) for number in range(shape.num_attention_heads)] for index in layers]
    return {
        "hidden_D": hidden, "neurons_LF": neurons, "heads_LN": heads,
        "layers_L": [influence(index) for index in layers],
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_papers_loops(name):
    model, blocks = tiny_model(name), random_blocks(5)
    scores = measure(model, blocks, batch_size=2, **PAPERS)
    for tensor, expected in naive_scores(model, blocks).items():
        np.testing.assert_allclose(
            getattr(scores, tensor).numpy(), expected, rtol=2e-5, atol=1e-6, err_msg=tensor
        )


@pytest.mark.parametrize("metric", ["activation", "weighted"])
@pytest.mark.parametrize(("sequence", "batch"), PAIRS)
def test_every_pair_of_aggregations_is_that_of_the_activations(metric, sequence, batch):
    """Against float64 on the whole of what was seen; neurons stand for all taps."""
    model, blocks = tiny_model(), random_blocks(7)
    fields = {"metric": metric, "sequence_aggregation": sequence, "batch_aggregation": batch}
    scores = measure(model, blocks, batch_size=3, **fields)
    runs = [activations(model, block) for block in blocks]
    for index, layer in enumerate(model.model.layers):
        values_NTF = np.stack([run["down", index] for run in runs])
        if metric == "weighted":
            values_NTF = values_NTF * layer.mlp.down_proj.weight.detach().double().norm(dim=0).numpy()
        expected = along(along(values_NTF, sequence, axis=1), batch, axis=0)
        np.testing.assert_allclose(scores.neurons_LF[index].numpy(), expected, rtol=5e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["llama", "mistral", "nemotron"])
def test_a_weighted_head_is_the_norm_of_what_it_adds(name):
    model, blocks = tiny_model(name), random_blocks(4)
    scores = measure(model, blocks, metric="weighted", sequence_aggregation="l2", batch_aggregation="l2")
    shape = scores.architecture
    runs = [activations(model, block) for block in blocks]
    for index, layer in enumerate(model.model.layers):
        weight_DC = layer.self_attn.o_proj.weight.detach().double().numpy()
        for head in range(shape.num_attention_heads):
            channels = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
            added = [run["o", index][:, channels] @ weight_DC[:, channels].T for run in runs]
            assert float(scores.heads_LN[index, head]) == pytest.approx(
                math.sqrt(sum(float((each**2).sum()) for each in added)), rel=1e-5
            )


@pytest.mark.parametrize(("sequence", "batch"), PAIRS)
@pytest.mark.parametrize("name", ["llama", "nemotron"])
def test_a_weighted_hidden_channel_is_what_stands_in_the_residual_stream(name, sequence, batch):
    model, blocks = tiny_model(name), random_blocks(4)
    scores = measure(model, blocks, metric="weighted", sequence_aggregation=sequence, batch_aggregation=batch)
    runs = [activations(model, block) for block in blocks]
    last = model.config.num_hidden_layers - 1
    taps = [("in", index) for index in range(last + 1)] + [("out", last)]
    expected = sum(
        along(along(np.stack([run[tap] for run in runs]), sequence, axis=1), batch, axis=0) for tap in taps
    )
    np.testing.assert_allclose(scores.hidden_D.numpy(), expected, rtol=5e-5)


@pytest.mark.parametrize("metric", ["activation", "weighted", "weight"])
@pytest.mark.parametrize(("sequence", "batch"), PAIRS)
def test_the_dead_score_lowest(metric, sequence, batch):
    model = tiny_model()
    layer, final = model.model.layers[2], model.model.norm
    with torch.no_grad():
        layer.mlp.up_proj.weight[5] = 0
        layer.mlp.gate_proj.weight[5] = 0
        layer.mlp.down_proj.weight[:, 5] = 0
        layer.self_attn.o_proj.weight[:, 16:24] = 0
        layer.self_attn.q_proj.weight[16:24] = 0
        layer.self_attn.v_proj.weight[:8] = 0  # of the first group, whose heads are 0 to 2
        for norm in (final, *(module for each in model.model.layers for module in
                              (each.input_layernorm, each.post_attention_layernorm))):  # fmt: skip
            norm.weight[7] = 0
        for parameter in model.parameters():
            if parameter.ndim == 2 and parameter.shape[0] == 48:
                parameter[7] = 0
            if parameter.ndim == 2 and parameter.shape[1] == 48:
                parameter[:, 7] = 0
    scores = measure(
        model, random_blocks(6), metric=metric, sequence_aggregation=sequence, batch_aggregation=batch
    )
    assert int(scores.neurons_LF[2].argmin()) == 5
    assert scores.heads_LN[2].argmin() <= 2
    assert float(scores.heads_LN[2, 2]) == float(scores.heads_LN[2].min())
    assert int(scores.hidden_D.argmin()) == 7


@pytest.mark.parametrize("factor", [0.01, 3.0, 100.0])
def test_what_a_neuron_adds_is_what_counts_not_where_its_scale_stands(factor):
    """The same function with activations times c and down projection through c has the same weighted scores."""
    model, blocks = tiny_model(), random_blocks(4)
    fields = {"metric": "weighted", "sequence_aggregation": "l2", "batch_aggregation": "l2"}
    before, activation = measure(model, blocks, **fields), measure(model, blocks, metric="activation")
    layer = model.model.layers[1]
    with torch.no_grad():
        layer.mlp.up_proj.weight[4] *= factor
        layer.mlp.down_proj.weight[:, 4] /= factor
        layer.self_attn.v_proj.weight[:8] *= factor
        layer.self_attn.o_proj.weight[:, :24] /= factor
    after = measure(model, blocks, **fields)
    torch.testing.assert_close(after.neurons_LF, before.neurons_LF, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.heads_LN, before.heads_LN, rtol=1e-4, atol=1e-5)
    moved = measure(model, blocks, metric="activation").neurons_LF[1, 4] / activation.neurons_LF[1, 4]
    assert float(moved) == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "nemotron"])
@pytest.mark.parametrize("depth_metric", ["block_influence", "lm_loss", "kl", "logit_error"])
def test_padding_changes_nothing(name, depth_metric):
    model, blocks = tiny_model(name), random_blocks(5)
    padded = np.pad(blocks, ((0, 0), (0, 7)), constant_values=3)
    valid = np.arange(padded.shape[1]) < np.array([[16], [16], [16], [16], [16]])
    expected = measure(model, blocks, depth_metric=depth_metric)
    found = measure(model, padded, valid=valid, depth_metric=depth_metric)
    for tensor in TENSORS:
        torch.testing.assert_close(getattr(found, tensor), getattr(expected, tensor), rtol=2e-4, atol=1e-5)


def test_weights_alone_need_no_forward_pass():
    model, runs = tiny_model("qwen2"), []
    model.model.register_forward_hook(lambda *_: runs.append(1))
    measure(model, random_blocks(2), metric="weight", depth_selection="independent")
    assert len(runs) == 1, "block influence alone needs it"


def test_weight_scores_are_the_norms_of_all_that_a_unit_owns():
    model = tiny_model("llama-biased")
    scores = measure(model, random_blocks(1), metric="weight")
    mlp, attention = model.model.layers[3].mlp, model.model.layers[3].self_attn
    neuron = [mlp.gate_proj.weight[9], mlp.up_proj.weight[9], mlp.down_proj.weight[:, 9],
              mlp.gate_proj.bias[9:10], mlp.up_proj.bias[9:10]]  # fmt: skip
    head = [attention.q_proj.weight[8:16], attention.q_proj.bias[8:16], attention.o_proj.weight[:, 8:16]]
    assert float(scores.neurons_LF[3, 9]) == pytest.approx(norm_of(neuron), rel=1e-5)
    assert float(scores.heads_LN[3, 1]) == pytest.approx(norm_of(head), rel=1e-5)
    assert float(scores.hidden_D.square().sum()) == pytest.approx(
        sum(float(parameter.detach().double().square().sum()) * hidden_dimensions(name)
            for name, parameter in model.named_parameters()), rel=1e-5,
    )  # fmt: skip


def hidden_dimensions(name):
    """Over all channels, a weight counts once: each of its matrices has one dimension that is hidden."""
    return 0 if re.search(r"(q|k|v|gate|up)_proj\.bias", name) else 1


def norm_of(tensors):
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


def test_random_scores_are_fixed_by_their_seed():
    model, blocks = tiny_model(), random_blocks(1)
    first, again, other = (measure(model, blocks, metric="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.neurons_LF, again.neurons_LF)
    assert not torch.equal(first.neurons_LF, other.neurons_LF)


@pytest.mark.parametrize("metric", ["activation", "weighted"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_scores_do_not_depend_on_the_batch_size(batch_size, metric):
    model, blocks = tiny_model(), random_blocks(12)
    scores = measure(model, blocks, batch_size, metric=metric)
    expected = measure(model, blocks, 12, metric=metric)
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
    recipe = CalibrationRecipe(
        num_tokens=5 * SEQUENCE_LENGTH, batch_size=2, depth_metric="kl", depth_tokens=3 * SEQUENCE_LENGTH
    )
    measure_importance(tiny_model(), random_blocks(5), recipe, fingerprint="f", report=seen.append)
    assert [(progress.done, progress.total, progress.unit) for progress in seen] == [
        (32, 80, "tokens"), (64, 80, "tokens"), (80, 80, "tokens"), (2, 3, "blocks"), (3, 3, "blocks"),
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


@pytest.mark.parametrize("metric", ["activation", "weighted", "weight", "random"])
@pytest.mark.parametrize("depth_metric", ["block_influence", "lm_loss", "kl", "logit_error"])
@pytest.mark.parametrize("selection", ["independent", "iterative", "contiguous"])
def test_damaged_weights_are_named(metric, depth_metric, selection):
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = torch.nan
    with pytest.raises(UnreadableCheckpoint, match="not finite"):
        measure(model, random_blocks(3), metric=metric, depth_metric=depth_metric, depth_selection=selection)


def test_saved_scores_come_back_equal(tmp_path):
    scores = measure(tiny_model("qwen3"), random_blocks(3), fingerprint="made-from-this")
    scores.save(tmp_path / "deep" / "scores.safetensors")
    loaded = ImportanceScores.load(
        tmp_path / "deep" / "scores.safetensors", expected_fingerprint="made-from-this"
    )
    assert (loaded.architecture, loaded.fingerprint) == (scores.architecture, scores.fingerprint)
    assert all(torch.equal(getattr(loaded, name), getattr(scores, name)) for name in TENSORS)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.safetensors"]


@pytest.mark.parametrize("depth_metric", ["block_influence", "lm_loss", "kl", "logit_error"])
@pytest.mark.parametrize("selection", ["independent", "iterative", "contiguous"])
def test_every_choice_of_layers_is_stored_and_decides_the_same(tmp_path, depth_metric, selection):
    scores = measure(tiny_model(), random_blocks(3), depth_metric=depth_metric, depth_selection=selection)
    scores.save(tmp_path / "scores.safetensors")
    loaded = ImportanceScores.load(tmp_path / "scores.safetensors", expected_fingerprint="f")
    assert (loaded.blocks_RL is None) == (selection != "contiguous")
    for depth in range(1, 5):
        kept = kept_layers(scores, depth)
        assert len(kept) == depth
        assert kept_layers(loaded, depth) == kept


def test_depth_is_told_by_the_first_depth_tokens():
    model, blocks = tiny_model(), random_blocks(6)
    few = measure(
        model, blocks, depth_metric="kl", depth_tokens=2 * SEQUENCE_LENGTH, depth_selection="independent"
    )
    assert torch.equal(few.layers_L, measure(model, blocks[:2], depth_metric="kl").layers_L)
    assert torch.equal(few.neurons_LF, measure(model, blocks).neurons_LF)


@pytest.mark.parametrize("selection", ["independent", "iterative", "contiguous"])
def test_block_influence_is_told_to_every_depth_whoever_asks(selection):
    """It is cheap, so that searches of other depths share the scores."""
    model, blocks = tiny_model(), random_blocks(2)
    recipe = CalibrationRecipe(num_tokens=blocks.size, depth_selection=selection)
    scores = measure_importance(model, blocks, recipe, fingerprint="f", fewest_layers=3)
    assert [len(kept_layers(scores, depth)) for depth in range(1, 5)] == [1, 2, 3, 4]


def test_block_influence_is_the_same_in_the_pass_of_width_and_in_its_own():
    model, blocks = tiny_model(), random_blocks(6)
    found = [measure(model, blocks, depth_selection=each).layers_L for each in ("contiguous", "independent")]
    torch.testing.assert_close(*found)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("layers_L"), r"layers_L: found none, allowed for L4-\S+: the shape \(4,\)"),
        (
            lambda held: held.update(heads_LN=held["heads_LN"][:2].clone()),
            r"heads_LN: found the shape \(2, 6\), allowed for L4-\S+: the shape \(4, 6\)",
        ),
        (
            lambda held: held.update(blocks_RL=torch.zeros(2, 6)),
            r"blocks_RL: found the shape \(2, 6\), allowed",
        ),
        (lambda held: held["hidden_D"].fill_(float("nan")), "hidden_D: found nan, allowed: numbers"),
        (None, "architecture: cannot be read: KeyError"),
    ],
    ids=["none", "layers", "blocks", "nan", "architecture"],
)
def test_scores_that_fit_no_model_are_named(tmp_path, change, message):
    """Whoever wrote them: a file of scores may have been edited."""
    path = tmp_path / "scores.safetensors"
    measure(tiny_model(), random_blocks(2), fingerprint="f").save(path)
    with safe_open(path, framework="pt") as file:
        metadata, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if change is None:
        del metadata["architecture"]
    else:
        change(held)
    save_file(held, path, metadata=metadata)
    with pytest.raises(UnreadableCheckpoint, match=rf"^{path}: {message}"):
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
