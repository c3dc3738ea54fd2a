"""Losses on hidden states: which are compared, what their gradients are, and the projection beside the student."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from minitron.checkpoint import save_checkpoint
from minitron.chunked_head import distillation_term
from minitron.errors import ArtifactMismatch, InvalidRecipe, UnservedLoss
from minitron.families import read_architecture
from minitron.head import final_hidden, head_of
from minitron.intermediate import Projection, balanced, make_projection, states_loss, watched
from minitron.plan import random_plan
from minitron.prune import prune
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.teacher import LiveTeacher, build_teacher_cache, open_teacher_cache
from minitron.train import PROJECTION, STATE_FILE, Retraining
from tests.tiny import NAMES, SEQUENCE_LENGTH, text_blocks, tiny_model

BLOCKS = text_blocks(16)
TOKENS = torch.from_numpy(BLOCKS[:4]).long()
BOTH = ("output", "embedding")
STEP = 4 * SEQUENCE_LENGTH
RECIPE = TrainingRecipe(
    num_tokens=20 * STEP, batch_tokens=STEP, micro_batch_size=2, peak_learning_rate=3e-3, precision="float32"
)


def pruned(parent, **sizes):
    source = read_architecture(parent.config.to_dict())
    return prune(parent, random_plan(source, replace(source, **sizes), seed=3))


def retraining(student, teacher, *, training=RECIPE, **recipe):
    return Retraining(
        student, BLOCKS, LiveTeacher(teacher, "float32"), training=training,
        distillation=DistillationRecipe(**{"teacher": "live", "intermediate": "output_embedding"} | recipe),
        device=torch.device("cpu"),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_the_states_are_what_transformers_calls_hidden_states(name, is_checkpointed):
    """Of L layers, the embedding is state 0 and the output of layer L - 3, counted from 0, is state L - 2."""
    model = tiny_model(name, num_hidden_layers=5, layer_types=["full_attention"] * 5)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # as in whatever is loaded or pruned
    expected = model(input_ids=TOKENS, output_hidden_states=True, use_cache=False).hidden_states
    if is_checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()
    with watched(model, BOTH) as seen:
        final_hidden(model, TOKENS)
    final_hidden(model, TOKENS * 0)  # nobody watches any more
    assert torch.equal(seen["embedding"], expected[0])
    assert torch.equal(seen["output"], expected[5 - 3 + 1])


def reference(own, whole, projection, loss):
    """Token by token, in float64."""
    total = 0.0
    for state in own:
        for x, y in zip(own[state].flatten(0, 1).double(), whole[state].flatten(0, 1).double(), strict=True):
            x, y = (each / each.square().mean().sqrt() for each in (x, y))  # noqa: PLW2901
            x = projection.weight.double() @ x if projection is not None else x  # noqa: PLW2901
            total = total + (
                1 - torch.nn.functional.cosine_similarity(x, y, dim=0)
                if loss == "cosine"
                else (x - y).square().mean()
            )
    return total / own["output"][..., 0].numel()


@pytest.mark.parametrize("loss", ["cosine", "mse"])
@pytest.mark.parametrize("width", [6, 9])
def test_the_loss_and_its_gradients(loss, width):
    generator = torch.Generator().manual_seed(0)
    own, whole = (
        {state: torch.randn(2, 3, size, generator=generator) for state in BOTH} for size in (6, width)
    )
    projection = Projection(torch.randn(width, 6, generator=generator)) if width != 6 else None
    leaves = [*own.values(), *([projection.weight] if projection is not None else [])]

    def gradients(of):
        for leaf in leaves:
            leaf.requires_grad_()
        value = of(own, whole, projection, loss)
        return value.detach(), torch.autograd.grad(value, leaves)

    (value, found), (exact, expected) = gradients(states_loss), gradients(reference)
    assert float(value) == pytest.approx(float(exact), rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-6)


def test_equal_states_have_no_loss_and_no_gradient():
    for loss in ("cosine", "mse"):
        own = {state: torch.randn(2, 3, 6).requires_grad_() for state in BOTH}
        whole = {state: 7.0 * tensor.detach() for state, tensor in own.items()}
        value = states_loss(own, whole, None, loss)
        assert value.detach().abs() < 1e-6
        for gradient in torch.autograd.grad(balanced(value, torch.tensor(2.0)), list(own.values())):
            assert torch.isfinite(gradient).all()


def test_the_weight_makes_both_losses_equal_and_has_no_gradient():
    of_states, of_logits = torch.tensor(0.5, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    value = balanced(of_states, of_logits)
    assert value.detach() == 3.0
    value.backward()
    assert float(of_states.grad) == 6.0
    assert of_logits.grad is None


def test_the_projection_begins_where_kept_channels_were():
    parent = tiny_model("llama-untied")
    source = read_architecture(parent.config.to_dict())
    plan = random_plan(source, replace(source, hidden_size=36, num_attention_heads=4), seed=3)
    projection = make_projection(prune(parent, plan), parent).weight
    assert projection.shape == (48, 36)
    torch.testing.assert_close(projection.detach()[list(plan.hidden)], torch.eye(36), rtol=0, atol=1e-3)
    assert make_projection(pruned(parent, num_layers=3), parent) is None


@pytest.mark.parametrize(
    "recipe", [{}, {"intermediate_loss": "mse"}, {"intermediate": "output", "loss": "reverse_kl"}]
)
@pytest.mark.parametrize("sizes", [{"num_layers": 3}, {"hidden_size": 36, "num_attention_heads": 4}])
def test_states_come_nearer_to_the_teachers_than_logits_alone_bring_them(sizes, recipe):
    parent = tiny_model("llama-untied", seed=5)
    distances = {}
    for intermediate in ("none", recipe.get("intermediate", "output_embedding")):
        run = retraining(pruned(parent, **sizes), parent, **recipe | {"intermediate": intermediate})
        projection = make_projection(run.student, parent)
        run.advance(RECIPE.num_tokens)
        with torch.no_grad(), watched(run.student, ["output"]) as own, watched(parent, ["output"]) as whole:
            final_hidden(run.student, TOKENS)
            final_hidden(parent, TOKENS)
            projection = projection if run._projection is None else run._projection
            distances[intermediate] = float(states_loss(own, whole, projection, "cosine"))
    assert distances.pop("none") > 1.1 * max(distances.values())


def test_the_loss_that_is_told_is_the_one_on_logits():
    parent = tiny_model("llama-untied", seed=5)
    student = pruned(parent, num_layers=3)
    answer = LiveTeacher(parent, "float32").answer(torch.arange(4), TOKENS)
    term, hidden = distillation_term(answer), final_hidden(student, TOKENS).detach()
    expected = term.of(head_of(student).logits(hidden).detach().flatten(0, 1), slice(None))[0].mean()
    training = replace(RECIPE, micro_batch_size=4)
    run = Retraining(
        student, BLOCKS[:4], LiveTeacher(parent, "float32"), training=training,
        distillation=DistillationRecipe(teacher="live", intermediate="output_embedding"), device=torch.device("cpu"),
    )  # fmt: skip
    assert run.advance(STEP) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "narrow", [{}, {"activation_checkpointing": True}, {"weights": "bfloat16", "precision": "bfloat16"}]
)
@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(loss, narrow, tmp_path):
    """The projection and its moments too, which begin elsewhere in every piece."""
    parent, training = tiny_model("llama-untied", seed=5), replace(RECIPE, **narrow)
    sizes = {"hidden_size": 36, "num_attention_heads": 4}

    def run(seed):
        student = pruned(tiny_model("llama-untied", seed=seed), **sizes)
        return retraining(student, parent, training=training, intermediate_loss=loss)

    whole = run(0)
    whole.advance(4 * STEP)
    for step in range(4):
        piece = run(step)
        if step:
            piece.load(tmp_path)
        piece.advance((step + 1) * STEP)
        piece.save(tmp_path)
    for name, parameter in piece._parameters.items():
        assert torch.equal(parameter, whole._parameters[name]), name
    with safe_open(tmp_path / STATE_FILE, framework="pt") as file:
        names = set(file.keys())
    assert {f"{part}.{PROJECTION}" for part in ("weights", "exp_avg", "exp_avg_sq")} < names
    assert not torch.equal(run(0)._projection.weight, whole._projection.weight), "it learns"


def test_the_projection_is_no_part_of_the_student(tmp_path):
    parent = tiny_model("llama-untied", seed=5)
    run = retraining(pruned(parent, hidden_size=36, num_attention_heads=4), parent)
    run.advance(STEP)
    save_checkpoint(run.student, tmp_path / "student", companions=tmp_path)
    with safe_open(tmp_path / "student" / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(parent.state_dict())


def test_a_state_with_other_hidden_states_is_refused(tmp_path):
    parent = tiny_model("llama-untied", seed=5)
    with_states = retraining(pruned(parent, num_layers=3), parent, intermediate="auto")
    with_states.advance(STEP)
    with_states.save(tmp_path)
    others = retraining(pruned(parent, num_layers=3), parent, intermediate="auto")
    others.states = ()
    with pytest.raises(ArtifactMismatch, match="found another hidden states learnt from, allowed: the same"):
        others.load(tmp_path)


@pytest.mark.parametrize(("layers", "expected"), [(3, BOTH), (4, ())])
def test_auto_learns_from_states_where_depth_falls_by_more_than_a_fifth(layers, expected):
    """From 4 layers to 3 is a quarter; width alone is none."""
    parent = tiny_model("llama-untied", seed=5)
    sizes = {"num_layers": layers} if layers < 4 else {"intermediate_size": 10}
    run = retraining(pruned(parent, **sizes), parent, intermediate="auto")
    assert run.states == expected


def test_auto_stays_with_logits_where_states_are_not_served(tmp_path):
    parent, recipe = tiny_model("llama-untied"), DistillationRecipe()
    build_teacher_cache(parent, BLOCKS, recipe, tmp_path / "t", fingerprint="f", batch_size=8)
    kept = open_teacher_cache(tmp_path / "t", expected_fingerprint="f", head=None)
    options = {"training": RECIPE, "device": torch.device("cpu")}
    student = pruned(parent, num_layers=3)
    assert Retraining(student, BLOCKS, kept, distillation=recipe, **options).states == ()
    asked = DistillationRecipe(teacher="live", intermediate="output")
    with pytest.raises(
        UnservedLoss, match="intermediate: found output, allowed with kept answers: auto, none"
    ):
        Retraining(student, BLOCKS, kept, distillation=asked, **options)


def test_what_has_no_such_states_is_refused_by_name():
    parent = tiny_model("llama-untied")
    with pytest.raises(
        InvalidRecipe,
        match="intermediate: found 'output_embedding', allowed: auto or none for a model of 2 layers",
    ):
        retraining(pruned(parent, num_layers=2), parent)
    assert retraining(pruned(parent, num_layers=2), parent, intermediate="auto").states == ()


def test_a_teacher_of_another_vocabulary_is_refused():
    with pytest.raises(
        ArtifactMismatch, match="teacher: found a vocabulary of 64 tokens, allowed: the student's 128"
    ):
        retraining(tiny_model(), tiny_model(vocab_size=64))
