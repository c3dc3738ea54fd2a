"""The arithmetic of costs, held to what torch computes, keeps and allocates."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minitron import costs
from minitron.assemble import anatomy_of
from minitron.chunked_head import chunked_loss, label_term
from minitron.costs import (
    LOGIT_BYTES,
    activation_bytes_per_token,
    depth_memory,
    depth_runs,
    forward_memory,
    moments_bytes,
    state_bytes,
    student_bytes,
    training_flops,
    training_memory,
)
from minitron.depth import ModelCost, choose_layers
from minitron.evaluate import held_out_loss
from minitron.families import read_architecture
from minitron.head import final_hidden, head_of
from minitron.importance import measure_importance
from minitron.optimizer import parts_of
from minitron.recipe import CalibrationRecipe, DistillationRecipe, TrainingRecipe
from minitron.teacher import LiveTeacher, build_teacher_cache, open_teacher_cache
from minitron.train import STATE_FILE, Retraining
from tests.memory import peak_bytes
from tests.tiny import NAMES, random_blocks, tiny_model

B, T, VOCAB = 4, 32, 1000
PRECISIONS = ("float32", "bfloat16")
CHECKPOINTED = {"activation_checkpointing": True}
BFLOAT16 = {"weights": "bfloat16", "precision": "bfloat16"}


def model_of(name, **sizes):
    """Three layers that attend to everything, without dropout; the vocabulary is large, as in real models."""
    kinds = {"layer_types": ["full_attention"] * 3} if name in ("qwen2", "smollm3") else {}
    kinds |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if name == "gpt2" else {}
    return tiny_model(name, num_hidden_layers=3, vocab_size=VOCAB, **kinds, **sizes)


def shape_of(model):
    return read_architecture(model.config.to_dict())


def tokens():
    return torch.from_numpy(random_blocks(B, sequence_length=T, vocab_size=VOCAB)).long()


@pytest.mark.parametrize(
    ("precision", "stored"), [(precision, "float32") for precision in PRECISIONS] + [("bfloat16", "bfloat16")]
)
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_what_autograd_keeps(name, precision, stored):
    model = model_of(name).to(getattr(torch, stored))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision != stored),
    ):
        model.get_submodule(anatomy_of(model).decoder)(input_ids=tokens(), use_cache=False)
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in kept
        if tensor.ndim != 2 or len(tensor) == B * T  # the rest are autocast's copies of weights
    }
    found = sum(size for pointer, size in storages.items() if pointer not in weights)
    block, rest = activation_bytes_per_token(shape_of(model), precision=precision, weights=stored, context=T)
    expected = B * T * (3 * block + rest)
    assert 0.9 < found / expected < 1.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_work_is_what_torch_counts(name, is_checkpointed):
    model = model_of(name)
    if is_checkpointed:
        model.activation_checkpointing_enable()
        model.train()
    shape = shape_of(model)
    with FlopCounterMode(display=False) as counter:
        hidden = final_hidden(model, tokens())
        chunked_loss(hidden, head_of(model), [label_term(tokens())])[0].backward()
    expected = training_flops(
        shape, shape, num_tokens=B * T, sequence_length=T, is_live=False, is_checkpointed=is_checkpointed
    )
    # torch counts attention over the whole square and once more in the backward pass.
    queries = shape.num_attention_heads * shape.head_dim
    square = B * T * shape.num_layers * queries * 4 * T
    assert counter.get_total_flops() == pytest.approx(expected, abs=4 * square)
    assert square < expected / 10


def test_a_live_teacher_adds_its_forward_pass():
    student, parent = shape_of(model_of("llama")), shape_of(model_of("llama", hidden_size=96))
    alone, live = (
        training_flops(student, parent, num_tokens=7, sequence_length=T, is_live=is_live)
        for is_live in (False, True)
    )
    assert live - alone == 7 * parent.flops_per_token(context=T)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("source", ["top_k", "hidden", "live"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "nemotron", "gemma2", "phi3", "olmo2", "gpt2"])
def test_memory_bounds_a_real_step_closely(name, source, precision, tmp_path):
    """A step of two micro-batches; weights and moments are there before it, as is the teacher."""
    sizes = {"hidden_size": 96, "intermediate_size": 200}
    student, parent = model_of(name, **sizes), model_of(name, seed=1, **sizes)
    blocks = random_blocks(4 * B, sequence_length=T, vocab_size=VOCAB)
    training = TrainingRecipe(
        num_tokens=4 * B * T, batch_tokens=2 * B * T, micro_batch_size=B, precision=precision
    )
    distillation = (
        DistillationRecipe(teacher="live")
        if source == "live"
        else DistillationRecipe(teacher="cached", cache_form=source, top_k=64)
    )
    if source == "live":
        teacher = LiveTeacher(parent.to(getattr(torch, precision)), precision)
    else:
        build_teacher_cache(
            parent, blocks, distillation, tmp_path / "t", fingerprint="f", batch_size=B, precision=precision
        )
        teacher = open_teacher_cache(tmp_path / "t", expected_fingerprint="f", head=head_of(parent))
    retraining = Retraining(
        student, blocks, teacher,
        training=training, distillation=distillation, device=torch.device("cpu"),
    )  # fmt: skip
    memory = training_memory(
        shape_of(student),
        shape_of(parent),
        training=training,
        distillation=distillation,
        sequence_length=T,
        is_live=source == "live",
        precision=precision,
    )
    assert 0.9 < share_of_a_step(retraining, memory) < 1.03


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("hidden_size", [96, 192])
@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_memory_bounds_a_step_that_compares_hidden_states(loss, hidden_size, precision):
    """With a small vocabulary, where what is compared is the larger part; with and without a projection."""
    sizes = {"num_hidden_layers": 3, "intermediate_size": 64, "vocab_size": 64}
    student = tiny_model("llama-untied", hidden_size=96, **sizes)
    parent = tiny_model("llama-untied", seed=1, hidden_size=hidden_size, **sizes)
    training = TrainingRecipe(
        num_tokens=4 * B * T, batch_tokens=2 * B * T, micro_batch_size=B, precision=precision
    )
    distillation = DistillationRecipe(teacher="live", intermediate="output_embedding", intermediate_loss=loss)
    retraining = Retraining(
        student, random_blocks(4 * B, sequence_length=T, vocab_size=64),
        LiveTeacher(parent.to(getattr(torch, precision)), precision),
        training=training, distillation=distillation, device=torch.device("cpu"),
    )  # fmt: skip
    memory = training_memory(
        shape_of(student), shape_of(parent), training=training, distillation=distillation, sequence_length=T,
        is_live=True, precision=precision,
    )  # fmt: skip
    assert 0.75 < share_of_a_step(retraining, memory) < 1.03


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("source", ["labels", *LOGIT_BYTES])
def test_memory_bounds_a_step_whose_logits_come_in_chunks(source, precision, monkeypatch):
    """Eight chunks of a micro-batch, each loss on a live teacher's logits, and labels without a teacher."""
    monkeypatch.setattr(costs, "LEAST_TOKENS", 16)
    monkeypatch.setattr(costs, "LOGITS_AT_ONCE", 1)
    sizes = {"hidden_size": 96, "intermediate_size": 200, "vocab_size": 2000}
    student, parent = (tiny_model("llama-untied", num_hidden_layers=1, seed=seed, **sizes) for seed in (0, 1))
    is_live = source != "labels"
    training = TrainingRecipe(
        num_tokens=4 * B * T, batch_tokens=2 * B * T, micro_batch_size=B, precision=precision
    )
    distillation = DistillationRecipe(teacher="live", loss=source) if is_live else DistillationRecipe(top_k=1)
    retraining = Retraining(
        student, random_blocks(4 * B, sequence_length=T, vocab_size=VOCAB),
        LiveTeacher(parent.to(getattr(torch, precision)), precision) if is_live else None,
        training=training, distillation=distillation, device=torch.device("cpu"),
    )  # fmt: skip
    memory = training_memory(
        shape_of(student), shape_of(parent), training=training, distillation=distillation, sequence_length=T,
        is_live=is_live, precision=precision,
    )  # fmt: skip
    assert 0.85 < share_of_a_step(retraining, memory) < 1.03


def share_of_a_step(retraining, memory):
    """Return what the second step takes at its peak, as a share of ``memory`` but for what was there before."""
    retraining.advance(2 * B * T)
    # The profiler takes what is freed at an address for what it saw there in an earlier run.
    retraining.student.zero_grad()
    found = peak_bytes(lambda: retraining.advance(4 * B * T))
    there = sum(parameter.nbytes for parameter in retraining._parameters.values())
    copies = memory.weights - there
    return found / (copies + memory.gradients + memory.activations + memory.logits)


@pytest.mark.parametrize("option", [{}, CHECKPOINTED, BFLOAT16, CHECKPOINTED | BFLOAT16])
@pytest.mark.parametrize("vocab_size", [64, VOCAB])
@pytest.mark.parametrize("name", ["llama", "qwen3", "nemotron"])
def test_memory_bounds_a_step_that_saves_it(name, vocab_size, option):
    """With a small vocabulary the peak lies in a block's backward pass, with a large one in the loss's."""
    student = model_of(name, hidden_size=96, intermediate_size=200)
    student.resize_token_embeddings(vocab_size)
    training = TrainingRecipe(
        num_tokens=4 * B * T, batch_tokens=2 * B * T, micro_batch_size=B,
        **({"precision": "float32"} | option),
    )  # fmt: skip
    retraining = Retraining(
        student, random_blocks(4 * B, sequence_length=T, vocab_size=vocab_size), None,
        training=training, distillation=DistillationRecipe(), device=torch.device("cpu"),
    )  # fmt: skip
    shape, labels = shape_of(student), DistillationRecipe(top_k=1)
    memory = training_memory(
        shape, shape, training=training, distillation=labels, sequence_length=T, is_live=False,
        precision=training.precision,
    )  # fmt: skip
    assert 0.9 < share_of_a_step(retraining, memory) < 1.05


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
def test_moments_take_what_they_are_kept_in(kept, tmp_path):
    if kept == "int8":
        pytest.importorskip("torchao")
    student = model_of("llama", hidden_size=192, intermediate_size=200, head_dim=32)
    retraining = Retraining(
        student, random_blocks(B, sequence_length=T, vocab_size=VOCAB), None,
        training=TrainingRecipe(num_tokens=B * T, batch_tokens=B * T, optimizer_state=kept),
        distillation=DistillationRecipe(), device=torch.device("cpu"),
    )  # fmt: skip
    retraining.advance(B * T)
    states = retraining._optimizer.state.values()
    found = sum(part.nbytes for state in states for part in parts_of(state).values())
    assert found == pytest.approx(moments_bytes(shape_of(student), kept), rel=0.02)
    retraining.save(tmp_path)
    size = (tmp_path / STATE_FILE).stat().st_size
    assert size == pytest.approx(state_bytes(shape_of(student), kept), rel=0.05)


def test_bytes_on_disk_are_those_of_the_files(tmp_path):
    model = model_of("llama")
    retraining = Retraining(
        model, random_blocks(B, sequence_length=T, vocab_size=VOCAB), None,
        training=TrainingRecipe(num_tokens=B * T, batch_tokens=B * T),
        distillation=DistillationRecipe(), device=torch.device("cpu"),
    )  # fmt: skip
    retraining.advance(B * T)
    retraining.save(tmp_path)
    model.save_pretrained(tmp_path)
    shape = shape_of(model)
    assert (tmp_path / STATE_FILE).stat().st_size == pytest.approx(state_bytes(shape), rel=0.05)
    assert (tmp_path / "model.safetensors").stat().st_size == pytest.approx(student_bytes(shape), rel=0.05)


@pytest.mark.parametrize("name", ["llama", "qwen3", "nemotron", "gemma2", "gpt2", "olmo2"])
def test_memory_bounds_what_prepares_a_search(name, tmp_path):
    """Importance, the parent's loss and its answers; the weights are there before."""
    model = model_of(name, hidden_size=96, intermediate_size=200)
    blocks = random_blocks(4 * B, sequence_length=T, vocab_size=VOCAB)
    shape = shape_of(model)
    bound = forward_memory(shape, num_tokens=B * T) - shape.weight_bytes("float32")
    bound += depth_memory(shape, CalibrationRecipe(), num_tokens=B * T)
    work = {
        "importance": lambda: measure_importance(
            model, blocks, CalibrationRecipe(num_tokens=blocks.size, batch_size=B), fingerprint="f"
        ),
        "loss": lambda: held_out_loss(model, blocks, batch_size=B),
        "answers": lambda: build_teacher_cache(
            model, blocks, DistillationRecipe(top_k=64), tmp_path / "t", fingerprint="f", batch_size=B
        ),
    }
    found = {stage: peak_bytes(each) / bound for stage, each in work.items()}
    assert max(found.values()) < 1.03, found
    assert max(found.values()) > 0.6, found


@pytest.mark.parametrize("selection", ["independent", "iterative", "contiguous"])
@pytest.mark.parametrize("metric", ["block_influence", "lm_loss", "kl", "logit_error"])
@pytest.mark.parametrize(("num_layers", "fewest"), [(1, 1), (2, 1), (5, 1), (5, 3), (5, 5)])
def test_runs_of_layers_are_those_that_are_made(metric, selection, num_layers, fewest):
    model, blocks = tiny_model(num_hidden_layers=num_layers), random_blocks(1)
    layers, heads = [], []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: layers.append(1))
    model.lm_head.register_forward_hook(lambda *_: heads.append(1))
    recipe = CalibrationRecipe(depth_metric=metric, depth_selection=selection)
    if not recipe.tells_depth_with_width:
        stops_at = fewest if recipe.is_told_to_a_depth else 1
        choose_layers(ModelCost(model, blocks, metric), num_layers, selection, fewest=stops_at)
    assert depth_runs(num_layers, recipe, fewest=fewest) == (len(layers), len(heads))


@pytest.mark.parametrize("selection", ["iterative", "contiguous"])
@pytest.mark.parametrize("metric", ["block_influence", "kl", "logit_error"])
def test_memory_bounds_the_costs_of_layers(metric, selection, monkeypatch):
    """Logits are widened a few tokens at a time: a sixteenth of a batch, as of a real one."""
    monkeypatch.setattr("minitron.depth._COMPARED_AT_ONCE", B * T // 16)
    model = model_of("llama", hidden_size=96, intermediate_size=200)
    blocks = random_blocks(2 * B, sequence_length=T, vocab_size=VOCAB)
    shape = shape_of(model)
    recipe = CalibrationRecipe(depth_metric=metric, depth_selection=selection)
    bound = forward_memory(shape, num_tokens=B * T) - shape.weight_bytes("float32")
    bound += depth_memory(shape, recipe, num_tokens=B * T)
    recipe = replace(recipe, num_tokens=blocks.size, batch_size=B)
    assert peak_bytes(lambda: measure_importance(model, blocks, recipe, fingerprint="f")) < 1.03 * bound


@pytest.mark.parametrize("name", ["llama", "nemotron"])
def test_an_evaluation_takes_no_more_than_a_step(name):
    """It runs with as many blocks at once, between steps, beside the weights and moments."""
    model = model_of(name, hidden_size=96, intermediate_size=200)
    shape = shape_of(model)
    training = TrainingRecipe(num_tokens=4 * B * T, batch_tokens=2 * B * T, micro_batch_size=B)
    memory = training_memory(
        shape, shape, training=training, distillation=DistillationRecipe(), sequence_length=T, is_live=False,
        precision="float32",
    )  # fmt: skip
    blocks = random_blocks(2 * B, sequence_length=T, vocab_size=VOCAB)
    batch_size = training.blocks_at_once(T)
    found = peak_bytes(lambda: held_out_loss(model, blocks, batch_size=batch_size))
    assert found < memory.activations + memory.logits
