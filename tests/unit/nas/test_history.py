"""Keys of what was measured: equal exactly where the result is, whatever else was asked."""

from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, PruningRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.axes import Axes
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.finals import Evaluation
from nas.history import keys_of, measured
from nas.promotion import Promotion
from nas.resources import Resources
from nas.sampling import Objective
from nas.search import Artifacts, Comparisons, Rungs, SearchSpec
from nas.spec import load
from nas.trial import TrialRole
from tests.searches import MEASUREMENT, after, make_point, make_spec, make_trial, specs

ARTIFACTS = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
SPEC = make_spec()
DECIDES_NOTHING = {
    "budget": Budget(max_parameters=1),
    "axes": Axes(num_layers=(2,)),
    "name": "x",
    "parent_config": {"a": 1},
    "evaluation": Evaluation(tasks=("arc",)),
    "promotion": Promotion(training=TrainingRecipe(num_tokens=9_000_000)),
    "num_points": 9,
    "num_trials": 9,
    "max_tokens": 10**9,
    "max_parallel": 9,
    "rungs": Rungs(fractions=(0.5,)),
    "sampler": "random",
    "order": "shuffled",
    "objective": Objective(cost="flops"),
    "prior": "importance_kept",
    "comparisons": Comparisons(random_indices=1),
    "history": HistoryUse(reuse=False),
    "max_attempts": 9,
    "checkpoint_seconds": 9.0,
    "seed": 9,
}
"""Which students there are, how they are run and what they are called."""
BESIDE = {"order": {"sampler": "exhaustive"}, "objective": {"sampler": "nsga2"}}
"""What a spec must say too, to say that."""
RECIPE = {
    "calibration": CalibrationRecipe(num_tokens=4096),
    "pruning": PruningRecipe(head_merge=True),
    "distillation": DistillationRecipe(label_weight=0.5),
    "training": TrainingRecipe(seed=3),
    "correction": CorrectionRecipe(),
    "resources": Resources(gpus=1),
}


def changed(**fields_of_spec):
    return keys_of(replace(SPEC, **fields_of_spec), ARTIFACTS)


def test_every_field_of_a_spec_is_in_a_key_or_decides_nothing():
    """A field that is added to specs must be added to one of these."""
    assert {field.name for field in fields(SearchSpec)} == {*DECIDES_NOTHING, *RECIPE, "parent", "data"}


@pytest.mark.parametrize("name", DECIDES_NOTHING)
def test_what_decides_nothing_is_in_no_key(name):
    fields_of_spec = {name: DECIDES_NOTHING[name], **BESIDE.get(name, {})}
    assert changed(**fields_of_spec) == keys_of(SPEC, ARTIFACTS)


@pytest.mark.parametrize("name", RECIPE)
def test_another_recipe_has_another_key_and_stands_for_nothing(name):
    before, found = keys_of(SPEC, ARTIFACTS), changed(**{name: RECIPE[name]})
    assert (found.parent, found.data) == (before.parent, before.data)
    assert found.recipe != before.recipe
    assert found.reuse != before.reuse


@pytest.mark.parametrize(
    "name",
    [
        ("calibration", CalibrationRecipe(batch_size=1)),
        ("distillation", DistillationRecipe(max_cache_bytes=1)),
        ("training", TrainingRecipe(activation_checkpointing=True)),
        ("resources", Resources(cpus=4, threads=2, memory_bytes=10**9)),
    ],
    ids=lambda each: each[0],
)
def test_what_changes_speed_and_memory_alone_is_no_other_recipe(name):
    field, value = name
    assert changed(**{field: value}) == keys_of(SPEC, ARTIFACTS)


def test_another_version_of_the_loss_has_other_keys_and_the_first_those_from_before_there_were_any():
    """Written down: what was measured then is reused still."""
    first = keys_of(SPEC, ARTIFACTS)
    assert (first.data[:8], first.reuse[:8]) == ("6fc378d2", "d20d0cb8")
    second = keys_of(SPEC, replace(ARTIFACTS, loss_version=2))
    assert (second.parent, second.recipe) == (first.parent, first.recipe)
    assert second.data != first.data
    assert second.reuse != first.reuse
    assert load(
        Artifacts, {name: name for name in ("parent", "blocks", "validation", "scores", "teacher")}
    ) == (
        Artifacts(
            parent="parent",
            blocks="blocks",
            validation="validation",
            scores="scores",
            teacher="teacher",
            loss_version=1,
        )
    )


def test_other_data_have_another_key_and_the_same_recipe():
    before, found = keys_of(SPEC, ARTIFACTS), changed(data=DataRecipe(seed=4))
    assert (found.parent, found.recipe) == (before.parent, before.recipe)
    assert found.data != before.data


def test_content_counts_not_names():
    moved = keys_of(replace(SPEC, parent="/elsewhere/tiny"), ARTIFACTS)
    assert moved == keys_of(SPEC, ARTIFACTS)
    assert keys_of(replace(SPEC, parent="/elsewhere/tiny"), None).parent != keys_of(SPEC, None).parent
    for name in asdict(ARTIFACTS).keys() - {"loss_version"}:
        other = keys_of(SPEC, replace(ARTIFACTS, **{name: "other"}))
        assert other.reuse != keys_of(SPEC, ARTIFACTS).reuse
        assert (other.parent != moved.parent) == (name == "parent")
        assert (other.data != moved.data) == (name == "validation")
        assert other.recipe == moved.recipe


def test_what_is_not_known_by_content_stands_for_nothing():
    assert keys_of(SPEC, None).reuse is None
    assert keys_of(SPEC, ARTIFACTS, TrialRole.RANDOM_INDICES).reuse is None
    assert keys_of(SPEC, ARTIFACTS, TrialRole.RANDOM_ARCHITECTURE) == keys_of(SPEC, ARTIFACTS)


@settings(max_examples=30)
@given(specs, specs)
def test_keys_are_the_same_for_the_same_and_are_no_others(one, other):
    assert keys_of(one, ARTIFACTS) == keys_of(replace(one), ARTIFACTS)
    same_recipe = all(getattr(one, name) == getattr(other, name) for name in RECIPE)
    if keys_of(one, None).data == keys_of(other, None).data:
        assert one.data == other.data
    if same_recipe:
        assert keys_of(one, None).recipe == keys_of(other, None).recipe


def test_keys_are_those_that_are_stored():
    """Where this changes, what was measured before is no longer found: then a migration writes all keys anew."""
    assert asdict(keys_of(SPEC, ARTIFACTS)) == {
        "parent": "f4bddd10d191d10da21b02a0d4e3f225",
        "data": "6fc378d2f9585b19bc5001eb00ff8bf0",
        "recipe": "449d37fda8555cfa54532fbdcbaf56e8",
        "reuse": "d20d0cb85ab3a0a06d108f3abc5811df",
    }


def test_only_what_is_final_is_measured():
    with pytest.raises(AssertionError, match="trial 0: RUNNING"):
        measured(SPEC, ARTIFACTS, make_trial().started(after(1)), [])


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5, unique=True))
def test_a_whole_measurement_is_the_trials_own_whatever_its_points(tokens):
    done = make_trial().started(after(1)).completed(MEASUREMENT, "student", after(2))
    points = [make_point(0, each).point for each in sorted(tokens)]
    found = measured(SPEC, ARTIFACTS, done, points)
    assert (found.loss, found.num_tokens, found.loss_before) == (2.25, 1000, 4.0)
    assert not found.is_partial
