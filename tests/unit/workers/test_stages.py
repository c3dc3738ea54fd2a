"""A teacher that is corrected while students learn teaches each as much as it knows at that point, whoever is ahead."""

import threading
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minitron import resumable
from minitron.checkpoint import load_parent
from minitron.correct import correction_of
from minitron.data import open_blocks
from minitron.evaluate import held_out_loss
from minitron.importance import ImportanceScores
from minitron.plan import plan_pruning
from minitron.prune import prune
from minitron.recipe import DistillationRecipe
from minitron.stage_recipes import CorrectionRecipe
from minitron.teacher import LiveTeacher
from minitron.train import Retraining
from nas.layout import states_directory, student_directory
from nas.rungs import schedule
from nas.space import search_space
from nas.trial import Trial
from tests.micro import STEP_TOKENS, VOCAB_SIZE, micro_spec
from workers import trial as module
from workers.artifacts import prepare
from workers.stages import correct_alongside
from workers.trial import TrialEvaluator

CPU = torch.device("cpu")
STARTS = (0, 1, 3, 5)
"""Steps of eight after which the teacher answers anew; it learns for five."""
CORRECTION = CorrectionRecipe(mode="alongside", stages=3, num_tokens=5 * STEP_TOKENS, learning_rate_ratio=1.0)
TOLERANCE = 2e-3
"""Kept log-probabilities are halves, and the rate is high."""
ANSWERS = {
    "live": DistillationRecipe(teacher="live"),
    "hidden": DistillationRecipe(cache_form="hidden"),
    "top_k": DistillationRecipe(top_k=VOCAB_SIZE),
}


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    directory = tmp_path_factory.mktemp("micro")
    torch.set_num_threads(1)
    spec = micro_spec(directory, correction=CORRECTION)
    # So large a rate that another teacher is seen in the losses.
    spec = replace(spec, training=replace(spec.training, peak_learning_rate=0.01, warmup_tokens=0))
    return spec, directory / "artifacts"


def _trial(spec, name, **changes):
    shape = search_space(spec).architectures[-2]
    made = datetime(2025, 1, 1, tzinfo=UTC)
    return replace(Trial(search_id=name, number=0, architecture=shape, created_at=made), **changes)


def _losses(reports):
    return {report.point.num_tokens: report.point.loss for report in reports if report.point}


@pytest.fixture(scope="module")
def expected(micro):
    """The held-out losses of a student whose teacher is one model that learns in this very process."""
    spec, root = micro
    prepared = prepare(spec, root, lambda _: None)
    blocks, parent = open_blocks(prepared.blocks_dir), load_parent(prepared.parent_dir)
    scores = ImportanceScores.load(prepared.scores_path, expected_fingerprint=prepared.scores_fingerprint)
    plan = plan_pruning(scores, _trial(spec, "").architecture, spec.pruning)
    learning = deepcopy(parent)
    correction = correction_of(learning, blocks.training_NT, CORRECTION.training(spec.training), device=CPU)
    teachers = {}
    for start in STARTS:
        if start:
            correction.advance(start * STEP_TOKENS)
        teachers[start] = LiveTeacher(deepcopy(learning), "float32")
    retraining = Retraining(
        prune(parent, plan), blocks.training_NT, teachers[0],
        training=spec.training, distillation=spec.distillation, device=CPU,
    )  # fmt: skip
    losses = {0: held_out_loss(retraining.student, blocks.validation_NT)}
    for step in range(8):
        now = max(start for start in STARTS if start <= step)
        retraining.ask(lambda now=now: teachers[now])
        retraining.advance((step + 1) * STEP_TOKENS)
        losses[retraining.num_tokens] = held_out_loss(retraining.student, blocks.validation_NT)
    return {num_tokens: losses[num_tokens] for num_tokens in schedule(spec).points}


def test_a_stage_begins_after_whole_steps_and_none_is_empty():
    assert CORRECTION.stage_starts(5) == STARTS
    assert replace(CORRECTION, stages=9).stage_starts(2) == (0, 1, 2)
    assert replace(CORRECTION, stages=1).stage_starts(7) == (0, 7)


@pytest.mark.parametrize("answers", ANSWERS)
def test_a_student_learns_from_the_teacher_as_far_as_it_has_come(micro, expected, answers):
    spec, root = micro
    spec = replace(spec, distillation=ANSWERS[answers])
    prepared = prepare(spec, root, lambda _: None)
    loss = correct_alongside(spec, prepared, root, lambda _: None)
    found = _losses(TrialEvaluator(spec, prepared, root)(_trial(spec, answers)))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    other = replace(spec, correction=replace(CORRECTION, mode="before"))
    before = prepare(other, root, lambda _: None)
    assert prepared.corrected_dir == before.corrected_dir
    assert loss == before.corrected_loss < before.parent_loss - 0.1
    apart = _losses(TrialEvaluator(other, before, root)(_trial(spec, f"{answers}-before")))
    assert max(abs(apart[at] - expected[at]) for at in expected) > 5 * TOLERANCE, (
        "the comparison could not fail"
    )


def test_a_trial_that_is_ahead_waits_and_says_that_it_is_there(micro, expected, tmp_path, monkeypatch):
    spec, _ = micro
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    spec = replace(spec, distillation=ANSWERS["top_k"])
    prepared = prepare(spec, tmp_path, lambda _: None)
    stages = prepared.stages
    reports, goes_on = [], threading.Event()

    def held_back(_):
        if stages[1].teacher_dir.exists():
            assert goes_on.wait(60)

    correction = threading.Thread(target=correct_alongside, args=(spec, prepared, tmp_path, held_back))
    evaluation = TrialEvaluator(spec, prepared, tmp_path)(_trial(spec, "ahead"))
    reports += [next(evaluation), next(evaluation)]
    assert [(report.num_tokens, report.point) for report in reports] == [(0, None), (0, None)]
    correction.start()
    waits = 0
    while waits < 3:
        reports.append(next(evaluation))
        waits += reports[-1].point is None and reports[-1].num_tokens == STARTS[2] * STEP_TOKENS
    assert not stages[2].teacher_dir.exists()
    goes_on.set()
    reports += evaluation
    correction.join()
    assert _losses(reports) == pytest.approx(expected, abs=TOLERANCE)
    assert prepared.corrected_dir.exists()


@pytest.mark.parametrize("answers", ["live", "top_k"])
def test_killed_again_and_again_both_go_on_to_the_same_bits(micro, tmp_path, monkeypatch, answers):
    spec, root = micro
    spec = replace(spec, distillation=ANSWERS[answers], checkpoint_seconds=1e-9)
    whole = prepare(spec, root, lambda _: None)
    correct_alongside(spec, whole, root, lambda _: None)
    uninterrupted = list(TrialEvaluator(spec, whole, root)(_trial(spec, f"{answers}-whole")))
    monkeypatch.setattr(resumable, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    prepared = prepare(spec, tmp_path, lambda _: None)
    told, kills = [], 0

    def interrupt(progress):
        told.append(progress)
        if len(told) > 2 + kills:
            raise KeyboardInterrupt

    loss = None
    while loss is None:
        told.clear()
        try:
            loss = correct_alongside(spec, prepared, tmp_path, interrupt)
        except KeyboardInterrupt:
            kills += 1
    assert kills > 1
    assert loss == held_out_loss(
        load_parent(whole.corrected_dir), open_blocks(whole.blocks_dir).validation_NT
    )
    assert not list((tmp_path / "corrections").glob(".*")), "the resumable state is gone"
    for made, expected in zip(prepared.stages, whole.stages, strict=True):
        if made.teacher_dir is None:
            file = "model.safetensors"
            assert (made.model_dir / file).read_bytes() == (expected.model_dir / file).read_bytes()
        else:
            for path in expected.teacher_dir.glob("*.npy"):
                np.testing.assert_array_equal(np.load(made.teacher_dir / path.name), np.load(path))
    reports = []
    trial = _trial(spec, "pieces")
    while not (reports and reports[-1].finished):
        evaluation = TrialEvaluator(spec, prepared, tmp_path)(trial)
        reports += [report for report, _ in zip(evaluation, range(2 + len(_losses(reports))), strict=False)]
        evaluation.close()
    assert _losses(reports) == _losses(uninterrupted)
    left = load_file(student_directory(tmp_path, trial) / "model.safetensors")
    right = load_file(student_directory(root, _trial(spec, f"{answers}-whole")) / "model.safetensors")
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert len(list(states_directory(tmp_path, trial).iterdir())) == 1


def test_what_was_passed_and_has_gone_since_is_made_again(micro, tmp_path):
    spec, _ = micro
    spec = replace(spec, distillation=ANSWERS["top_k"], checkpoint_seconds=1e-9)
    prepared = prepare(spec, tmp_path, lambda _: None)

    def stop(_):
        if list((tmp_path / "corrections").glob(".*.state/*")):
            raise KeyboardInterrupt

    resumable_before = resumable.SLICE_SECONDS
    resumable.SLICE_SECONDS = 0.0
    try:
        with pytest.raises(KeyboardInterrupt):
            correct_alongside(spec, prepared, tmp_path, stop)
    finally:
        resumable.SLICE_SECONDS = resumable_before
    passed = [stage.teacher_dir for stage in prepared.stages if stage.teacher_dir.exists()]
    assert passed
    passed[0].rename(tmp_path / "gone")
    correct_alongside(spec, prepared, tmp_path, lambda _: None)
    assert all(stage.teacher_dir.exists() for stage in prepared.stages)
    for file in passed[0].glob("*.npy"):
        np.testing.assert_array_equal(np.load(file), np.load(tmp_path / "gone" / file.name))


def test_a_second_search_finds_all_of_it(micro):
    spec, root = micro
    prepared = prepare(spec, root, lambda _: None)
    loss = correct_alongside(spec, prepared, root, lambda _: None)
    told = []
    assert correct_alongside(spec, prepared, root, told.append) == loss
    assert [progress.is_cached for progress in told] == [True, True]
