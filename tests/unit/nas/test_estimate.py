"""What a search will cost: sums that add up, laws that hold, and refusals that say what to change."""

from dataclasses import replace

import pytest

from minitron.costs import training_flops
from minitron.errors import InvalidRecipe
from minitron.parents import parent_architecture
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.budget import MemoryBudget, Span
from nas.errors import InvalidSpec
from nas.estimate import MAX_SAMPLED, estimate
from nas.estimate_rows import estimate_rows
from nas.finals import Evaluation
from nas.limits import expected_tokens
from nas.promotion import Promotion
from nas.rates import Rate, measured_rate
from nas.resources import Resources
from nas.room import require_memory
from nas.rungs import schedule
from nas.search import Comparisons, Rungs
from nas.space import search_space
from nas.trial import Measurement
from tests.searches import MEASUREMENT, after, make_spec, make_trial

SPEC = make_spec(
    training=TrainingRecipe(num_tokens=65_536, batch_tokens=2_048),
    num_trials=6,
    comparisons=Comparisons(random_architectures=2, random_indices=1),
)
RATE = Rate(flops_per_second=1e9, source="as stated")


def of(spec, rate=None):
    return estimate(spec, search_space(spec), rate=rate)


def test_counts_are_those_of_space_and_schedule():
    space, found = search_space(SPEC), of(SPEC)
    assert found.num_feasible == len(space)
    assert (found.parameters.least, found.parameters.most) == (
        space.smallest.parameter_count, space.largest.parameter_count
    )  # fmt: skip
    assert (found.num_trials, found.num_baselines) == (6, 3)
    assert found.trial.num_tokens == schedule(SPEC).num_tokens
    assert found.num_tokens == expected_tokens(SPEC, schedule(SPEC), len(space))


def test_costs_of_layers_and_steps_are_costs():
    """Models without layers are run down to the shallowest that the axes name."""

    def preparation(**changes):
        return of(replace(SPEC, calibration=replace(SPEC.calibration, **changes))).preparation_flops

    one, two, three = (preparation(steps=steps) for steps in (1, 2, 3))
    assert three - two == two - one > 0
    cheap, dear = preparation(depth_metric="kl", depth_tokens=1024), preparation(depth_metric="kl")
    assert cheap < dear
    assert preparation(depth_selection="independent") == preparation() < cheap
    assert preparation() < preparation(depth_selection="iterative") < dear
    deep = replace(SPEC, calibration=replace(SPEC.calibration, depth_metric="kl"))
    axes = replace(SPEC.axes, num_layers=(4, 5))
    assert of(replace(deep, axes=axes)).preparation_flops < dear


def test_a_space_of_one_costs_its_one_trial():
    """Nothing is averaged: every sum can be written down."""
    spec = make_spec(axes=replace(SPEC.axes, num_layers=(4,), hidden_size=(112,)), num_trials=1)
    (shape,) = search_space(spec).architectures
    parent = parent_architecture(spec.parent)
    found = of(spec)
    plan, length = schedule(spec), spec.data.sequence_length
    calibration, validation = spec.calibration.num_blocks(length) * length, spec.data.validation_tokens
    training = training_flops(
        shape, parent, num_tokens=plan.num_tokens, sequence_length=length, is_live=False
    )
    evaluations = len(plan.points) * validation * shape.flops_per_token(context=length)
    assert (found.trial.flops.least, found.trial.flops.most) == (training + evaluations,) * 2
    forward = parent.flops_per_token(context=length)
    head = 2 * parent.vocab_size * parent.hidden_size
    assert found.preparation_flops == (
        calibration * (forward - head) + validation * forward + plan.num_tokens * forward
    )
    assert found.flops == found.preparation_flops + training + evaluations
    state, student = 12 * shape.parameter_count, 4 * shape.parameter_count
    assert found.trial.state_bytes.most == state
    answers = plan.num_tokens * (6 * 128 + 4)
    assert found.teacher_cache_bytes == answers
    blocks = 4 * (plan.num_tokens + calibration + validation)
    # A new state before the old one goes, for each that runs at once; the student and MLflow's copy of it.
    assert found.disk_bytes == answers + blocks + 2 * spec.max_parallel * state + 2 * student


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"num_trials": 9}, {"num_tokens", "flops", "disk_bytes"}),
        ({"comparisons": Comparisons(random_architectures=5)}, {"num_tokens", "flops", "disk_bytes"}),
        ({"rungs": Rungs(fractions=(0.5,), keep=0.5, adaptive=False)}, {"disk_bytes"}),
        (
            {"training": replace(SPEC.training, num_tokens=131_072)},
            {"num_tokens", "flops", "preparation_flops", "disk_bytes", "teacher_cache_bytes"},
        ),
        ({"max_parallel": 4}, {"disk_bytes"}),
    ],
)
def test_more_of_something_costs_more_of_what_it_should(change, grows):
    before, after_ = of(SPEC), of(replace(SPEC, **change))
    quantities = ("num_tokens", "flops", "preparation_flops", "disk_bytes", "teacher_cache_bytes")
    assert {name for name in quantities if getattr(after_, name) > getattr(before, name)} == grows


def test_tokens_limit_how_many_trials_are_planned():
    one = schedule(SPEC).num_tokens
    whole = of(replace(SPEC, comparisons=Comparisons()))
    found = of(replace(SPEC, comparisons=Comparisons(), max_tokens=2 * one + 1))
    assert (found.num_trials, found.num_tokens) == (2, 2 * one + 1)
    assert found.flops < whole.flops
    assert found.disk_bytes < whole.disk_bytes


def test_a_teacher_that_does_not_fit_the_cache_is_asked_live_and_costs_memory_and_work():
    cached = of(SPEC)
    live = of(replace(SPEC, distillation=DistillationRecipe(max_cache_bytes=1)))
    assert cached.teacher_cache_bytes == 65_536 * (6 * 128 + 4)
    assert (live.is_teacher_live, live.teacher_cache_bytes) == (True, 0)
    assert live.trial.memory.teacher >= 2 * parent_architecture(SPEC.parent).parameter_count
    assert live.trial.flops.least > cached.trial.flops.least
    assert live.preparation_flops < cached.preparation_flops


def test_a_correction_is_one_more_training_of_the_parent():
    corrected = of(replace(SPEC, correction=CorrectionRecipe(num_tokens=32_768)))
    plain, parent = of(SPEC), parent_architecture(SPEC.parent)
    work = training_flops(parent, parent, num_tokens=32_768, sequence_length=256, is_live=False)
    again = SPEC.data.validation_tokens * parent.flops_per_token(context=256)
    assert corrected.correction_flops == work
    assert corrected.preparation_flops == plain.preparation_flops + work + again
    assert corrected.flops == plain.flops + work + again
    # Its weights, and two states of weights and moments while one replaces the other.
    assert corrected.disk_bytes == plain.disk_bytes + (4 + 2 * 12) * parent.parameter_count
    assert corrected.trial.correction_bytes > 16 * parent.parameter_count
    assert corrected.trial.preparation_bytes >= corrected.trial.correction_bytes
    alongside = CorrectionRecipe(num_tokens=32_768, mode="alongside", stages=5)
    live = replace(SPEC, distillation=replace(SPEC.distillation, teacher="live"))
    for spec, kept in ((SPEC, 1), (live, 5)):
        found = of(replace(spec, correction=alongside))
        assert found.disk_bytes == of(spec).disk_bytes + (4 * kept + 2 * 12) * parent.parameter_count
    assert (plain.correction_flops, plain.trial.correction_bytes) == (0, 0)
    with pytest.raises(InvalidSpec, match=r"needed to correct the teacher: .*leave correction out"):
        require_memory(
            replace(corrected.trial, memory_bytes=corrected.trial.correction_bytes),
            1,
            field="resources.gpus",
            what="",
        )


def test_auto_precision_is_taken_for_the_hungrier():
    totals = [
        of(replace(SPEC, training=replace(SPEC.training, precision=precision))).trial.memory.total
        for precision in ("float32", "bfloat16")
    ]
    assert of(SPEC).trial.memory.total == max(totals)


def test_on_an_accelerator_the_parent_stays_outside():
    on_cpu = of(SPEC).trial
    on_gpu = of(replace(SPEC, resources=Resources(gpus=1))).trial
    assert on_cpu.memory_bytes == on_gpu.memory_bytes + on_cpu.parent_bytes == on_cpu.host_bytes
    assert on_gpu.host_bytes == on_gpu.parent_bytes + on_gpu.student_bytes.most


def test_time_follows_from_the_rate_and_from_how_many_run_at_once():
    assert of(SPEC).hours is None
    alone, two = (of(replace(SPEC, max_parallel=number), RATE) for number in (1, 2))
    assert alone.hours == pytest.approx(alone.flops / 1e9 / 3600)
    prepare = two.preparation_flops
    assert two.hours == pytest.approx((prepare + (two.flops - prepare) / 2) / 1e9 / 3600)
    together = of(replace(SPEC, max_parallel=1, resources=Resources(processes=2)), RATE)
    assert together.hours == pytest.approx(two.hours), "one process prepares, both train"
    assert 2 * together.trial.seconds == pytest.approx(alone.trial.seconds)
    crowd = of(replace(SPEC, max_parallel=1000), RATE)
    assert crowd.hours * 3600 * 1e9 > crowd.preparation_flops + (crowd.flops - crowd.preparation_flops) / 10


def test_a_rate_is_the_median_of_what_trials_reached():
    parent = parent_architecture(SPEC.parent)

    def trial(number, seconds):
        measured = replace(MEASUREMENT, num_tokens=1000, train_seconds=seconds)
        return make_trial(number).started(after(0)).completed(measured, "student", after(1))

    trials = [trial(0, 1.0), trial(1, 2.0), trial(2, 100.0), make_trial(3)]
    work = training_flops(trials[0].architecture, parent, num_tokens=1000, sequence_length=256, is_live=False)
    found = measured_rate([(SPEC, parent, trials)])
    assert found.flops_per_second == pytest.approx(work / 2.0)
    together = replace(SPEC, resources=Resources(processes=2))
    assert measured_rate([(together, parent, trials)]).flops_per_second == pytest.approx(work / 4.0)
    assert found.source == "the median of 3 trials of builtin:tiny"
    assert measured_rate([(SPEC, parent, [make_trial(0)])]) is None
    assert isinstance(trials[0].measurement, Measurement)


def test_too_little_memory_names_the_field_and_what_to_lower():
    trial = of(SPEC).trial
    require_memory(trial, trial.memory_bytes, field="resources.memory_bytes", what="memory stated")
    with pytest.raises(InvalidSpec) as caught:
        require_memory(trial, trial.memory_bytes - 1, field="resources.memory_bytes", what="memory stated")
    ((field, reason),) = caught.value.problems
    assert field == "resources.memory_bytes"
    assert "of memory stated, needed by a trial: " in reason
    assert "training.micro_batch_size" in reason


def test_each_way_to_save_memory_shows():
    def estimated(**changes):
        return of(replace(SPEC, training=replace(SPEC.training, **changes))).trial

    plain = estimated()
    moments = estimated(optimizer_state="bfloat16")
    assert 2 * moments.memory.optimizer == plain.memory.optimizer
    assert 3 * moments.state_bytes.most == 2 * plain.state_bytes.most
    checkpointed = estimated(activation_checkpointing=True)
    assert 2 * checkpointed.memory.activations < plain.memory.activations
    assert plain.flops.most < checkpointed.flops.most < 4 / 3 * plain.flops.most
    assert 2 * estimated(weights="bfloat16").memory.gradients == plain.memory.gradients
    assert estimated(weights="bfloat16").memory.total < plain.memory.total


def test_several_processes_share_memory():
    """All but what is gathered for a moment, and the activations of one micro-batch."""
    wide = replace(SPEC, training=replace(SPEC.training, batch_tokens=64 * 256, num_tokens=10**6))
    alone, four = (of(replace(wide, resources=Resources(processes=number))).trial for number in (1, 4))
    assert 4 * four.memory.optimizer == alone.memory.optimizer
    assert alone.memory.gradients / 4 < four.memory.gradients < alone.memory.gradients
    assert four.memory.activations == alone.memory.activations
    assert four.parent_bytes == 0
    assert four.host_bytes == four.memory.total + four.student_bytes.most
    few = replace(SPEC, training=replace(SPEC.training, batch_tokens=4 * 256))
    one_block = of(replace(few, resources=Resources(processes=4))).trial
    assert 4 * one_block.memory.activations == of(few).trial.memory.activations


def test_large_spaces_are_sampled_not_listed():
    spec = make_spec(
        axes=replace(SPEC.axes, hidden_size=tuple(range(64, 129)), intermediate_size=tuple(range(100, 257)))
    )
    space = search_space(replace(spec, budget=replace(SPEC.budget, min_parameters=0)))
    assert len(space) > 2 * MAX_SAMPLED
    found = estimate(spec, space)
    assert found.trial.state_bytes.most == 12 * space.largest.parameter_count


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({}, "forward_kl on logits; on no hidden states, since the teacher is not live"),
        (
            {"teacher": "live"},
            "forward_kl on logits, cosine on hidden states (output, embedding) where depth falls by more than a fifth",
        ),
        ({"intermediate": "none"}, "forward_kl on logits"),
        (
            {"intermediate": "output", "teacher": "live", "loss": "mse"},
            "mse on logits, mse on hidden states (output)",
        ),
    ],
)  # fmt: skip
def test_what_students_learn_from_is_told(recipe, told):
    """From 6 layers to 4 is more than a fifth, to 5 is less."""
    loss = {"intermediate_loss": "mse"} if recipe.get("loss") else {}
    spec = replace(
        SPEC, axes=replace(SPEC.axes, num_layers=(4, 5)), distillation=DistillationRecipe(**recipe | loss),
    )  # fmt: skip
    assert dict(estimate_rows(of(spec)))["students learn from"] == told


def test_hidden_states_cost_memory_and_what_takes_them_to_the_teachers_width_a_part_of_the_state():
    live = DistillationRecipe(teacher="live", intermediate="none")
    without, with_states = (
        of(replace(SPEC, distillation=replace(live, intermediate=which))).trial
        for which in ("none", "output_embedding")
    )
    assert with_states.memory.weights > without.memory.weights
    assert with_states.memory.optimizer > without.memory.optimizer
    assert with_states.state_bytes.least > without.state_bytes.least


def test_what_a_budget_counts_is_told_of_the_space():
    memory = MemoryBudget(max_bytes=10**7, context=256)
    found = of(replace(SPEC, budget=replace(SPEC.budget, memory=memory)))
    costs = [memory.measure(each) for each in search_space(SPEC).architectures]
    assert found.costs == {"memory_bytes": Span(least=min(costs), most=max(costs))}
    assert dict(estimate_rows(found))["architectures: weights and cache"].endswith(" MB")
    assert of(SPEC).costs == {}


def test_what_is_told_has_every_quantity():
    rows = dict(estimate_rows(of(SPEC, RATE)))
    assert rows["architectures"].startswith("10 feasible, 431 k to ")
    assert rows["architectures: layers"] == "3 to 5, 3 sizes"
    assert rows["rate"] == "1 GFLOP/s, as stated"
    assert "activations" in rows["trial: memory"]
    assert rows["search: trials"] == "6 and 3 baselines"
    assert "not known" in dict(estimate_rows(of(SPEC)))["time"]
    assert "the parent's" in rows["worker: host"]
    tasks = replace(SPEC, evaluation=Evaluation(tasks=("x",), finalists=4))
    assert dict(estimate_rows(of(tasks)))["search: tasks"].startswith(
        "for the teacher and the best 4 students"
    )
    assert "search: tasks" not in rows
    assert "correction: work" in dict(estimate_rows(of(replace(SPEC, correction=CorrectionRecipe()))))
    together = dict(estimate_rows(of(replace(SPEC, resources=Resources(processes=2)))))
    assert " in each of 2 processes: weights" in together["trial: memory"]
    assert together["worker: host"].endswith(" in each of 2 processes")


# Promotions

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=131_072, batch_tokens=2_048), top_k=2)


def test_promotions_are_told_beside_and_change_nothing_else():
    found = of(replace(SPEC, promotion=PROMOTION))
    assert replace(found, promotion=None) == of(SPEC)
    promotion = found.promotion
    assert (promotion.num_students, promotion.trial.num_tokens) == (2, 131_072)
    assert promotion.num_tokens == 2 * 131_072
    assert promotion.teacher_cache_bytes == 2 * found.teacher_cache_bytes
    assert promotion.hours is None
    assert of(replace(SPEC, promotion=PROMOTION), RATE).promotion.hours > 0


def test_the_work_of_promotions_is_their_training_and_the_answers_they_need():
    """All of one architecture: nothing is averaged."""
    spec = make_spec(
        axes=replace(SPEC.axes, num_layers=(4,), hidden_size=(112,)), num_trials=1, promotion=PROMOTION
    )
    (shape,) = search_space(spec).architectures
    parent, length = parent_architecture(spec.parent), spec.data.sequence_length
    found = of(spec).promotion
    assert found.num_students == 1, "there is no second"
    training = training_flops(shape, parent, num_tokens=131_072, sequence_length=length, is_live=False)
    points = len(schedule(spec.promoted_by(PROMOTION)).points)
    evaluations = points * spec.data.validation_tokens * shape.flops_per_token(context=length)
    answers = 131_072 * parent.flops_per_token(context=length)
    assert found.flops == training + evaluations + answers


def test_what_promotions_cannot_have_is_refused_in_their_name():
    too_large = replace(PROMOTION, distillation=DistillationRecipe(teacher="cached", max_cache_bytes=1))
    with pytest.raises(InvalidRecipe, match=r"promotion\.distillation\.max_cache_bytes"):
        of(replace(SPEC, promotion=too_large))


def test_rows_tell_tokens_and_cost_of_promotions():
    rows = dict(estimate_rows(of(replace(SPEC, promotion=PROMOTION), RATE)))
    assert rows["promotion: tokens"].startswith("2 students for 131,072 each")
    assert "of disk" in rows["promotion: cost"]
    assert not any(name.startswith("promotion") for name, _ in estimate_rows(of(SPEC)))
