"""Retraining: the same to the bit however interrupted, the same gradients however cut."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from minitron import extras
from minitron.errors import ArtifactMismatch, DivergedTraining, MissingExtra
from minitron.evaluate import held_out_loss
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.teacher import LiveTeacher, build_teacher_cache, open_teacher_cache
from minitron.train import STATE_FILE, Retraining, block_ids, learning_rate
from tests.tiny import SEQUENCE_LENGTH, logits_of, random_blocks, text_blocks, tiny_model

CPU = torch.device("cpu")
BLOCKS = text_blocks(40)
STEP = 4 * SEQUENCE_LENGTH
RECIPE = TrainingRecipe(
    num_tokens=12 * STEP,
    batch_tokens=STEP,
    micro_batch_size=4,
    peak_learning_rate=3e-3,
    warmup_tokens=2 * STEP,
    precision="float32",
)


def retraining(*, teacher=None, training=RECIPE, blocks=BLOCKS, label_weight=0.0, seed=0, **shape):
    return Retraining(
        tiny_model(seed=seed, **shape), blocks, teacher,
        training=training, distillation=DistillationRecipe(label_weight=label_weight), device=CPU,
    )  # fmt: skip


NARROW = {
    "activation checkpointing": {"activation_checkpointing": True},
    "bfloat16 moments": {"optimizer_state": "bfloat16"},
    "int8 moments": {"optimizer_state": "int8"},
    "bfloat16 weights": {"weights": "bfloat16", "precision": "bfloat16"},
}


@pytest.fixture(params=NARROW)
def narrow(request):
    """A recipe that saves memory; the one of int8 needs the extra of that name."""
    if "int8" in request.param:
        pytest.importorskip("torchao")
    return replace(RECIPE, micro_batch_size=2, **NARROW[request.param])


def weights(run):
    return {name: parameter.detach().clone() for name, parameter in run.student.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(tmp_path):
    """In fresh objects, from disk, at every step, with a cached teacher: nothing is lost on the way."""
    build_teacher_cache(
        tiny_model(seed=5), BLOCKS, DistillationRecipe(), tmp_path / "cache", fingerprint="f", batch_size=8
    )
    teacher = open_teacher_cache(tmp_path / "cache", expected_fingerprint="f", head=None)
    whole = retraining(teacher=teacher)
    loss = whole.advance(RECIPE.num_tokens)
    losses = []
    for step in range(12):
        # another seed each time: every weight must come from the file
        piece = retraining(teacher=teacher, seed=step)
        if step:
            piece.load(tmp_path / "state")
        losses.append(piece.advance((step + 1) * STEP))
        piece.save(tmp_path / "state")
    assert piece.num_tokens == whole.num_tokens == RECIPE.num_tokens
    assert same(weights(piece), weights(whole))
    assert sum(losses) / 12 == pytest.approx(loss, rel=1e-12)


def test_every_way_to_save_memory_resumes_to_the_bit(narrow, tmp_path):
    whole = retraining(training=narrow)
    whole.advance(6 * STEP)
    for step in range(6):
        piece = retraining(training=narrow, seed=step)
        if step:
            piece.load(tmp_path)
        piece.advance((step + 1) * STEP)
        piece.save(tmp_path)
    assert same(weights(piece), weights(whole))


@pytest.mark.parametrize("loss", ["reverse_kl", "mse", "cosine"])
def test_every_loss_resumes_to_the_bit(loss, tmp_path):
    """With labels beside it, in chunks of a few tokens."""
    distillation = DistillationRecipe(teacher="live", loss=loss, label_weight=0.5)

    def run(seed):
        return Retraining(
            tiny_model(seed=seed), BLOCKS, LiveTeacher(tiny_model(seed=5), "float32"),
            training=RECIPE, distillation=distillation, device=CPU,
        )  # fmt: skip

    whole = run(0)
    whole.advance(3 * STEP)
    for step in range(3):
        piece = run(step)
        if step:
            piece.load(tmp_path)
        piece.advance((step + 1) * STEP)
        piece.save(tmp_path)
    assert same(weights(piece), weights(whole))


@pytest.mark.parametrize("loss", ["forward_kl", "reverse_kl", "mse", "cosine"])
def test_every_loss_brings_the_student_to_the_teacher(loss):
    """A damaged copy of it, measured by what none of them minimises: how often both think the same token likeliest."""
    parent, student, held_out = tiny_model(seed=5), tiny_model(seed=5), text_blocks(10, seed=9)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.03)
    run = Retraining(
        student, BLOCKS, LiveTeacher(parent, "float32"), device=CPU,
        training=replace(RECIPE, num_tokens=30 * STEP, warmup_tokens=0),
        distillation=DistillationRecipe(teacher="live", loss=loss),
    )  # fmt: skip
    likeliest = logits_of(parent, held_out).argmax(-1)

    def agreement():
        return float((logits_of(run.student, held_out).argmax(-1) == likeliest).float().mean())

    before, first = agreement(), run.advance(STEP)
    run.advance(29 * STEP)
    assert run.advance(30 * STEP) < 0.5 * first
    assert agreement() > before + 0.1


def test_every_way_to_save_memory_trains_as_float32_does(narrow):
    exact, other = retraining(training=replace(RECIPE, micro_batch_size=2)), retraining(training=narrow)
    held_out = text_blocks(20, seed=9)
    before = held_out_loss(exact.student, held_out)
    exact.advance(RECIPE.num_tokens)
    other.advance(RECIPE.num_tokens)
    gained, found = (before - held_out_loss(run.student, held_out) for run in (exact, other))
    assert gained > 0.5
    assert found == pytest.approx(gained, rel=0.02)
    assert not same(weights(exact), weights(other)) or narrow.activation_checkpointing


def test_activation_checkpointing_changes_no_bit():
    plain = retraining()
    checkpointed = retraining(training=replace(RECIPE, activation_checkpointing=True))
    assert plain.advance(3 * STEP) == checkpointed.advance(3 * STEP)
    assert same(weights(plain), weights(checkpointed))


def test_bfloat16_weights_are_copies_of_float32_ones():
    """Small steps add up in the float32 weights, though each is lost in bfloat16."""
    tiny_steps = replace(RECIPE, weights="bfloat16", precision="auto", peak_learning_rate=1e-6)
    run = retraining(training=tiny_steps)
    before = weights(run)
    run.advance(STEP)
    after = weights(run)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    changed, seen = (
        sum(int((to(before[name]) != to(tensor)).sum()) for name, tensor in after.items())
        for to in (torch.Tensor.float, torch.Tensor.bfloat16)
    )
    assert 0 < 100 * seen < changed


def test_a_diverged_step_on_bfloat16_weights_leaves_the_float32_ones():
    run = retraining(training=replace(RECIPE, weights="bfloat16", precision="bfloat16"))
    run.student.model.norm.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(run)
    with pytest.raises(DivergedTraining, match=r"gradient norm (inf|nan) after 0 tokens"):
        run.advance(STEP)
    assert same(weights(run), before)


def test_int8_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(extras, "INT8", ("torchao_of_another_machine",))
    with pytest.raises(MissingExtra, match=r"found int8, which needs torchao.*pip install 'minitron-nas\[w"):
        retraining(training=replace(RECIPE, optimizer_state="int8"))


def test_a_state_from_before_a_field_of_the_recipe_has_its_default(tmp_path):
    run = retraining()
    run.advance(STEP)
    run.save(tmp_path)
    path = tmp_path / STATE_FILE
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    identity = json.loads(metadata["identity"])
    del identity["training recipe"]["optimizer_state"]
    save_file(load_file(path), path, metadata=metadata | {"identity": json.dumps(identity)})
    again = retraining(seed=3)
    again.load(tmp_path)
    assert again.num_tokens == STEP
    with pytest.raises(ArtifactMismatch, match="another training recipe"):
        retraining(training=replace(RECIPE, optimizer_state="bfloat16")).load(tmp_path)


def test_a_state_saved_before_the_first_step_is_a_beginning(tmp_path):
    fresh = retraining()
    fresh.save(tmp_path)
    again = retraining(seed=3)
    again.load(tmp_path)
    assert again.num_tokens == 0
    assert again.advance(3 * STEP) == fresh.advance(3 * STEP)
    assert same(weights(again), weights(fresh))


def test_loading_forgets_what_was_trained_since(tmp_path):
    run = retraining()
    run.advance(2 * STEP)
    run.save(tmp_path)
    expected = run.advance(5 * STEP)
    run.load(tmp_path)
    assert run.num_tokens == 2 * STEP
    assert run.advance(5 * STEP) == expected


def test_a_saved_state_holds_no_pickle_and_one_file(tmp_path):
    run = retraining()
    run.advance(STEP)
    run.save(tmp_path)
    run.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["retraining.safetensors"]


def test_states_of_another_retraining_are_refused(tmp_path):
    retraining().save(tmp_path)
    others = {
        "training recipe": retraining(training=replace(RECIPE, seed=1)),
        "distillation recipe": retraining(label_weight=0.5),
        "number of training blocks": retraining(blocks=BLOCKS[:20]),
        "teacher": retraining(teacher=LiveTeacher(tiny_model(), "float32")),
        "student": retraining(intermediate_size=32),
    }
    for what, other in others.items():
        with pytest.raises(
            ArtifactMismatch, match=rf"retraining.safetensors: found another {what}, allowed: the"
        ):
            other.load(tmp_path)
    for damage, message in ((b"junk", "cannot be read"), (save({"a": torch.ones(1)}), "found other tensors")):
        (tmp_path / "damaged").mkdir(exist_ok=True)
        (tmp_path / "damaged" / STATE_FILE).write_bytes(damage)
        with pytest.raises(
            ArtifactMismatch, match=rf"{STATE_FILE}: {message}.*, allowed: a saved retraining"
        ):
            retraining().load(tmp_path / "damaged")
    with pytest.raises(ArtifactMismatch, match="found nothing, allowed: a saved retraining"):
        retraining().load(tmp_path / "elsewhere")


@pytest.mark.parametrize("micro_batch_size", [1, 3, 100])
def test_micro_batches_give_the_gradients_of_the_whole_batch(micro_batch_size):
    teacher = LiveTeacher(tiny_model(seed=5), "float32")
    whole = retraining(teacher=teacher, label_weight=0.3)
    cut = retraining(
        teacher=teacher, label_weight=0.3, training=replace(RECIPE, micro_batch_size=micro_batch_size)
    )
    assert cut.advance(STEP) == pytest.approx(whole.advance(STEP), rel=1e-5)
    expected = dict(whole.student.named_parameters())
    for name, parameter in cut.student.named_parameters():
        scale = float(expected[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=0, atol=1e-5 * scale, msg=name)


def test_distillation_brings_the_student_to_the_teacher(tmp_path):
    """From cached top-k answers alone, without ever seeing a label."""
    parent = tiny_model(seed=5)
    Retraining(
        parent, BLOCKS, None, training=replace(RECIPE, num_tokens=40 * STEP, warmup_tokens=0),
        distillation=DistillationRecipe(), device=CPU,
    ).advance(40 * STEP)  # fmt: skip
    build_teacher_cache(
        parent, BLOCKS, DistillationRecipe(top_k=32), tmp_path / "cache", fingerprint="f", batch_size=8
    )
    teacher = open_teacher_cache(tmp_path / "cache", expected_fingerprint="f", head=None)
    run = retraining(teacher=teacher, training=replace(RECIPE, num_tokens=60 * STEP))
    held_out = text_blocks(20, seed=9)
    before, first = held_out_loss(run.student, held_out), run.advance(STEP)
    run.advance(59 * STEP)
    last = run.advance(60 * STEP)
    assert last < 0.3 * first
    gap = before - held_out_loss(parent, held_out)
    assert held_out_loss(run.student, held_out) < before - 0.5 * gap


def test_cached_top_k_of_the_whole_vocabulary_trains_like_the_live_teacher(tmp_path):
    model = tiny_model(seed=5)
    build_teacher_cache(
        model, BLOCKS, DistillationRecipe(top_k=128), tmp_path / "cache", fingerprint="f", batch_size=8
    )
    cached = retraining(teacher=open_teacher_cache(tmp_path / "cache", expected_fingerprint="f", head=None))
    live = retraining(teacher=LiveTeacher(model, "float32"))
    assert cached.advance(4 * STEP) == pytest.approx(live.advance(4 * STEP), rel=1e-3)


def test_advance_stops_early_at_max_seconds_after_whole_steps():
    run, straight = retraining(), retraining()
    run.advance(RECIPE.num_tokens, max_seconds=0.0)
    assert run.num_tokens == STEP
    while run.num_tokens < 3 * STEP:
        run.advance(3 * STEP, max_seconds=0.0)
    straight.advance(3 * STEP)
    assert same(weights(run), weights(straight))


def test_advance_makes_the_whole_steps_that_fit():
    run = retraining()
    run.advance(3 * STEP - 1)
    assert run.num_tokens == 2 * STEP
    with pytest.raises(AssertionError, match="no whole step"):
        run.advance(3 * STEP - 1)
    with pytest.raises(AssertionError, match="no whole step"):
        run.advance(13 * STEP)


def test_the_student_is_left_in_evaluation_mode():
    run = retraining()
    run.advance(STEP)
    assert not run.student.training


def test_the_returned_loss_is_the_mean_over_the_call():
    run, pieces = retraining(), retraining()
    whole = run.advance(3 * STEP)
    assert whole == pytest.approx(sum(pieces.advance(step * STEP) for step in (1, 2, 3)) / 3, rel=1e-12)


def test_diverged_training_says_where_and_keeps_the_weights():
    run = retraining(
        training=replace(RECIPE, peak_learning_rate=1e30, max_gradient_norm=1e30, warmup_tokens=0)
    )
    with pytest.raises(
        DivergedTraining, match=rf"training: found loss \S+ and gradient norm \S+ after {STEP} tokens"
    ):
        run.advance(RECIPE.num_tokens)
    assert run.num_tokens == STEP


def test_a_gradient_that_is_not_finite_is_divergence_too():
    """A finite loss can hide an infinite gradient; the step that would spread it is not made."""
    run = retraining()
    parameter = run.student.model.norm.weight
    parameter.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(run)
    with pytest.raises(DivergedTraining, match=r"gradient norm (inf|nan) after 0 tokens"):
        run.advance(STEP)
    assert same(weights(run), before)


def test_gradients_are_clipped_to_the_recipe():
    run = retraining(training=replace(RECIPE, max_gradient_norm=1e-3))
    run.advance(STEP)
    norm = torch.stack([parameter.grad.norm() for parameter in run.student.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_only_matrices_decay():
    """With equal gradients, decay moves matrices and leaves norms alone."""
    plain, decayed = (retraining(training=replace(RECIPE, weight_decay=decay)) for decay in (0.0, 0.5))
    plain.advance(STEP)
    decayed.advance(STEP)
    for name, parameter in decayed.student.named_parameters():
        moved = not torch.equal(parameter, dict(plain.student.named_parameters())[name])
        assert moved is (parameter.ndim >= 2), name


def test_learning_rate_warms_up_then_falls_along_a_cosine():
    recipe = TrainingRecipe(
        num_tokens=1100,
        batch_tokens=10,
        warmup_tokens=100,
        peak_learning_rate=2.0,
        final_learning_rate_ratio=0.1,
    )
    assert learning_rate(recipe, 50) == pytest.approx(1.0)
    assert learning_rate(recipe, 100) == pytest.approx(2.0)
    assert learning_rate(recipe, 600) == pytest.approx(1.1)
    assert learning_rate(recipe, 1100) == pytest.approx(0.2)
    assert learning_rate(recipe, 1200) == pytest.approx(0.2)
    assert learning_rate(replace(recipe, warmup_tokens=0), 0) == pytest.approx(2.0)


def test_every_epoch_is_another_permutation_fixed_by_the_seed():
    order = block_ids(0, 21, num_blocks=7, seed=3)
    epochs = order.reshape(3, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert np.array_equal(order[5:16], block_ids(5, 11, num_blocks=7, seed=3))
    assert not np.array_equal(order, block_ids(0, 21, num_blocks=7, seed=4))


def test_every_student_sees_the_same_blocks():
    """The order does not depend on the student, or trials could not be compared."""
    asked = []

    class Recorder(LiveTeacher):
        def answer(self, block_ids_B, input_ids_BT):
            asked.append(block_ids_B.tolist())
            assert np.array_equal(input_ids_BT.numpy(), BLOCKS[block_ids_B.numpy()])
            return super().answer(block_ids_B, input_ids_BT)

    teacher = Recorder(tiny_model(), "float32")
    for seed in (0, 1):
        retraining(teacher=teacher, seed=seed).advance(12 * STEP)
    assert asked[:12] == asked[12:]
    assert sorted(block for blocks in asked[:10] for block in blocks) == list(range(40))


def test_blocks_longer_than_a_batch_make_steps_of_one_block():
    run = retraining(
        blocks=random_blocks(3, sequence_length=48),
        training=replace(RECIPE, batch_tokens=40, warmup_tokens=0),
    )
    assert run.step_tokens == 48
    run.advance(96)
    assert run.num_tokens == 96
