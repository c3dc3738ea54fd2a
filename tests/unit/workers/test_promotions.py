"""A promotion goes on from a student, or from the parent, to the bit, and is measured on shards of the held-out tokens."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minitron.checkpoint import load_parent
from minitron.data import open_blocks
from minitron.errors import ArtifactMismatch, DatasetTooSmall
from minitron.evaluate import held_out_loss
from minitron.stage_recipes import CorrectionRecipe
from nas.layout import student_directory
from nas.promotion import Promotion
from nas.rungs import schedule
from nas.space import search_space
from nas.trial import Trial, TrialRole, TrialState
from tests.micro import STEP_TOKENS, micro_spec
from workers import trial as module
from workers.artifacts import prepare, prepare_promotions
from workers.students import missing_students
from workers.trial import TrialEvaluator

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A search, its promotion, what both are made from, the artifact root, and a completed trial."""
    directory = tmp_path_factory.mktemp("micro")
    torch.set_num_threads(1)
    spec, root = micro_spec(directory), directory / "artifacts"
    promotion = Promotion(
        training=replace(spec.training, num_tokens=12 * STEP_TOKENS), num_points=3, num_shards=3
    )
    prepared = prepare(spec, root, lambda _: None)
    promoted = prepare_promotions(spec.promoted_by(promotion), prepared, root, lambda _: None)
    trial = Trial(search_id="s", number=0, architecture=search_space(spec).architectures[-2], created_at=NOW)
    last = list(TrialEvaluator(spec, prepared, root)(trial))[-1]
    done = replace(
        trial,
        state=TrialState.COMPLETED,
        measurement=last.finished,
        checkpoint=last.checkpoint,
        kept_layers=tuple(range(trial.architecture.num_layers)),
    )
    return spec, promotion, prepared, promoted, root, done


def promotion_of(micro, number, **changes):
    _, promotion, _, _, _, done = micro
    return Trial(
        search_id="s",
        number=number,
        architecture=done.architecture,
        role=TrialRole.PROMOTION,
        promoted_from=0,
        promotion=replace(promotion, **changes),
        kept_layers=done.kept_layers,
        created_at=NOW,
    )


def evaluator(micro, **changes):
    spec, promotion, _, promoted, root, _ = micro
    return TrialEvaluator(replace(spec.promoted_by(promotion), **changes), promoted, root)


def weights(micro, trial):
    return load_file(student_directory(micro[4], trial) / "model.safetensors")


def test_more_blocks_and_answers_are_all_that_promotions_need_and_they_are_found_again(micro):
    spec, promotion, prepared, promoted, root, _ = micro
    assert promoted.validation_fingerprint == prepared.validation_fingerprint
    assert promoted.scores_path == prepared.scores_path
    own, more = open_blocks(prepared.blocks_dir), open_blocks(promoted.blocks_dir)
    assert (own.validation_NT == more.validation_NT).all()
    assert len(more.training_NT) == 12 * len(own.training_NT) // 8
    told = []
    again = prepare_promotions(spec.promoted_by(promotion), prepared, root, told.append)
    assert again == promoted
    assert all(progress.is_cached for progress in told)


def test_a_teacher_that_was_corrected_answers_promotions_too(micro):
    spec, promotion, _, promoted, root, _ = micro
    corrected = replace(spec, correction=CorrectionRecipe(learning_rate_ratio=1.0))
    prepared = prepare(corrected, root, lambda _: None)
    found = prepare_promotions(corrected.promoted_by(promotion), prepared, root, lambda _: None)
    assert found.answering_dir == prepared.corrected_dir
    assert found.blocks_dir == promoted.blocks_dir
    assert found.teacher_dir != promoted.teacher_dir


def test_too_few_data_for_so_long_a_training_is_refused_in_its_name(micro):
    spec, promotion, prepared, _, root, _ = micro
    longer = replace(promotion, training=replace(promotion.training, num_tokens=10**6))
    with pytest.raises(DatasetTooSmall, match=r"training\.num_tokens"):
        prepare_promotions(spec.promoted_by(longer), prepared, root, lambda _: None)


def test_other_text_that_would_be_held_out_is_refused(micro):
    spec, promotion, prepared, _, root, _ = micro
    other = replace(prepared, validation_fingerprint="other")
    with pytest.raises(ArtifactMismatch, match=r"promotion\.training\.num_tokens: found 768, allowed"):
        prepare_promotions(spec.promoted_by(promotion), other, root, lambda _: None)


def test_it_begins_from_the_student_and_a_schedule_of_its_own(micro):
    spec, promotion, _, promoted, root, done = micro
    trial = promotion_of(micro, 1)
    reports = list(evaluator(micro)(trial))
    points = [report.point for report in reports if report.point]
    assert tuple(point.num_tokens for point in points) == schedule(spec.promoted_by(promotion)).points
    assert points[0].loss == done.measurement.loss
    assert {report.kept_layers for report in reports if report.kept_layers} == {done.kept_layers}
    measured = reports[-1].finished
    assert measured.loss_before_retraining == done.measurement.loss
    student = load_parent(student_directory(root, trial))
    shards = np.array_split(open_blocks(promoted.blocks_dir).validation_NT, 3)
    assert [len(shard) for shard in shards] == [3, 3, 2]
    assert measured.shard_losses == tuple(held_out_loss(student, shard) for shard in shards)
    whole = sum(loss * len(shard) for loss, shard in zip(measured.shard_losses, shards, strict=True)) / 8
    assert whole == pytest.approx(measured.loss, rel=1e-6)


def test_pruned_anew_it_begins_where_the_trial_began(micro):
    done = micro[-1]
    reports = list(evaluator(micro)(promotion_of(micro, 2, start="pruned")))
    assert reports[0].point.loss == done.measurement.loss_before_retraining
    assert reports[0].kept_layers == done.kept_layers


def test_interrupted_again_and_again_it_gives_the_same_student(micro, monkeypatch):
    whole = list(evaluator(micro)(promotion_of(micro, 3)))
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    trial, reports = promotion_of(micro, 4), []
    for _ in range(50):
        evaluation = evaluator(micro, checkpoint_seconds=1e-9)(trial)
        num_points = sum(report.point is not None for report in reports)
        reports += [report for report, _ in zip(evaluation, range(2 + num_points), strict=False)]
        evaluation.close()
        if reports[-1].finished:
            break
    finished = whole[-1].finished
    assert len(reports) > len(whole)
    assert reports[-1].finished.shard_losses == finished.shard_losses
    left, right = weights(micro, trial), weights(micro, promotion_of(micro, 3))
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_a_student_that_was_deleted_is_missing_and_one_of_a_promotion_is_not_made_again(micro):
    root, done = micro[4], micro[-1]
    assert missing_students(root, [done]) == []
    elsewhere = root.with_name("elsewhere")
    shutil.copytree(student_directory(root, done), student_directory(elsewhere, done))
    assert missing_students(elsewhere, [done, promotion_of(micro, 1)]) == []
    shutil.rmtree(student_directory(elsewhere, done))
    assert missing_students(elsewhere, [done, promotion_of(micro, 1)]) == [done]
