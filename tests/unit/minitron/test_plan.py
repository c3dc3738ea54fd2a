"""Plans: pure, canonical, checked."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.errors import ArtifactMismatch, InvalidArchitecture
from minitron.families import FAMILIES, read_architecture
from minitron.plan import PruningPlan, plan_pruning, random_plan
from minitron.recipe import PruningRecipe
from tests.scores import random_scores
from tests.strategies import architectures, targets
from tests.tiny import tiny_config

LLAMA = read_architecture(tiny_config("llama"))


@st.composite
def sources_and_targets(draw):
    source = draw(architectures())
    return source, draw(targets(source)), draw(st.integers(0, 1000))


@given(drawn=sources_and_targets())
def test_what_is_kept_beats_what_is_dropped(drawn):
    source, target, seed = drawn
    scores = random_scores(source, seed)
    plan = plan_pruning(scores, target)
    assert (plan.source, plan.target) == (source, target)
    beats(scores.layers_L, plan.layers)
    beats(scores.hidden_D, plan.hidden)
    size, kept = (shape.num_attention_heads // shape.num_key_value_heads for shape in (source, target))
    for layer, neurons, heads, kv_heads in zip(
        plan.layers, plan.neurons, plan.heads, plan.kv_heads, strict=True
    ):
        beats(scores.neurons_LF[layer], neurons)
        groups_KG = scores.heads_LN[layer].view(-1, size)
        beats(groups_KG.square().sum(dim=1), [head for (head,) in kv_heads])
        for number, (group,) in enumerate(kv_heads):
            inside = [head - group * size for head in heads[number * kept : (number + 1) * kept]]
            beats(groups_KG[group], inside)


def beats(scores, kept):
    dropped = [index for index in range(len(scores)) if index not in set(kept)]
    assert not dropped or scores[list(kept)].min() >= scores[dropped].max()


@given(drawn=sources_and_targets())
@settings(max_examples=30)
def test_plans_survive_json(drawn):
    source, target, seed = drawn
    recipe = PruningRecipe(head_merge=not FAMILIES[source.family].pairs_heads)
    scores = random_scores(source, seed)
    for plan in (plan_pruning(scores, target, recipe), random_plan(source, target, seed=seed)):
        assert PruningPlan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


@given(drawn=sources_and_targets())
@settings(max_examples=30)
def test_smaller_plans_keep_a_part_of_larger_ones(drawn):
    """Ranking does not depend on the budget: what a small student keeps, a larger one keeps too."""
    source, target, seed = drawn
    scores = random_scores(source, seed)
    smaller, larger = (
        plan_pruning(scores, target),
        plan_pruning(scores, replace(target, num_layers=source.num_layers)),
    )
    assert set(smaller.layers) <= set(larger.layers)
    wider = plan_pruning(scores, replace(target, intermediate_size=source.intermediate_size))
    for narrow, wide in zip(smaller.neurons, wider.neurons, strict=True):
        assert set(narrow) <= set(wide)


def test_the_parents_own_shape_keeps_everything():
    plan = plan_pruning(random_scores(LLAMA), LLAMA)
    assert plan.layers == tuple(range(4))
    assert plan.hidden == tuple(range(48))
    assert set(plan.neurons) == {tuple(range(40))}
    assert set(plan.heads) == {tuple(range(6))}
    assert random_plan(LLAMA, LLAMA, seed=3) == plan


def test_between_equals_the_lower_index_stays():
    tied = replace(random_scores(LLAMA), hidden_D=torch.ones(48), layers_L=torch.tensor([0.5, 0.5, 0.9, 0.5]))
    plan = plan_pruning(tied, replace(LLAMA, num_layers=2, hidden_size=6))
    assert plan.hidden == (0, 1, 2, 3, 4, 5)
    assert plan.layers == (0, 2)


def test_random_plans_are_fixed_by_their_seed_and_spread():
    target = replace(LLAMA, num_layers=2, hidden_size=24, intermediate_size=10, num_attention_heads=2)
    plans = [random_plan(LLAMA, target, seed=seed) for seed in range(50)]
    assert plans[7] == random_plan(LLAMA, target, seed=7)
    assert {layer for plan in plans for layer in plan.layers} == set(range(4))
    assert {head for plan in plans for heads in plan.heads for head in heads} == set(range(6))
    assert plans[0].neurons[0] != plans[0].neurons[1]


def test_targets_of_another_model_are_refused():
    scores = random_scores(LLAMA)
    with pytest.raises(ArtifactMismatch, match=r"target.vocab_size: found 5, allowed for this parent: 128"):
        plan_pruning(scores, replace(LLAMA, vocab_size=5))
    with pytest.raises(
        ArtifactMismatch, match=r"target.hidden_size: found 96, allowed for this parent: at most 48"
    ):
        plan_pruning(scores, replace(LLAMA, hidden_size=96))
    with pytest.raises(InvalidArchitecture, match=r"num_attention_heads: found 6, .* at most 3 for each"):
        random_plan(LLAMA, replace(LLAMA, num_key_value_heads=1), seed=0)
    with pytest.raises(InvalidArchitecture, match="hidden_size"):
        plan_pruning(scores, replace(LLAMA, hidden_size=47))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [0, 2, 1, 3]},
        {"layers": [0, 1, 2]},
        {"hidden": list(range(1, 49))},
        {"neurons": [list(range(40))] * 3},
        {"neurons": [[*range(39), 38]] * 4},
        {"heads": [[0, 1, 2, 3]] * 4},
        {"kv_heads": [[[0], [0]]] * 4},
        {"kv_heads": [[[1], [0]]] * 4},
        {"kv_heads": [[[0, 1]]] * 4},
        {"kv_heads": [[[], []]] * 4},
        {"kv_heads": [[]] * 4},
        {"layers": [0, 1, 2, 4]},
        {"layers": [-1, 1, 2, 3]},
        {"layers": [0, 1.5, 2, 3]},
        {"layers": [0, "1", 2, 3]},
        {"merged_heads": [[[0, 1]]] * 4},
        {"merged_heads": [[]] * 3},
        {"norm_gains": [1.0] * 8},
    ],
)
def test_plans_that_do_not_fit_are_refused(changes):
    value = random_plan(LLAMA, LLAMA, seed=0).as_json()
    with pytest.raises(ArtifactMismatch, match=rf"plan: ({'|'.join(changes)}): found"):
        PruningPlan.from_json(value | changes)


def test_the_index_that_does_not_fit_is_named():
    """And not all that do: a plan may have thousands."""
    value = random_plan(LLAMA, LLAMA, seed=0).as_json()
    with pytest.raises(
        ArtifactMismatch, match=r"^plan: hidden: found 3 after 3, allowed: 48 ascending indices below 48$"
    ):
        PruningPlan.from_json(value | {"hidden": [0, 1, 2, 3, 3, *range(5, 48)]})


def test_heads_must_be_equally_many_in_every_group():
    """No grouped-query model can hold three query heads in one group and one in the next."""
    target = replace(LLAMA, num_attention_heads=4)
    value = random_plan(LLAMA, target, seed=0).as_json()
    with pytest.raises(ArtifactMismatch, match="2 of each group of 3"):
        PruningPlan.from_json(value | {"heads": [[0, 1, 2, 3]] * 4})


def test_scores_without_norms_cannot_rescale_them():
    with pytest.raises(ArtifactMismatch, match=r"scores: found none of the norms"):
        plan_pruning(random_scores(LLAMA), LLAMA, PruningRecipe(norm_rescaling=True))
