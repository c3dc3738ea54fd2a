"""Recipes are checked when they are made, and say what is wrong."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.errors import InvalidRecipe, UnservedLoss
from minitron.recipe import (
    SERVED,
    CalibrationRecipe,
    DataRecipe,
    DataSource,
    DistillationRecipe,
    TrainingRecipe,
)


@pytest.mark.parametrize(
    ("recipe", "field", "value"),
    [
        (DataRecipe, "data.source", ""),
        (DataRecipe, "data.validation", ""),
        (DataRecipe, "data.sequence_length", 4),
        (DataRecipe, "data.validation_tokens", 100),
        (CalibrationRecipe, "calibration.num_tokens", 0),
        (CalibrationRecipe, "calibration.batch_size", 0),
        (CalibrationRecipe, "calibration.steps", 0),
        (CalibrationRecipe, "calibration.depth_tokens", 0),
        (CalibrationRecipe, "calibration.seed", -1),
        (DistillationRecipe, "distillation.temperature", 0.0),
        (DistillationRecipe, "distillation.temperature", float("inf")),
        (DistillationRecipe, "distillation.label_weight", -1.0),
        (DistillationRecipe, "distillation.label_weight", float("inf")),
        (DistillationRecipe, "distillation.top_k", 0),
        (TrainingRecipe, "training.num_tokens", 1),
        (TrainingRecipe, "training.batch_tokens", 0),
        (TrainingRecipe, "training.micro_batch_size", 0),
        (TrainingRecipe, "training.peak_learning_rate", 0.0),
        (TrainingRecipe, "training.peak_learning_rate", float("inf")),
        (TrainingRecipe, "training.final_learning_rate_ratio", 1.5),
        (TrainingRecipe, "training.warmup_tokens", 1_000_000),
        (TrainingRecipe, "training.weight_decay", -0.1),
        (TrainingRecipe, "training.weight_decay", float("inf")),
        (TrainingRecipe, "training.beta1", 1.0),
        (TrainingRecipe, "training.beta2", -0.5),
        (TrainingRecipe, "training.max_gradient_norm", 0.0),
        (TrainingRecipe, "training.seed", -1),
        (DataRecipe, "data.seed", -1),
    ],
)
def test_out_of_range_names_field_found_and_allowed(recipe, field, value):
    with pytest.raises(InvalidRecipe) as error:
        recipe(**{field.partition(".")[2]: value})
    assert error.value.field == field
    assert str(error.value).startswith(f"{field}: found {value!r}, allowed: ")


@pytest.mark.parametrize(
    ("fields", "field", "found"),
    [
        ({"source": DataSource(source="")}, "data.source", "''"),
        ({"source": DataSource(source="x", weight=-1)}, "data.source.weight", "-1"),
        ({"source": (DataSource(source="x"), DataSource(source=""))}, "data.source.1", "''"),
        ({"source": (DataSource(source="x", weight=float("nan")),)}, "data.source.0.weight", "nan"),
        ({"source": (DataSource(source="x", weight=float("inf")),)}, "data.source.0.weight", "inf"),
        ({"source": (DataSource(source="x", weight=0),) * 2}, "data.source", "[0, 0]"),
        ({"source": ()}, "data.source", "[]"),
        ({"validation": DataSource(source="x", weight=2)}, "data.validation.weight", "2"),
    ],
)
def test_a_source_is_checked_by_the_recipe_that_names_it(fields, field, found):
    with pytest.raises(InvalidRecipe) as error:
        DataRecipe(**fields)
    assert error.value.field == field
    assert error.value.reason.startswith(f"found {found}, allowed: ")


def test_bfloat16_weights_are_no_float32_precision():
    with pytest.raises(
        InvalidRecipe, match=r"training.weights: found 'bfloat16', allowed: float32, as training.precision is"
    ):
        TrainingRecipe(weights="bfloat16", precision="float32")
    for precision in ("auto", "bfloat16"):
        assert TrainingRecipe(weights="bfloat16", precision=precision).weights == "bfloat16"


def test_sources_are_told_with_the_fields_that_name_them():
    own = DataSource(source="b", text_field="messages", weight=2)
    recipe = DataRecipe(source=(DataSource(source="a"), own), text_field="body", validation="c")
    assert recipe.all_sources == {
        "data.validation": DataSource(source="c", text_field="body"),
        "data.source.0": DataSource(source="a", text_field="body"),
        "data.source.1": own,
    }
    assert DataRecipe(source="a").all_sources == {"data.source": DataSource(source="a", text_field="text")}


def test_calibration_measures_whole_blocks_and_at_least_one():
    assert CalibrationRecipe(num_tokens=1_000).num_blocks(256) == 3
    assert CalibrationRecipe(num_tokens=10).num_blocks(256) == 1
    assert CalibrationRecipe().num_blocks(256) == 1024


def test_scores_depend_on_all_of_a_recipe_but_how_it_is_batched():
    """The number of tokens is the blocks' to tell."""
    recipe = CalibrationRecipe()
    changes = {
        "num_tokens": 1, "batch_size": 1, "metric": "activation", "sequence_aggregation": "variance",
        "batch_aggregation": "variance", "steps": 2, "depth_metric": "kl", "depth_selection": "iterative",
        "depth_tokens": 1, "seed": 1,
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(recipe)}
    for name, value in changes.items():
        is_same = replace(recipe, **{name: value}).identity == recipe.identity
        assert is_same == (name in {"num_tokens", "batch_size"}), name


@pytest.mark.parametrize(
    ("metric", "sequence", "hidden", "others"),
    [
        ("activation", "auto", "mean", "mean"),
        ("weighted", "auto", "mean", "l2"),
        ("weighted", "mean", "mean", "mean"),
        ("activation", "variance", "variance", "variance"),
    ],
)
def test_auto_is_what_kept_most(metric, sequence, hidden, others):
    recipe = CalibrationRecipe(metric=metric, sequence_aggregation=sequence)
    found = [recipe.over_sequence(is_hidden=is_hidden) for is_hidden in (True, False)]
    assert found == [hidden, others]


def test_depth_takes_at_most_the_calibration_tokens():
    assert CalibrationRecipe(num_tokens=1_000, depth_tokens=10_000).depth_blocks(256) == 3
    assert CalibrationRecipe(num_tokens=10_000, depth_tokens=1_000).depth_blocks(256) == 3
    assert CalibrationRecipe(depth_tokens=1).depth_blocks(256) == 1


def test_top_k_answers_serve_temperature_one_only():
    with pytest.raises(UnservedLoss, match=r"temperature: found 2.0, allowed with cache_form top_k: 1"):
        DistillationRecipe(temperature=2.0)
    assert DistillationRecipe(temperature=2.0, cache_form="hidden").temperature == 2.0
    assert DistillationRecipe(temperature=2.0, teacher="live").temperature == 2.0


ASKED = [(loss, at) for loss in ("forward_kl", "reverse_kl", "mse", "cosine") for at in (1.0, 2.0)]


@pytest.mark.parametrize(("loss", "temperature"), ASKED)
@pytest.mark.parametrize("source", ["live", "hidden", "top_k"])
@pytest.mark.parametrize("teacher", ["auto", "cached", "live"])
def test_one_table_says_what_each_teacher_source_serves(loss, temperature, source, teacher):
    """Nothing that it lacks can be asked for; what ``auto`` may come to must be served either way."""
    if (source == "live") != (teacher == "live"):
        return
    fields = {"loss": loss, "temperature": temperature, "teacher": teacher}
    fields |= {"cache_form": source} if source != "live" else {}
    if loss in SERVED[source] and (temperature == 1.0 or SERVED[source][loss] == "any"):
        assert DistillationRecipe(**fields).loss == loss
        return
    with pytest.raises(UnservedLoss, match=r"distillation\.(loss|temperature): found .*, allowed with .*: "):
        DistillationRecipe(**fields)


def test_what_is_not_served_says_what_is():
    for changes, message in (
        (
            {"loss": "mse"},
            "loss: found mse, allowed with cache_form top_k: forward_kl, reverse_kl; set cache_form to",
        ),
        (
            {"loss": "mse", "temperature": 2.0, "cache_form": "hidden"},
            "temperature: found 2.0, allowed with loss mse: 1",
        ),
        (
            {"intermediate": "output"},
            "intermediate: found output, allowed with teacher auto: auto, none; set teacher to live",
        ),
        (
            {"intermediate": "output_embedding", "teacher": "cached", "cache_form": "hidden"},
            "intermediate: found output_embedding, allowed with teacher cached: auto, none; set teacher to live",
        ),
    ):
        with pytest.raises(UnservedLoss) as error:
            DistillationRecipe(**changes)
        assert f"distillation.{message}" in str(error.value)


@given(parent=st.integers(1, 100), student=st.integers(1, 100), is_live=st.booleans())
def test_auto_is_the_papers_choice(parent, student, is_live):
    """Logits only, unless depth falls by more than a fifth and a live teacher can be asked for its states."""
    found = DistillationRecipe().states(student_layers=student, parent_layers=parent, is_live=is_live)
    falls = student < 0.8 * parent - 1e-9
    expected = falls and is_live and min(parent, student) >= 3
    assert found == (("output", "embedding") if expected else ())
    assert (
        DistillationRecipe(intermediate="none", teacher="live").states(
            student_layers=student, parent_layers=parent, is_live=True
        )
        == ()
    )


def test_auto_asks_live_above_the_cache_limit():
    """The papers' 1.8 B tokens of a parent with 4096 channels: too much for disk in either form."""
    recipe = DistillationRecipe()
    assert not recipe.asks_live(num_tokens=1_000_000, hidden_size=4096)
    assert recipe.asks_live(num_tokens=1_800_000_000, hidden_size=4096)
    assert recipe.cache_bytes(num_tokens=1_800_000_000, hidden_size=4096) == 1_800_000_000 * (128 * 6 + 4)
    hidden = DistillationRecipe(cache_form="hidden")
    assert hidden.cache_bytes(num_tokens=10, hidden_size=4096) == 10 * 4096 * 4
    assert DistillationRecipe(teacher="live").asks_live(num_tokens=1, hidden_size=1)


def test_cached_beyond_the_limit_is_refused_with_the_limit_needed():
    recipe = DistillationRecipe(teacher="cached", max_cache_bytes=1000)
    with pytest.raises(
        InvalidRecipe, match="max_cache_bytes: found 1000, allowed for this recipe: at least 7720"
    ):
        recipe.asks_live(num_tokens=10, hidden_size=64)


def test_steps_hold_whole_blocks():
    recipe = TrainingRecipe(num_tokens=10_000, batch_tokens=1000)
    assert recipe.blocks_per_step(256) == 3
    assert recipe.num_steps(256) == 10_000 // 768
    assert recipe.blocks_per_step(4096) == 1
    assert recipe.num_steps(4096) == 2
    assert recipe.num_steps(20_000) == 1


def test_validation_blocks_are_whole():
    assert DataRecipe(sequence_length=100, validation_tokens=1050).validation_blocks == 10
