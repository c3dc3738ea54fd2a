"""The arithmetic of costs, held to what torch computes, keeps and allocates."""

import gc

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minitron.costs import (
    activation_bytes_per_token,
    state_bytes,
    student_bytes,
    training_flops,
    training_memory,
)
from minitron.families import read_architecture
from minitron.losses import label_loss
from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.teacher import LiveTeacher, build_teacher_cache, open_teacher_cache
from minitron.train import STATE_FILE, Retraining
from tests.tiny import NAMES, random_blocks, tiny_model

B, T, VOCAB = 4, 32, 1000
PRECISIONS = ("float32", "bfloat16")


def model_of(name, **sizes):
    """Three layers that attend to everything; the vocabulary is large, as in real models."""
    kinds = {"layer_types": ["full_attention"] * 3} if name == "qwen2" else {}
    return tiny_model(name, num_hidden_layers=3, vocab_size=VOCAB, **kinds, **sizes)


def shape_of(model):
    return read_architecture(model.config.to_dict())


def tokens():
    return torch.from_numpy(random_blocks(B, sequence_length=T, vocab_size=VOCAB)).long()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_what_autograd_keeps(name, precision):
    model = model_of(name)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        model.model(input_ids=tokens(), use_cache=False)
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in kept
        if tensor.ndim != 2 or len(tensor) == B * T  # the rest are autocast's copies of weights
    }
    found = sum(size for pointer, size in storages.items() if pointer not in weights)
    expected = B * T * activation_bytes_per_token(shape_of(model), precision=precision)
    assert 0.9 < found / expected < 1.1


@pytest.mark.parametrize("name", NAMES)
def test_work_is_what_torch_counts(name):
    model = model_of(name)
    shape = shape_of(model)
    with FlopCounterMode(display=False) as counter:
        label_loss(model(input_ids=tokens(), use_cache=False).logits, tokens()).backward()
    expected = training_flops(shape, shape, num_tokens=B * T, sequence_length=T, is_live=False)
    # torch counts attention over the whole square and once more in the backward pass.
    queries = shape.num_attention_heads * shape.head_dim
    square = B * T * shape.num_layers * queries * 4 * T
    assert counter.get_total_flops() == pytest.approx(expected, abs=3 * square)
    assert square < expected / 10


def test_a_live_teacher_adds_its_forward_pass():
    student, parent = shape_of(model_of("llama")), shape_of(model_of("llama", hidden_size=96))
    alone, live = (
        training_flops(student, parent, num_tokens=7, sequence_length=T, is_live=is_live)
        for is_live in (False, True)
    )
    assert live - alone == 7 * parent.flops_per_token(context=T)


def peak_bytes(work):
    """Return the most that ``work`` has allocated at once, beyond what was there."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("source", ["top_k", "hidden", "live"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "nemotron"])
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
        teacher = LiveTeacher(parent, precision)
    else:
        build_teacher_cache(
            parent, blocks, distillation, tmp_path / "t", fingerprint="f", batch_size=B, precision=precision
        )
        teacher = open_teacher_cache(tmp_path / "t", expected_fingerprint="f", head=parent.lm_head)
    retraining = Retraining(
        student, blocks, teacher,
        training=training, distillation=distillation, device=torch.device("cpu"),
    )  # fmt: skip
    retraining.advance(2 * B * T)
    found = peak_bytes(lambda: retraining.advance(4 * B * T))
    shape = shape_of(student)
    memory = training_memory(
        shape,
        shape_of(parent),
        training=training,
        distillation=distillation,
        sequence_length=T,
        is_live=source == "live",
        precision=precision,
    )
    copies = memory.weights - shape.weight_bytes("float32")
    assert 0.8 < found / (copies + memory.gradients + memory.activations + memory.logits) < 1.03


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
