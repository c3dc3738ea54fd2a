"""The laws of pruning, on a real model of every family."""

import hashlib
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from minitron.errors import ArtifactMismatch, InvalidArchitecture, UnsupportedModel
from minitron.families import resized
from minitron.importance import measure_importance
from minitron.plan import plan_pruning, random_plan
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, PruningRecipe
from tests.dissection import (
    make_kv_heads_equal,
    permute,
    shape_of,
    silence_heads,
    silence_hidden,
    silence_layer,
    silence_neurons,
)
from tests.strategies import targets
from tests.tiny import NAMES, logits_of, random_blocks, tiny_model

BLOCKS = random_blocks(4)
PARENTS = {name: tiny_model(name) for name in NAMES}
"""Shared, because pruning must not touch them; ``test_parents_are_untouched`` looks."""

every_family = pytest.mark.parametrize("name", NAMES)


def scores_of(model):
    return measure_importance(model, BLOCKS, CalibrationRecipe(num_tokens=BLOCKS.size), fingerprint="f")


def smaller(source, **sizes):
    """A shape that is smaller on every axis; where heads span the hidden size, they say what it is."""
    width = {} if source.traits.heads_span_hidden else {"hidden_size": 36}
    return resized(
        source, {"num_layers": 3, "intermediate_size": 22, "num_attention_heads": 4} | width | sizes
    )


def same_function(one, other, tolerance=1e-5):
    """Equal logits up to the rounding of sums in another order."""
    logits, expected = logits_of(one, BLOCKS), logits_of(other, BLOCKS)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def hash_of(model):
    digest = hashlib.sha256(repr(model.config.to_dict()).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


@every_family
def test_the_identity_plan_is_bit_identical(name):
    parent = PARENTS[name]
    student = prune(parent, plan_pruning(scores_of(parent), shape_of(parent)))
    assert torch.equal(logits_of(student, BLOCKS), logits_of(parent, BLOCKS))
    weights = dict(parent.named_parameters())
    assert all(torch.equal(tensor, weights[key]) for key, tensor in student.named_parameters())


@every_family
@given(data=st.data())
@settings(max_examples=15)
def test_the_student_has_exactly_the_parameters_of_the_formula(name, data):
    parent = PARENTS[name]
    target = data.draw(targets(shape_of(parent)))
    student = prune(parent, random_plan(shape_of(parent), target, seed=data.draw(st.integers(0, 99))))
    distinct = {parameter.data_ptr(): parameter.numel() for parameter in student.parameters()}
    assert sum(distinct.values()) == target.parameter_count
    assert student.num_parameters() == target.parameter_count
    assert shape_of(student) == target
    assert torch.isfinite(logits_of(student, BLOCKS[:1])).all()


@every_family
def test_parents_are_untouched(name):
    parent = PARENTS[name]
    before = hash_of(parent)
    student = prune(parent, random_plan(shape_of(parent), smaller(shape_of(parent)), seed=1))
    with torch.no_grad():
        for tensor in [*student.parameters(), *student.buffers()]:
            tensor.zero_()
    student.generation_config.max_new_tokens = 7
    assert hash_of(parent) == before
    assert parent.generation_config.max_new_tokens != 7


@every_family
def test_permuting_neurons_and_heads_with_their_scores_changes_nothing(name):
    """The order of equals in a weight matrix means nothing, so no student may depend on it."""
    parent, permuted = PARENTS[name], tiny_model(name)
    shape = shape_of(parent)
    kv_heads = torch.randperm(shape.num_key_value_heads)
    size = shape.num_attention_heads // shape.num_key_value_heads
    heads = torch.cat([head * size + torch.randperm(size) for head in kv_heads])
    orders = dict.fromkeys(("queries", "heads", "whole_heads"), heads) | {"kv_heads": kv_heads}
    permute(permuted, orders | {"neurons": torch.randperm(40)})
    same_function(permuted, parent)
    target = smaller(shape)
    one = prune(parent, plan_pruning(scores_of(parent), target))
    other = prune(permuted, plan_pruning(scores_of(permuted), target))
    same_function(one, other)


@every_family
def test_permuting_hidden_channels_with_their_scores_changes_nothing(name):
    parent, permuted = PARENTS[name], permute(tiny_model(name), {"hidden": torch.randperm(48)})
    same_function(permuted, parent)
    target = smaller(shape_of(parent))
    one = prune(parent, plan_pruning(scores_of(parent), target))
    other = prune(permuted, plan_pruning(scores_of(permuted), target))
    same_function(one, other)


@every_family
def test_dropping_dead_neurons_changes_nothing(name):
    """A neuron that is never active scores 0, goes first, and is not missed."""
    parent = tiny_model(name)
    silence_neurons(parent, torch.randperm(40)[:18].tolist())
    scores = scores_of(parent)
    assert int((scores.neurons_LF == 0).sum()) == 4 * 18
    student = prune(parent, plan_pruning(scores, replace(shape_of(parent), intermediate_size=22)))
    same_function(student, parent)


@every_family
def test_dropping_dead_heads_changes_nothing(name):
    """Heads 1 and 5, one of each group, reach nothing: the other two of each group are all there is.

    Where heads span the hidden size, as many channels must go with them: see the test of dead channels. Where
    a norm runs over the queries of all heads, a dead one still counts in their mean square. It is silent too
    then, and the norm makes up for their number.
    """
    parent, dead = tiny_model(name), [1, 5]
    shape = shape_of(parent)
    if shape.traits.heads_span_hidden:
        pytest.skip("heads do not go alone")
    silence_heads(parent, dead)
    if shape.traits.qk_norm_spans_heads:
        with torch.no_grad():
            for layer in parent.model.layers:
                layer.self_attn.q_proj.weight.view(6, shape.head_dim, 48)[dead] = 0
    scores = scores_of(parent)
    scores.heads_LN[:, dead] = 0
    student = prune(parent, plan_pruning(scores, replace(shape, num_attention_heads=4)))
    if shape.traits.qk_norm_spans_heads:
        with pytest.raises(AssertionError):
            same_function(student, parent, tolerance=1e-3)
        with torch.no_grad():
            for layer in student.model.layers:
                layer.self_attn.q_norm.weight.mul_(math.sqrt(6 / 4))
    same_function(student, parent, tolerance=1e-3 if shape.traits.qk_norm_spans_heads else 1e-5)


@every_family
def test_dropping_dead_channels_changes_nothing(name):
    """A channel that nothing is written to is not missed, once norms make up for the number of channels.

    RMSNorm divides by the mean square, to which dead channels add nothing but their number: what the recipe
    measures is this ratio. LayerNorm has no such recipe, since its mean shifts too unless it is 0, as here.
    """
    parent = tiny_model(name, rms_norm_eps=1e-9)  # what is added to the mean square does not shrink with it
    shape = shape_of(parent)
    kept = smaller(shape, num_layers=4, intermediate_size=40)
    if not shape.traits.heads_span_hidden:
        kept = replace(kept, num_attention_heads=shape.num_attention_heads)
    dead = torch.randperm(48)[: 48 - kept.hidden_size].tolist()
    silence_hidden(parent, dead)
    dead_heads = [1, 5] if kept.num_attention_heads == 4 else []
    silence_heads(parent, dead_heads)
    scores = scores_of(parent)
    scores.heads_LN[:, dead_heads] = 0
    assert int((scores.hidden_D < 1e-5).sum()) == len(dead)
    has_rms = not shape.traits.norm_bias
    plan = plan_pruning(scores, kept, PruningRecipe(norm_rescaling=has_rms))
    if not has_rms:
        gain = math.sqrt(48 / kept.hidden_size)
        plan = replace(plan, norm_gains=(gain,) * (4 * shape.traits.block_norms + 1))
    assert set(plan.hidden).isdisjoint(dead)
    same_function(prune(parent, plan), parent, tolerance=1e-3)


@every_family
def test_dropping_layers_that_do_nothing_changes_nothing(name):
    """A layer that adds nothing to the residual stream has block influence 0 and goes first."""
    parent = tiny_model(name)
    silence_layer(parent, 2)
    plan = plan_pruning(scores_of(parent), replace(shape_of(parent), num_layers=3))
    assert plan.layers == (0, 1, 3)
    student = prune(parent, plan)
    same_function(student, parent)


shares_keys = pytest.mark.parametrize(
    "name", [name for name in NAMES if not shape_of(PARENTS[name]).traits.heads_span_hidden]
)
"""Families in which several query heads share a KV head, and heads can go without hidden channels."""


@shares_keys
def test_pooling_equal_kv_heads_changes_nothing(name):
    """Their mean is each of them."""
    parent = tiny_model(name)
    make_kv_heads_equal(parent)
    target = replace(shape_of(parent), num_key_value_heads=1)
    plan = plan_pruning(scores_of(parent), target, PruningRecipe(kv_heads="mean"))
    assert plan.kv_heads == (((0, 1),),) * 4
    same_function(prune(parent, plan), parent)


@shares_keys
def test_dropping_a_dead_group_changes_nothing(name):
    """Where a norm runs over all heads it would, as with dead heads."""
    parent, dead = tiny_model(name), [0, 1, 2]
    shape = shape_of(parent)
    if shape.traits.qk_norm_spans_heads:
        pytest.skip("the dead group's queries and keys count in the norms of the others")
    silence_heads(parent, dead)
    scores = scores_of(parent)
    scores.heads_LN[:, dead] = 0
    plan = plan_pruning(scores, replace(shape, num_attention_heads=3, num_key_value_heads=1))
    assert plan.kv_heads == (((1,),),) * 4
    same_function(prune(parent, plan), parent)


@pytest.mark.parametrize("name", ["llama-biased", "qwen2", "phi3"])
def test_merged_heads_take_up_the_difference_to_dropped_ones(name):
    """Query weights and biases alone change, by the paper's formula: head + (head - dropped)."""
    parent = PARENTS[name]
    shape = shape_of(parent)
    target, size = replace(shape, num_attention_heads=4), shape.head_dim
    scores = scores_of(parent)
    plain = prune(parent, plan_pruning(scores, target))
    plan = plan_pruning(scores, target, PruningRecipe(head_merge=True))
    merged, weights = dict(plain.named_parameters()), dict(parent.named_parameters())
    for key, found in prune(parent, plan).named_parameters():
        expected = merged[key].clone()
        if "q_proj" in key or "qkv_proj" in key:
            layer = int(key.split(".")[2])
            assert len(plan.merged_heads[layer]) == 2
            for kept, dropped in plan.merged_heads[layer]:
                rows = slice(*(size * (plan.heads[layer].index(kept) + end) for end in (0, 1)))
                one, other = (weights[key][size * head : size * (head + 1)] for head in (kept, dropped))
                expected[rows] = one + (one - other)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=key)


def test_rescaled_norms_are_the_norms_times_what_their_kept_channels_share():
    """The root of the mean share of the kept channels, norm by norm, and nothing else changes."""
    parent = PARENTS["gemma2"]  # whose norms multiply by one more than their weight
    scores, target = scores_of(parent), replace(shape_of(parent), hidden_size=24, num_layers=2)
    plan = plan_pruning(scores, target, PruningRecipe(norm_rescaling=True))
    plain = dict(prune(parent, replace(plan, norm_gains=())).named_parameters())
    changed = 0
    for key, found in prune(parent, plan).named_parameters():
        if not key.endswith("norm.weight"):
            assert torch.equal(found, plain[key])
            continue
        row, changed = 16, changed + 1
        if key != "model.norm.weight":
            _, _, layer, norm, _ = key.split(".")
            row = 4 * plan.layers[int(layer)] + GEMMA_NORMS.index(norm)
        gain = scores.norms_MD[row, list(plan.hidden)].mean().sqrt()
        torch.testing.assert_close(found + 1, gain * (plain[key] + 1), rtol=1e-5, atol=1e-6)
    assert changed == 2 * 4 + 1


GEMMA_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip


@every_family
def test_students_reload_with_stock_transformers(name, tmp_path):
    parent = PARENTS[name]
    student = prune(parent, random_plan(shape_of(parent), smaller(shape_of(parent)), seed=2))
    student.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits_of(again, BLOCKS), logits_of(student, BLOCKS))
    assert again.num_parameters() == student.num_parameters() == smaller(shape_of(parent)).parameter_count
    assert again.config.tie_word_embeddings is parent.config.tie_word_embeddings
    tied = again.lm_head.weight.data_ptr() == again.get_input_embeddings().weight.data_ptr()
    assert tied is parent.config.tie_word_embeddings


@every_family
def test_layers_are_renumbered_for_the_key_value_cache(name):
    """A stale ``layer_idx`` goes unnoticed in training and breaks generation."""
    parent = PARENTS[name]
    student = prune(parent, random_plan(shape_of(parent), smaller(shape_of(parent), num_layers=2), seed=3))
    prompt = torch.from_numpy(BLOCKS[:1, :5].astype("int64"))
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    cached = student.generate(prompt, attention_mask=mask, use_cache=True, **options)
    plain = student.generate(prompt, attention_mask=mask, use_cache=False, **options)
    assert cached.shape == (1, 13)
    assert torch.equal(cached, plain)


def test_kept_layers_keep_their_own_kind_of_attention():
    parent = PARENTS["qwen2"]
    plan = plan_pruning(scores_of(parent), replace(shape_of(parent), num_layers=3))
    student = prune(parent, plan)
    kinds = [parent.config.layer_types[layer] for layer in plan.layers]
    assert student.config.layer_types == kinds
    assert [layer.self_attn.layer_type for layer in student.model.layers] == kinds


def test_the_student_is_like_the_parent_in_all_else():
    parent = tiny_model().bfloat16()
    parent.generation_config.temperature, parent.generation_config.do_sample = 0.3, True
    parent.config._name_or_path = "/somewhere/on/this/machine"
    student = prune(parent, random_plan(shape_of(parent), smaller(shape_of(parent)), seed=0))
    assert student.dtype == torch.bfloat16
    assert student.config.dtype == torch.bfloat16
    assert student.generation_config.temperature == 0.3
    assert "/somewhere" not in student.config.to_json_string()
    assert not student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not any(tensor.is_meta for tensor in [*student.parameters(), *student.buffers()])


def test_pruning_twice_is_pruning_once():
    """With the same scores, going through a middle size keeps what going straight keeps."""
    parent = PARENTS["mistral"]
    scores, source = scores_of(parent), shape_of(parent)
    middle, small = smaller(source, num_layers=4), smaller(source, intermediate_size=11, num_layers=4)
    straight, first = plan_pruning(scores, small), plan_pruning(scores, middle)
    rest = replace(
        random_plan(middle, middle, seed=0),
        target=small,
        neurons=tuple(
            tuple(kept.index(neuron) for neuron in wanted)
            for kept, wanted in zip(first.neurons, straight.neurons, strict=True)
        ),
    )
    detour = prune(prune(parent, first), rest)
    assert torch.equal(logits_of(detour, BLOCKS), logits_of(prune(parent, straight), BLOCKS))


def test_plans_of_another_model_are_refused():
    plan = random_plan(shape_of(PARENTS["qwen3"]), shape_of(PARENTS["qwen3"]), seed=0)
    with pytest.raises(ArtifactMismatch, match="model: found"):
        prune(PARENTS["llama"], plan)


def test_shapes_that_transformers_refuses_are_refused_here():
    source = shape_of(PARENTS["llama"])
    with pytest.raises(InvalidArchitecture, match="hidden_size: found 35"):
        prune(PARENTS["llama"], random_plan(source, smaller(source, hidden_size=35), seed=0))


def test_weights_of_unknown_axes_are_refused():
    """Better no student than one whose extra weight was guessed at."""
    parent = tiny_model()
    source = shape_of(parent)
    parent.model.layers[0].mlp.extra = torch.nn.Linear(48, 48)
    with pytest.raises(UnsupportedModel, match=r"model.layers.0.mlp.extra.weight"):
        prune(parent, random_plan(source, source, seed=0))
