"""What searches share is made once, whoever asks first."""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from minitron import resumable
from minitron.checkpoint import load_parent
from minitron.data import open_blocks
from minitron.errors import ArtifactMismatch, DatasetTooSmall
from minitron.evaluate import held_out_loss
from minitron.families import planning_config
from minitron.parents import read_config
from minitron.stage_recipes import CorrectionRecipe
from nas.budget import Budget
from nas.errors import InvalidSpec
from nas.estimate import estimate
from nas.resources import Resources
from nas.space import search_space
from tests.micro import STEP_TOKENS, micro_spec
from workers import device, keys
from workers.artifacts import prepare
from workers.device import use_threads


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    directory = tmp_path_factory.mktemp("micro")
    spec, root = micro_spec(directory), directory / "artifacts"
    return spec, root, prepare(spec, root, lambda _: None)


def _prepared(spec, root):
    """Prepare again; return what is prepared and the stages that were computed."""
    told = []
    prepared = prepare(spec, root, told.append)
    return prepared, {progress.stage for progress in told if not progress.is_cached}


def test_a_second_search_computes_nothing_and_says_so(micro):
    spec, root, prepared = micro
    other = replace(spec, budget=Budget(max_parameters=30_000), num_trials=9, seed=7)
    again, computed = _prepared(other, root)
    assert again == prepared
    assert computed == set()


def test_a_longer_training_costs_no_calibration(micro):
    spec, root, prepared = micro
    longer = replace(spec, training=replace(spec.training, num_tokens=9 * STEP_TOKENS))
    again, computed = _prepared(longer, root)
    assert again.scores_path == prepared.scores_path
    assert again.teacher_dir != prepared.teacher_dir
    assert computed == {"token blocks", "loading the parent", "teacher answers"}


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "random"},
        {"batch_aggregation": "variance"},
        {"steps": 2},
        {"depth_metric": "lm_loss", "depth_selection": "contiguous"},
    ],
    ids=str,
)
def test_another_way_to_measure_is_another_set_of_scores(micro, changes):
    spec, root, prepared = micro
    other = replace(spec, calibration=replace(spec.calibration, **changes))
    found, computed = _prepared(other, root)
    assert found.scores_path != prepared.scores_path
    assert found.teacher_dir == prepared.teacher_dir
    assert "loading the parent" in computed
    again, computed = _prepared(other, root)
    assert again == found
    assert computed == set()


def test_steps_to_another_smallest_width_are_another_measurement(micro):
    spec, root, _ = micro
    stepwise = replace(spec, calibration=replace(spec.calibration, steps=2))
    found, _ = _prepared(stepwise, root)
    wider = replace(stepwise, axes=replace(spec.axes, intermediate_size=(32, 40)), num_trials=2)
    assert _prepared(wider, root)[0].scores_path != found.scores_path


def test_depth_is_measured_as_far_as_the_axes_go_where_each_depth_costs_passes(micro):
    spec, root, prepared = micro
    whole = replace(spec, axes=replace(spec.axes, num_layers=(2,)), num_trials=2)
    assert _prepared(whole, root)[0].scores_path == prepared.scores_path
    by_kl = replace(spec.calibration, depth_metric="kl")
    paths = {_prepared(replace(each, calibration=by_kl), root)[0].scores_path for each in (spec, whole)}
    assert len(paths) == 2


def test_another_batch_size_is_the_same_scores(micro):
    spec, root, prepared = micro
    other = replace(spec, calibration=replace(spec.calibration, batch_size=1))
    assert _prepared(other, root) == (prepared, set())


def test_another_form_of_answers_is_another_cache(micro):
    spec, root, prepared = micro
    hidden, computed = _prepared(
        replace(spec, distillation=replace(spec.distillation, cache_form="hidden")), root
    )
    assert hidden.teacher_dir != prepared.teacher_dir
    assert computed == {"loading the parent", "teacher answers"}


CORRECTION = CorrectionRecipe(num_tokens=16 * STEP_TOKENS, learning_rate_ratio=1.0)


def test_a_corrected_teacher_answers_and_the_parent_is_pruned(micro):
    spec, root, plain = micro
    spec = replace(spec, correction=CORRECTION)
    corrected, computed = _prepared(spec, root)
    assert computed == {
        "loading the parent", "correcting the teacher", "loading the corrected parent", "teacher answers",
        "held-out loss",
    }  # fmt: skip
    assert (corrected.parent_dir, corrected.scores_path, corrected.parent_loss) == (
        plain.parent_dir, plain.scores_path, plain.parent_loss
    )  # fmt: skip
    assert corrected.corrected_dir in corrected.paths
    assert corrected.teacher_dir != plain.teacher_dir
    assert corrected.corrected_loss < plain.parent_loss - 0.1
    blocks = open_blocks(plain.blocks_dir)
    model = load_parent(corrected.answering_dir)
    assert corrected.corrected_loss == held_out_loss(model, blocks.validation_NT)
    assert _prepared(spec, root) == (corrected, set())
    other = replace(spec, correction=replace(CORRECTION, num_tokens=8 * STEP_TOKENS))
    assert _prepared(other, root)[0].corrected_dir != corrected.corrected_dir


def test_a_correction_that_is_killed_again_and_again_is_the_same_to_the_bit(micro, tmp_path, monkeypatch):
    spec, root, _ = micro
    spec = replace(spec, correction=CORRECTION, checkpoint_seconds=1e-9)
    whole = prepare(spec, root, lambda _: None).corrected_dir
    monkeypatch.setattr(resumable, "SLICE_SECONDS", 0.0)
    starts = []

    def interrupt(progress):
        if progress.stage == "correcting the teacher":
            starts.append(progress.done)
            if len(starts) % 4 == 0:
                raise KeyboardInterrupt

    for _ in range(20):
        try:
            pieces = prepare(spec, tmp_path, interrupt).corrected_dir
            break
        except KeyboardInterrupt:
            continue
    assert len(starts) > 8
    assert (pieces / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert pieces.name == whole.name
    assert not list((tmp_path / "corrections").glob(".*")), "the resumable state is gone"


def test_the_parents_loss_is_that_of_the_parent(micro):
    _, _, prepared = micro
    blocks = open_blocks(prepared.blocks_dir)
    assert prepared.parent_loss == held_out_loss(load_parent(prepared.parent_dir), blocks.validation_NT)


def test_two_searches_do_not_prepare_one_parent_at_once(micro, monkeypatch):
    spec, root, prepared = micro
    monkeypatch.setattr(keys, "LOCK_POLL_SECONDS", 0.05)
    (path,) = (root / "locks").iterdir()
    told, waits = [], threading.Event()

    def tell(progress):
        told.append(progress.stage)
        waits.set()

    other = FileLock(path)
    results = []
    with other:
        thread = threading.Thread(target=lambda: results.append(prepare(spec, root, tell)))
        thread.start()
        assert waits.wait(10)
        assert "waiting for another search" in told[0]
        assert not results
    thread.join(10)
    assert results == [prepared]


def test_a_parent_that_is_not_what_was_planned_for_is_refused(micro):
    spec, root, _ = micro
    planned = planning_config(read_config(spec.parent)) | {"hidden_size": 24}
    with pytest.raises(
        ArtifactMismatch, match=r"parent: is not what was planned for: hidden_size: found 48, allowed: 24$"
    ):
        prepare(replace(spec, parent_config=planned), root, lambda _: None)


def test_too_little_text_names_the_field(micro):
    spec, root, _ = micro
    greedy = replace(spec, data=replace(spec.data, validation_tokens=10**6))
    with pytest.raises(DatasetTooSmall, match=r"data\.validation_tokens"):
        prepare(greedy, root, lambda _: None)


@pytest.mark.parametrize(
    ("parent", "resources", "expected"),
    [
        ("builtin:tiny", Resources(cpus=4), 1),
        ("builtin:tiny", Resources(cpus=4, threads=3), 3),
        ("builtin:smollm2-135m", Resources(cpus=2), 2),
        ("builtin:smollm2-135m", Resources(cpus=0.5), 1),
    ],
)
def test_threads_follow_the_spec_then_the_size_of_the_parent(micro, parent, resources, expected):
    import torch

    spec, _, _ = micro
    use_threads(replace(spec, parent=parent, resources=resources))
    assert torch.get_num_threads() == expected


def test_above_the_cache_limit_the_unused_go_and_the_used_stay(micro):
    spec, root, prepared = micro
    old = root / "teachers" / "old"
    old.mkdir()
    (old / "answers").write_bytes(bytes(100))
    os.utime(old, (1, 1))
    for path in prepared.paths:
        os.utime(path, (1, 1))
    assert prepare(spec, root, lambda _: None, cache_bytes=0) == prepared
    assert not old.exists()
    assert all(path.exists() for path in prepared.paths)


def test_a_device_with_less_memory_than_a_trial_takes_is_refused_before_anything_is_made(micro, monkeypatch):
    """No accelerator is at hand: only its size and kind are made up."""
    spec, root, _ = micro
    spec = replace(spec, resources=Resources(gpus=0.5))
    needed = estimate(spec, search_space(spec)).trial.memory_bytes
    monkeypatch.setattr(device, "device_of", lambda _: torch.device("cuda"))
    sizes = SimpleNamespace(total_memory=2 * needed - 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: sizes)
    told = []
    with pytest.raises(InvalidSpec, match=r"resources\.gpus: found .* of device memory for a trial, needed"):
        prepare(spec, root, told.append)
    assert told == []
