"""A trial gives the same student to the bit, whoever evaluates it and however often it is interrupted."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from minitron.errors import DivergedTraining
from minitron.recipe import DistillationRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.budget import Budget
from nas.layout import states_directory, student_directory
from nas.rungs import schedule
from nas.search import Rungs
from nas.space import search_space
from nas.trial import Trial, TrialRole
from tests.micro import micro_parent, micro_spec
from workers import teachers
from workers import trial as module
from workers.artifacts import prepare
from workers.trial import TrialEvaluator

NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A prepared search: spec, what it shares, and the artifact root."""
    directory = tmp_path_factory.mktemp("micro")
    torch.set_num_threads(1)
    spec = micro_spec(directory, rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False))
    root = directory / "artifacts"
    return spec, prepare(spec, root, lambda _: None), root


@pytest.fixture
def make_trial(micro, request):
    """Trials of this test alone, all of one architecture."""
    spec, _, _ = micro
    architecture = search_space(spec).architectures[-2]

    def make(number=0, **changes):
        trial = Trial(search_id=request.node.name, number=number, architecture=architecture, created_at=NOW)
        return replace(trial, **changes)

    return make


def _losses(reports):
    return {report.point.num_tokens: report.point.loss for report in reports if report.point}


def _weights(root, trial):
    return load_file(student_directory(root, trial) / "model.safetensors")


def _same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_reports_lead_from_the_pruned_model_to_the_student(micro, make_trial):
    spec, prepared, root = micro
    reports = list(TrialEvaluator(spec, prepared, root)(make_trial()))
    points = [report.point for report in reports if report.point]
    kept = [report.kept_layers for report in reports if report.kept_layers is not None]
    assert len(set(kept)) == 1
    assert len(kept[0]) == make_trial().architecture.num_layers
    assert reports[0].kept_layers == kept[0]
    assert tuple(point.num_tokens for point in points) == schedule(spec).points
    assert points[0].train_loss is None
    assert all(point.train_loss > 0 and point.seconds > 0 for point in points[1:])
    assert [report.finished is not None for report in reports] == [False] * (len(reports) - 1) + [True]
    last = reports[-1]
    assert (root / last.checkpoint / "tokenizer.json").exists()
    assert last.finished.loss == points[-1].loss
    assert last.finished.loss_before_retraining == points[0].loss
    assert last.finished.num_parameters == make_trial().architecture.parameter_count


@pytest.mark.parametrize("num_reports", [1, 2, 3])
def test_interrupted_again_and_again_it_gives_the_same_student(micro, make_trial, monkeypatch, num_reports):
    """Killed after every few reports, with a state saved after every slice of a single step."""
    spec, prepared, root = micro
    whole = list(TrialEvaluator(spec, prepared, root)(make_trial(0)))
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    often = replace(spec, checkpoint_seconds=1e-9)
    reports = []
    for _ in range(50):
        evaluation = TrialEvaluator(often, prepared, root)(make_trial(1))
        told = [
            report for report, _ in zip(evaluation, range(num_reports + len(_losses(reports))), strict=False)
        ]
        evaluation.close()
        reports += told
        if reports[-1].finished:
            break
    assert reports[-1].finished
    assert _losses(reports) == _losses(whole)
    assert _same(_weights(root, make_trial(1)), _weights(root, make_trial(0)))
    assert len(list(states_directory(root, make_trial(1)).iterdir())) == 1, "one state is kept"


def test_a_rung_comes_with_a_state_to_go_on_from(micro, make_trial):
    spec, prepared, root = micro
    rung = schedule(spec).rungs[0]
    evaluation = TrialEvaluator(spec, prepared, root)(make_trial())
    report = next(report for report in evaluation if report.num_tokens == rung and report.point)
    evaluation.close()
    assert (root / report.checkpoint).parent == states_directory(root, make_trial())
    assert report.checkpoint.endswith(f"/{rung}")


def test_a_baseline_goes_on_from_another_trials_state(micro, make_trial):
    spec, prepared, root = micro
    rung = schedule(spec).rungs[0]
    first = TrialEvaluator(spec, prepared, root)(make_trial(0))
    stopped = next(report for report in first if report.num_tokens == rung and report.point)
    first.close()
    twin = make_trial(1, role=TrialRole.RANDOM_ARCHITECTURE, checkpoint=stopped.checkpoint)
    reports = list(TrialEvaluator(spec, prepared, root)(twin))
    assert reports[0].point.num_tokens == 0
    assert {report.num_tokens for report in reports if not report.point} <= {*range(rung, 10**6)}
    alone = list(TrialEvaluator(spec, prepared, root)(make_trial(2)))
    assert _losses(reports) == _losses(alone)
    assert _same(_weights(root, twin), _weights(root, make_trial(2)))


def test_a_state_that_is_gone_costs_time_only(micro, make_trial):
    spec, prepared, root = micro
    lost = make_trial(1, checkpoint="searches/gone/trials/0/states/256")
    reports = list(TrialEvaluator(spec, prepared, root)(lost))
    assert _losses(reports) == _losses(TrialEvaluator(spec, prepared, root)(make_trial(0)))


def test_random_indices_are_others_and_the_same_again(micro, make_trial):
    spec, prepared, root = micro
    evaluator = TrialEvaluator(spec, prepared, root)
    chosen = _losses(evaluator(make_trial(0)))
    drawn = [_losses(evaluator(make_trial(number, role=TrialRole.RANDOM_INDICES))) for number in (1, 2)]
    again = _losses(evaluator(make_trial(1, search_id="again", role=TrialRole.RANDOM_INDICES)))
    assert drawn[0] == again
    assert len({tuple(losses.values()) for losses in (chosen, *drawn)}) == 3


def test_hidden_states_teach_what_the_live_parent_teaches(micro, make_trial):
    """The same logits, up to the order of sums."""
    spec, _, root = micro
    points = {}
    for number, teacher in enumerate(("live", "cached")):
        recipe = replace(spec.distillation, teacher=teacher, cache_form="hidden", temperature=2.0)
        changed = replace(spec, distillation=recipe)
        prepared = prepare(changed, root, lambda _: None)
        assert (prepared.teacher_dir is None) == (teacher == "live")
        reports = list(TrialEvaluator(changed, prepared, root)(make_trial(number)))
        points[teacher] = [report.point for report in reports if report.point]
    for live, cached in zip(points["live"][1:], points["cached"][1:], strict=True):
        assert cached.train_loss == pytest.approx(live.train_loss, rel=1e-4)
        assert cached.loss == pytest.approx(live.loss, abs=1e-4)


@pytest.mark.parametrize("cache_form", ["hidden", "top_k"])
def test_a_corrected_teacher_teaches_the_same_live_and_cached(micro, make_trial, cache_form):
    """And the student is pruned from the parent as it was."""
    spec, uncorrected, root = micro
    spec = replace(spec, correction=CorrectionRecipe(learning_rate_ratio=1.0))
    points = {}
    for number, teacher in enumerate(("live", "cached")):
        recipe = replace(spec.distillation, teacher=teacher, cache_form=cache_form, top_k=257)
        changed = replace(spec, distillation=recipe)
        reports = list(
            TrialEvaluator(changed, prepare(changed, root, lambda _: None), root)(make_trial(number))
        )
        points[teacher] = [report.point for report in reports if report.point]
    for live, cached in zip(points["live"][1:], points["cached"][1:], strict=True):
        assert cached.train_loss == pytest.approx(live.train_loss, rel=2e-3)
        assert cached.loss == pytest.approx(live.loss, abs=1e-3)
    plain = replace(spec, correction=None)
    alone = _losses(TrialEvaluator(plain, uncorrected, root)(make_trial(2)))
    assert alone[0] == points["live"][0].loss
    assert alone[schedule(spec).num_tokens] > points["live"][-1].loss


def test_a_trial_that_learns_from_hidden_states_is_as_resumable_and_its_student_as_plain(
    tmp_path, make_trial, monkeypatch, caplog
):
    """Of narrower states, so that something learns beside the student; and what it learnt from is logged."""
    caplog.set_level("INFO")
    spec = micro_spec(tmp_path, distillation=DistillationRecipe(teacher="live", loss="reverse_kl"))
    spec = replace(
        spec, parent=str(micro_parent(tmp_path / "deep", num_hidden_layers=4)),
        axes=replace(spec.axes, num_layers=(3,), hidden_size=(36,)), budget=Budget(max_parameters=10**6),
    )  # fmt: skip
    root, shape = tmp_path / "artifacts", search_space(spec).largest
    prepared = prepare(spec, root, lambda _: None)
    first, second = (make_trial(number, architecture=shape) for number in (0, 1))
    whole = list(TrialEvaluator(spec, prepared, root)(first))
    assert "learns from reverse_kl on logits, cosine on hidden states (output, embedding)" in caplog.text
    evaluation = TrialEvaluator(spec, prepared, root)(second)
    next(report for report in evaluation if report.num_tokens == 256)
    evaluation.close()
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    interrupted = TrialEvaluator(replace(spec, checkpoint_seconds=1e-9), prepared, root)(second)
    next(report for report in interrupted if report.num_tokens == 384)
    interrupted.close()
    assert _losses(TrialEvaluator(spec, prepared, root)(second)) == _losses(whole)
    assert _same(_weights(root, first), _weights(root, second))
    model = AutoModelForCausalLM.from_pretrained(student_directory(root, first))
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameter_count


def test_a_live_teacher_is_loaded_once_for_all_trials_in_the_precision_it_answers_in(
    micro, make_trial, monkeypatch
):
    spec, _, root = micro
    loaded = []
    load = module.load_parent

    def counted(*arguments, **options):
        loaded.append(model := load(*arguments, **options))
        return model

    for loads in (module, teachers):
        monkeypatch.setattr(loads, "load_parent", counted)
    for precision, dtypes in (("bfloat16", [torch.float32, torch.bfloat16]), ("float32", [torch.float32])):
        changed = replace(
            spec,
            distillation=replace(spec.distillation, teacher="live"),
            training=replace(spec.training, precision=precision),
        )
        evaluator = TrialEvaluator(changed, prepare(changed, root, lambda _: None), root)
        for number in range(2):
            reports = list(evaluator(make_trial(number, search_id=precision)))
            assert reports[-1].finished.loss != reports[0].point.loss  # its answers were learnt from
        assert sorted(map(str, (model.dtype for model in loaded))) == sorted(map(str, dtypes))
        loaded.clear()


def test_divergence_is_named(micro, make_trial):
    spec, prepared, root = micro
    wild = replace(spec, training=replace(spec.training, peak_learning_rate=1e38))
    with pytest.raises(DivergedTraining):
        list(TrialEvaluator(wild, prepared, root)(make_trial()))
