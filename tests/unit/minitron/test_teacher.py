"""Teacher answers: the cached forms against the live teacher, and what the cache refuses."""

import json

import numpy as np
import pytest
import torch

from minitron import costs
from minitron.errors import ArtifactMismatch
from minitron.head import head_of
from minitron.losses import ON_LOGITS, ON_TOP_K
from minitron.recipe import DistillationRecipe
from minitron.teacher import LiveTeacher, TopKAnswer, build_teacher_cache, open_teacher_cache
from tests.tiny import NAMES, VOCAB_SIZE, logits_of, random_blocks, tiny_model

BLOCKS = random_blocks(7)
ROWS = torch.tensor([5, 0, 5, 2])
TOKENS = torch.from_numpy(BLOCKS[ROWS.numpy()].astype(np.int64))


def build(directory, model=None, *, fingerprint="f", report=lambda _: None, batch_size=3, **recipe):
    build_teacher_cache(
        model or tiny_model(), BLOCKS, DistillationRecipe(**recipe), directory,
        fingerprint=fingerprint, batch_size=batch_size, report=report,
    )  # fmt: skip
    return directory


def ask(directory, model=None):
    head = None if model is None else head_of(model)
    return open_teacher_cache(directory, expected_fingerprint="f", head=head).answer(ROWS, TOKENS)


ALL = slice(0, TOKENS.numel())


def teacher_logits(answer):
    return answer.part(ALL).unflatten(0, TOKENS.shape)


def mean_kl(student_BTV, answer):
    student_CV = student_BTV.flatten(0, 1)
    if isinstance(answer, TopKAnswer):
        return ON_TOP_K["forward_kl"](student_CV, answer.part(ALL))[0].mean()
    return ON_LOGITS["forward_kl"](student_CV, answer.part(ALL), 1.0)[0].mean()


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_give_the_live_logits_exactly(name, tmp_path):
    """Also where logits are divided, or capped."""
    model = tiny_model(name)
    # one batch for both, because a matrix product of another shape may round differently
    cached = ask(build(tmp_path / "cache", model, cache_form="hidden", batch_size=7), model)
    assert torch.equal(teacher_logits(cached), logits_of(model, BLOCKS)[ROWS])
    assert not teacher_logits(cached).requires_grad


@pytest.mark.parametrize("name", ["llama", "granite", "gemma2", "gpt2"])
def test_top_k_is_the_live_distribution_with_the_rest_in_one_bucket(name, tmp_path):
    model = tiny_model(name)
    answer = ask(build(tmp_path / "cache", model, top_k=9))
    log_probs = teacher_logits(LiveTeacher(model, "float32").answer(ROWS, TOKENS)).double().log_softmax(-1)
    expected, ids = log_probs.topk(9, dim=-1)
    assert torch.equal(answer.token_ids_BTK, ids)
    torch.testing.assert_close(answer.log_probs_BTK.double(), expected, rtol=2**-10, atol=1e-6)
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(answer.log_rest_BT.double(), rest, rtol=1e-5, atol=1e-5)
    assert (answer.token_ids_BTK.dtype, answer.log_probs_BTK.dtype) == (torch.int64, torch.float32)


def test_k_is_cut_to_the_vocabulary_and_then_the_loss_is_the_full_kl(tmp_path):
    model, student = tiny_model(), logits_of(tiny_model(seed=1), BLOCKS)[ROWS]
    answer = ask(build(tmp_path / "cache", model, top_k=10_000))
    assert answer.token_ids_BTK.shape == (4, BLOCKS.shape[1], VOCAB_SIZE)
    assert torch.isneginf(answer.log_rest_BT).all()
    live = LiveTeacher(model, "float32").answer(ROWS, TOKENS)
    full = mean_kl(student, live)
    assert float(mean_kl(student, answer)) == pytest.approx(float(full), rel=1e-3)


@pytest.mark.parametrize("form", ["top_k", "hidden"])
def test_answers_do_not_depend_on_the_batch_they_were_made_in(form, tmp_path):
    model = tiny_model()
    one, other = (
        ask(build(tmp_path / str(size), model, batch_size=size, cache_form=form), model) for size in (2, 7)
    )
    student = logits_of(tiny_model(seed=1), BLOCKS)[ROWS]
    torch.testing.assert_close(mean_kl(student, one), mean_kl(student, other), rtol=1e-5, atol=0)


def test_a_live_teacher_is_left_as_it_was():
    model = tiny_model().train()
    answer = LiveTeacher(model, "float32").answer(ROWS, TOKENS)
    assert model.training
    assert not teacher_logits(answer).requires_grad
    assert torch.equal(teacher_logits(answer), logits_of(model.eval(), BLOCKS[ROWS.numpy()]))


def test_a_cache_takes_the_bytes_that_the_recipe_promises(tmp_path):
    for form, hidden_size in (("top_k", 0), ("hidden", 48)):
        recipe = DistillationRecipe(cache_form=form, top_k=16)
        directory = build(tmp_path / form, cache_form=form, top_k=16)
        data = sum(np.load(path, mmap_mode="r").nbytes for path in directory.glob("*.npy"))
        assert data == recipe.cache_bytes(num_tokens=BLOCKS.size, hidden_size=hidden_size)


def test_a_finished_cache_is_found_again_and_said_so(tmp_path):
    seen = []
    build(tmp_path / "cache", report=seen.append)
    assert [(progress.done, progress.total, progress.is_cached) for progress in seen] == [
        (3, 7, False), (6, 7, False), (7, 7, False),
    ]  # fmt: skip
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    build(tmp_path / "cache", tiny_model(seed=9), report=seen.append)
    assert seen[-1].is_cached
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == stamps


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cache", report=interrupt)
    assert not list(tmp_path.iterdir())


def test_answers_of_something_else_are_refused(tmp_path):
    build(tmp_path / "cache", fingerprint="this")
    with pytest.raises(ArtifactMismatch, match="found answers this of version 1, allowed: f of version 1"):
        ask(tmp_path / "cache")
    with pytest.raises(ArtifactMismatch, match="allowed: f"):
        build(tmp_path / "cache")
    with pytest.raises(ArtifactMismatch, match="found nothing"):
        ask(tmp_path / "elsewhere")


def test_an_older_version_is_refused(tmp_path):
    path = build(tmp_path / "cache") / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 0}))
    with pytest.raises(ArtifactMismatch, match="version 0, allowed: f of version 1"):
        ask(tmp_path / "cache")


def test_hidden_states_need_the_head(tmp_path):
    build(tmp_path / "cache", cache_form="hidden")
    with pytest.raises(ArtifactMismatch, match="allowed without the teacher's head: top_k"):
        ask(tmp_path / "cache")


@pytest.mark.parametrize("form", ["top_k", "hidden", "live"])
def test_answers_are_those_of_a_head_that_bends_its_logits(form, tmp_path, monkeypatch):
    """In chunks of three tokens."""
    monkeypatch.setattr(costs, "LEAST_TOKENS", 3)
    monkeypatch.setattr(costs, "LOGITS_AT_ONCE", 1)
    model = tiny_model("gemma2")
    expected = logits_of(model, BLOCKS)[ROWS]
    if form == "live":
        answer = LiveTeacher(model, "float32").answer(ROWS, TOKENS)
    else:
        answer = ask(build(tmp_path / "cache", model, cache_form=form, top_k=VOCAB_SIZE), model)
    assert float(mean_kl(expected, answer)) == pytest.approx(0.0, abs=1e-5)
