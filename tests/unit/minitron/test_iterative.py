"""Importance in steps: of the parent, in its indices, and one step is none."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minitron.errors import ArtifactMismatch, InvalidRecipe
from minitron.families import family_named, read_architecture, resized
from minitron.importance import measure_importance
from minitron.iterative import measure_in_steps
from minitron.narrowing import shapes_between
from minitron.plan import plan_pruning
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe
from tests.strategies import architectures, targets
from tests.tiny import NAMES, logits_of, random_blocks, tiny_model

TENSORS = ("hidden_D", "neurons_LF", "heads_LN", "layers_L")
SMALL = {"hidden_size": 24, "intermediate_size": 10, "num_attention_heads": 2}


def smallest_of(source, sizes=SMALL):
    """A shape of some sizes; where hidden size is heads times head size, it follows from the heads."""
    follows = source.traits.heads_span_hidden and "num_attention_heads" in sizes
    return resized(
        source, {name: size for name, size in sizes.items() if not (follows and name == "hidden_size")}
    )


def in_steps(model, steps, blocks=None, smallest=SMALL, **fields):
    blocks = random_blocks(3) if blocks is None else blocks
    source = read_architecture(model.config.to_dict())
    return measure_in_steps(
        model,
        blocks,
        CalibrationRecipe(num_tokens=blocks.size, steps=steps, **fields),
        smallest=None if smallest is None else smallest_of(source, {"num_layers": 1} | smallest),
        fingerprint="f",
    )


@pytest.mark.parametrize("smallest", [None, SMALL])
def test_one_step_is_one_measurement(smallest):
    model, blocks = tiny_model(), random_blocks(3)
    expected = measure_importance(model, blocks, CalibrationRecipe(num_tokens=blocks.size), fingerprint="f")
    found = in_steps(model, 1, blocks, smallest)
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in TENSORS)


@pytest.mark.parametrize("metric", ["activation", "weighted"])
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_what_one_gets_by_pruning_and_measuring_by_hand(name, metric):
    model, blocks = tiny_model(name), random_blocks(3)
    source = read_architecture(model.config.to_dict())
    scores = in_steps(model, 3, blocks, metric=metric)
    smallest = smallest_of(source)
    by_hand, recipe = model, CalibrationRecipe(num_tokens=blocks.size, metric=metric)
    for shape in (*shapes_between(source, smallest, 3), smallest):
        measured = measure_importance(by_hand, blocks, recipe, fingerprint="f")
        by_hand = prune(by_hand, plan_pruning(measured, shape))
    student = prune(model, plan_pruning(scores, smallest))
    if family_named(source.family).anatomy.scales_embedding:  # scaled in three steps, or in one
        torch.testing.assert_close(
            logits_of(student, blocks), logits_of(by_hand, blocks), rtol=1e-3, atol=1e-3
        )
    else:
        assert torch.equal(logits_of(student, blocks), logits_of(by_hand, blocks))


def test_layers_are_those_of_the_whole_model():
    model, blocks = tiny_model(), random_blocks(3)
    fields = {"depth_metric": "kl", "depth_selection": "contiguous"}
    expected = measure_importance(
        model, blocks, CalibrationRecipe(num_tokens=blocks.size, **fields), fingerprint="f"
    )
    assert torch.equal(in_steps(model, 2, blocks, **fields).blocks_RL, expected.blocks_RL)
    shallowest = SMALL | {"num_layers": 3}
    some = in_steps(model, 2, blocks, shallowest, **fields).blocks_RL
    assert torch.equal(some, expected.blocks_RL[:1])


def test_what_went_later_comes_back_first():
    model = tiny_model()
    scores = in_steps(model, 4)
    source = scores.architecture
    plans = [
        plan_pruning(scores, replace(source, intermediate_size=size)).neurons for size in (10, 18, 25, 33, 40)
    ]
    for fewer, more in pairwise(plans):
        assert all(set(few) < set(many) for few, many in zip(fewer, more, strict=True))
    assert (scores.neurons_LF >= 0).sum(dim=1).tolist() == [18] * 4


def test_the_model_is_left_as_it_was():
    model = tiny_model()
    before = logits_of(model, random_blocks(2))
    in_steps(model, 3)
    assert torch.equal(logits_of(model, random_blocks(2)), before)


@given(data=st.data(), source=architectures(), steps=st.integers(2, 5))
@settings(max_examples=50)
def test_every_shape_on_the_way_is_legal_and_narrower_than_the_one_before(data, source, steps):
    smallest = data.draw(targets(source))
    widths = ("hidden_size", "intermediate_size", "num_attention_heads")
    assume(any(getattr(smallest, name) < getattr(source, name) for name in widths))
    shapes = shapes_between(source, smallest, steps)
    assert len(shapes) == steps - 1
    for shape in shapes:
        family_named(source.family).check(shape)
        assert shape.num_layers == source.num_layers
    for wide, narrow in pairwise([source, *shapes, smallest]):
        assert narrow.intermediate_size <= wide.intermediate_size
        assert all(getattr(narrow, name) <= getattr(source, name) for name in widths)


def test_steps_to_nowhere_are_refused():
    with pytest.raises(InvalidRecipe, match=r"calibration.steps: found 2, allowed where no width"):
        in_steps(tiny_model(), 2, smallest=None)
    with pytest.raises(InvalidRecipe, match=r"calibration.steps"):
        in_steps(tiny_model(), 2, smallest={"num_layers": 2})
    with pytest.raises(ArtifactMismatch, match=r"smallest.hidden_size: found 96, allowed .* at most 48"):
        in_steps(tiny_model(), 2, smallest={"hidden_size": 96})
    with pytest.raises(
        InvalidRecipe, match=r"calibration.steps: found 2, allowed: 1 with calibration.metric"
    ):
        CalibrationRecipe(steps=2, metric="weight")
