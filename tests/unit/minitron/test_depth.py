"""What it costs to do without layers, and which go."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitron.depth import ModelCost, choose_layers, influences, only
from minitron.errors import ArtifactMismatch, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.plan import depth_plan, kept_layers
from minitron.prune import prune
from tests.scores import random_scores
from tests.tiny import logits_of, random_blocks, tiny_config, tiny_model


def influence(before, after, valid=None):
    """Of one pair."""
    pairs = influences((before, after), valid)
    assert torch.equal(pairs, pairs.T)
    return pairs[0, 1]


STREAM = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize(("degrees", "expected"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_influence_is_one_minus_the_cosine_summed_over_tokens(degrees, expected, scale):
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    assert float(influence(scale * STREAM, 3 * scale * STREAM @ turn)) == pytest.approx(
        2 * expected, abs=1e-6
    )


def test_a_zero_vector_is_at_a_right_angle_to_all():
    assert float(influence(STREAM, torch.zeros_like(STREAM))) == 2.0


def test_bfloat16_streams_are_compared_in_float32():
    stream = torch.randn(2, 3, 64).bfloat16()
    assert float(influence(stream, stream)) == pytest.approx(0.0, abs=1e-5)


METRICS = ("block_influence", "lm_loss", "kl", "logit_error")
FAMILIES = ("llama", "qwen2", "nemotron")


def without(model, dropped):
    """A model without some of its layers, pruned like a student."""
    source = read_architecture(model.config.to_dict())
    return prune(model, depth_plan(source, [n for n in range(source.num_layers) if n not in set(dropped)]))


def naive_cost(model, blocks, metric, dropped, before=()):
    """The cost of dropping layers after others have gone: whole models, whole passes, in float64."""
    if metric == "block_influence":
        kept = [n for n in range(model.config.num_hidden_layers) if n not in set(before)]
        streams = layer_streams(without(model, before), blocks)
        first = kept.index(dropped[0])
        x, y = streams[first], streams[first + len(dropped)]
        return float(1 - ((x * y).sum(-1) / x.norm(dim=-1) / y.norm(dim=-1)).mean())
    whole = logits_of(model, blocks).double()
    rest = logits_of(without(model, [*before, *dropped]), blocks).double()
    match metric:
        case "lm_loss":
            labels = torch.from_numpy(blocks[:, 1:].astype("int64"))[..., None]
            told = [each.log_softmax(-1)[:, :-1].gather(-1, labels).mean() for each in (whole, rest)]
            return float(told[0] - told[1])
        case "kl":
            p, q = whole.log_softmax(-1), rest.log_softmax(-1)
            return float((p.exp() * (p - q)).sum(-1).mean())
        case _:
            return float((whole - rest).square().sum() / whole.square().sum())


def layer_streams(model, blocks):
    """The residual stream before each layer and after the last, float64."""
    streams = []
    handles = [
        layer.register_forward_pre_hook(lambda _, x: streams.append(x[0])) for layer in model.model.layers
    ]
    handles.append(model.model.layers[-1].register_forward_hook(lambda _, __, y: streams.append(y)))
    logits_of(model, blocks)
    for handle in handles:
        handle.remove()
    return [stream.double() for stream in streams]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("metric", METRICS)
def test_costs_are_those_of_students_without_the_layers(name, metric):
    model, blocks = tiny_model(name), random_blocks(5)
    costs = ModelCost(model, blocks, metric, batch_size=2)(range(4), [1, 2, 3])
    assert [len(each) for each in costs] == [4, 3, 2]
    for length, found in zip([1, 2, 3], costs, strict=True):
        expected = [
            naive_cost(model, blocks, metric, range(start, start + length)) for start in range(5 - length)
        ]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("metric", METRICS)
def test_costs_after_layers_have_gone_are_still_against_the_whole_model(name, metric):
    model, blocks = tiny_model(name), random_blocks(3)
    (found,) = ModelCost(model, blocks, metric)([0, 2, 3], [1])
    expected = [naive_cost(model, blocks, metric, [layer], before=[1]) for layer in (0, 2, 3)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_costs_do_not_depend_on_the_batch_size(metric):
    model, blocks = tiny_model(), random_blocks(7)
    costs = [ModelCost(model, blocks, metric, batch_size=size)(range(4), [1])[0] for size in (1, 3, 7)]
    for found in costs[1:]:
        assert found == pytest.approx(costs[0], rel=1e-5, abs=1e-6)


def test_a_sweep_runs_half_of_the_layers_of_a_naive_one():
    model, runs = tiny_model(), []
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(lambda *_: runs.append(1))
    ModelCost(model, random_blocks(2), "kl")(range(4), [1])
    assert len(runs) == 4 + (3 + 2 + 1 + 0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_model_is_left_as_it_was_also_after_a_failure(metric):
    model = tiny_model().train()
    before = logits_of(model, random_blocks(1))

    def fail(progress):
        raise KeyboardInterrupt

    for blocks, report, error in (
        (random_blocks(2, vocab_size=10_000), lambda _: None, IndexError),
        (random_blocks(2), fail, KeyboardInterrupt),
    ):
        with pytest.raises(error):
            ModelCost(model, blocks, metric, report=report)(range(4), [1])
        with pytest.raises(ZeroDivisionError), only(model.model.layers, [1, 2]):
            raise ZeroDivisionError
        assert model.training
        assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
        assert all("forward" not in vars(module) for module in model.modules())
    assert torch.equal(logits_of(model, random_blocks(1)), before)


def table(costs):
    """A cost that looks up what a set of dropped layers costs."""

    def cost(kept, lengths):
        return [
            [
                costs(tuple(kept), tuple(kept[start : start + length]))
                for start in range(len(kept) + 1 - length)
            ]
            for length in lengths
        ]

    return cost


def test_independent_scores_are_the_costs_of_single_layers():
    scores = choose_layers(table(lambda _, dropped: [3.0, 1.0, 2.0][dropped[0]]), 3, "independent")
    assert scores.layers_L.tolist() == [3, 1, 2]
    assert scores.blocks_RL is None


def test_iterative_removal_asks_again_without_those_that_went():
    """Layers 1 and 2 each cost nothing while the other is there."""

    def costs(kept, dropped):
        is_last_of_the_two = dropped[0] in (1, 2) and not {1, 2} <= set(kept)
        return 9.0 if is_last_of_the_two else {0: 5.0, 1: 0.1, 2: 0.2, 3: 3.0}[dropped[0]]

    assert choose_layers(table(costs), 4, "iterative").layers_L.tolist() == [2, 0, math.inf, 1]


@given(costs=st.lists(st.floats(0, 100, width=32), min_size=21, max_size=21), num_layers=st.integers(1, 6))
def test_the_best_block_is_chosen_for_every_depth(costs, num_layers):
    spans = [(first, last) for first in range(6) for last in range(first + 1, 7)]
    cost_of = dict(zip(spans, costs, strict=True))
    chosen = choose_layers(
        table(lambda _, dropped: cost_of[dropped[0], dropped[-1] + 1]), num_layers, "contiguous"
    )
    scores = scores_with(num_layers, chosen)
    for depth in range(1, num_layers + 1):
        kept = kept_layers(scores, depth)
        dropped = [layer for layer in range(num_layers) if layer not in kept]
        assert len(kept) == depth
        if dropped:
            assert dropped == list(range(dropped[0], dropped[-1] + 1))
            length = num_layers - depth
            options = [cost_of[first, first + length] for first in range(num_layers + 1 - length)]
            assert cost_of[dropped[0], dropped[-1] + 1] == min(options)


@given(costs=st.lists(st.floats(0, 100, width=32), min_size=64, max_size=64), num_layers=st.integers(1, 6))
def test_iterative_depths_are_nested_and_each_step_is_the_cheapest(costs, num_layers):
    def cost_of(kept, dropped):
        return costs[sum(2**layer for layer in kept if layer not in dropped)]

    scores = scores_with(num_layers, choose_layers(table(cost_of), num_layers, "iterative"))
    kept = tuple(range(num_layers))
    for depth in range(num_layers - 1, 0, -1):
        fewer = kept_layers(scores, depth)
        assert set(fewer) < set(kept)
        assert costs[sum(2**layer for layer in fewer)] == min(cost_of(kept, (layer,)) for layer in kept)
        kept = fewer


def scores_with(num_layers, chosen):
    shape = replace(read_architecture(tiny_config("llama")), num_layers=num_layers)
    return replace(random_scores(shape), layers_L=chosen.layers_L, blocks_RL=chosen.blocks_RL)


@pytest.mark.parametrize("selection", ["iterative", "contiguous"])
def test_what_nobody_asks_for_is_not_measured_and_not_told(selection):
    model, blocks = tiny_model(), random_blocks(2)
    whole = scores_with(4, choose_layers(ModelCost(model, blocks, "kl"), 4, selection))
    runs = []
    model.lm_head.register_forward_hook(lambda *_: runs.append(1))
    some = scores_with(4, choose_layers(ModelCost(model, blocks, "kl"), 4, selection, fewest=3))
    assert len(runs) == 5
    assert kept_layers(some, 3) == kept_layers(whole, 3)
    with pytest.raises(
        ArtifactMismatch, match=r"target.num_layers: found 2, allowed for these scores: at least 3"
    ):
        kept_layers(some, 2)


@pytest.mark.parametrize("selection", ["independent", "iterative", "contiguous"])
def test_a_model_that_breaks_without_any_layer_is_damaged(selection):
    with pytest.raises(UnreadableCheckpoint, match="not finite"):
        choose_layers(table(lambda *_: math.inf), 3, selection)
