"""Scores at tasks: the harness really runs, on local tasks and without network, and counts as by hand."""

import json

import pytest
import torch

from minitron.errors import InvalidRecipe, UnreadableTask
from minitron.stage_recipes import EvaluationRecipe
from minitron.tasks import Tasks
from tests.checkpoints import chat_tokenizer, word_tokenizer, write_task
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A directory with one task."""
    return write_task(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path_factory):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def scores(tasks, model=None, tokenizer=None, **recipe):
    recipe = EvaluationRecipe(tasks=("nouns",), task_path=str(tasks), **recipe)
    return Tasks(recipe).put_to(model or tiny_model(), tokenizer or word_tokenizer())


def by_hand(tasks, tokenizer, prompt):
    """The share of questions of which the model finds the noun likelier than the verb."""
    model, right = tiny_model(), []
    for line in (tasks / "nouns.jsonl").read_text().splitlines():
        row = json.loads(line)
        token_ids = tokenizer(prompt(row["text"]), return_tensors="pt").input_ids
        with torch.no_grad():
            logits_V = model(input_ids=token_ids).logits[0, -1]
        noun, verb = (logits_V[tokenizer.convert_tokens_to_ids(word)] for word in row["choices"])
        right.append(bool(noun > verb))
    return sum(right) / len(right)


def test_accuracy_is_what_the_model_finds_likelier(tasks):
    (score,) = scores(tasks)
    assert (score.name, score.num_samples, score.num_fewshot) == ("nouns acc", 40, 0)
    assert score.higher_is_better
    assert score.value == by_hand(tasks, word_tokenizer(), lambda text: text)
    assert 0 < score.value < 1
    assert score.stderr == pytest.approx((score.value * (1 - score.value) / 39) ** 0.5)


def test_a_chat_is_asked_through_the_template(tasks):
    tokenizer = chat_tokenizer()

    def prompt(text):
        chat = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    (score,) = scores(tasks, tokenizer=tokenizer, chat=True)
    assert score.value == by_hand(tasks, tokenizer, prompt)
    assert score.value != scores(tasks)[0].value


def test_batches_do_not_count_and_one_run_serves_several_models(tasks):
    read = Tasks(EvaluationRecipe(tasks=("nouns",), task_path=str(tasks), batch_size=3))
    first, second = (read.put_to(tiny_model(seed=seed), word_tokenizer()) for seed in (0, 1))
    assert first == scores(tasks)
    assert second == scores(tasks, tiny_model(seed=1))
    assert first != second


def test_fewer_questions_and_more_examples(tasks):
    (few,) = scores(tasks, limit=10)
    (shown,) = scores(tasks, num_fewshot=2)
    assert (few.num_samples, shown.num_fewshot, shown.num_samples) == (10, 2, 40)
    assert shown != scores(tasks)[0]


def test_progress_is_told_to_the_end(tasks):
    told = []
    Tasks(EvaluationRecipe(tasks=("nouns",), task_path=str(tasks))).put_to(
        tiny_model(), word_tokenizer(), told.append
    )
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert len(told) > 2
    assert (told[-1].done, told[-1].total, told[-1].unit) == (80, 80, "requests")


def test_a_task_that_is_not_there_is_named_with_what_is_near(tasks):
    with pytest.raises(UnreadableTask, match=r"found 'noun', allowed: near: .*nouns"):
        Tasks(EvaluationRecipe(tasks=("noun",), task_path=str(tasks)))
    with pytest.raises(UnreadableTask, match=r"task_path: .*none: no such directory"):
        Tasks(EvaluationRecipe(tasks=("nouns",), task_path=str(tasks / "none")))


def test_a_task_whose_data_cannot_be_had_is_named(tmp_path):
    """Stock tasks lie on the hub, which tests do without; local ones may have lost their files."""
    lost = write_task(tmp_path / "lost")
    (lost / "nouns.jsonl").unlink()
    for recipe in (
        EvaluationRecipe(tasks=("nouns",), task_path=str(lost)),
        EvaluationRecipe(tasks=("arc_easy",)),
    ):
        with pytest.raises(UnreadableTask, match=f"tasks: {recipe.tasks[0]}: cannot be read: ") as raised:
            Tasks(recipe)
        assert "\n" not in str(raised.value)


def test_a_task_that_runs_what_models_write_is_refused(tmp_path):
    directory = write_task(tmp_path)
    path = directory / "nouns.yaml"
    path.write_text(path.read_text() + "unsafe_code: true\n")
    with pytest.raises(UnreadableTask, match="tasks: nouns: runs code that a model writes"):
        scores(directory)


def test_a_chat_needs_a_template(tasks):
    with pytest.raises(InvalidRecipe, match=r"evaluation\.chat: found a tokenizer without chat template"):
        scores(tasks, chat=True)


@pytest.mark.parametrize(
    ("field", "value"), [("limit", 0), ("num_fewshot", -1), ("batch_size", 0), ("tasks", ("",))]
)
def test_a_recipe_out_of_range_is_refused(field, value):
    with pytest.raises(InvalidRecipe, match=f"evaluation.{field}: found"):
        EvaluationRecipe(**{field: value})
