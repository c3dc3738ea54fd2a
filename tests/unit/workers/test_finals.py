"""Teacher and finalists at tasks: asked once, found again, and refused before anything is trained."""

import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from minitron.checkpoint import load_parent, load_tokenizer
from minitron.errors import InvalidRecipe, MissingExtra, UnreadableTask
from minitron.stage_recipes import CorrectionRecipe, EvaluationRecipe
from minitron.tasks import Tasks
from nas.finals import Evaluation
from nas.space import search_space
from nas.trial import Trial
from tests.checkpoints import write_task
from tests.micro import micro_spec
from workers.artifacts import prepare
from workers.finals import evaluate_finals, require_tasks


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A prepared search with a task, and one finished trial: the parent itself stands for its student."""
    directory = tmp_path_factory.mktemp("micro")
    evaluation = Evaluation(tasks=("nouns",), task_path=str(write_task(directory / "tasks")), limit=12)
    spec, root = micro_spec(directory, evaluation=evaluation), directory / "artifacts"
    prepared = prepare(spec, root, lambda _: None)
    (root / "student").symlink_to(prepared.parent_dir)
    trial = Trial(
        search_id="s", number=2, architecture=search_space(spec).architectures[0], checkpoint="student",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return spec, root, prepared, trial


def _asked(spec, root, prepared, trials):
    """Evaluate; return what was scored and the stages that were computed."""
    told = []
    found = evaluate_finals(spec, trials, prepared, root, told.append)
    return found, {progress.stage for progress in told if not progress.is_cached}


def test_teacher_and_finalists_are_asked_in_order_and_found_again(micro):
    spec, root, prepared, trial = micro
    found, computed = _asked(spec, root, prepared, [trial])
    assert computed == {"the teacher: reading tasks", "the teacher: tasks"}, "one model, one answer"
    recipe = EvaluationRecipe(tasks=("nouns",), task_path=spec.evaluation.task_path, limit=12)
    expected = Tasks(recipe).put_to(load_parent(prepared.parent_dir), load_tokenizer(prepared.parent_dir))
    assert [each.trial_number for each in found] == [None, 2]
    assert [each.scores for each in found] == [expected, expected]
    more = replace(spec, evaluation=replace(spec.evaluation, finalists=9))
    assert _asked(more, root, prepared, [trial]) == (found, set())


def test_other_questions_are_asked_anew(micro):
    spec, root, prepared, _ = micro
    fewer = replace(spec, evaluation=replace(spec.evaluation, limit=7))
    (found,), computed = _asked(fewer, root, prepared, [])
    assert computed
    assert found.scores[0].num_samples == 7


def test_the_teacher_is_the_one_that_answers(micro):
    spec, root, prepared, _ = micro
    spec = replace(spec, correction=CorrectionRecipe(learning_rate_ratio=1.0))
    corrected = prepare(spec, root, lambda _: None)
    (found,), _ = _asked(spec, root, corrected, [])
    model = load_parent(corrected.corrected_dir)
    expected = Tasks(
        EvaluationRecipe(tasks=("nouns",), task_path=spec.evaluation.task_path, limit=12)
    ).put_to(model, load_tokenizer(prepared.parent_dir))
    assert found.scores == expected


def test_what_is_wrong_with_tasks_is_told_before_anything_is_made(micro, monkeypatch):
    spec, root, _, _ = micro
    require_tasks(replace(spec, evaluation=None), lambda _: None)
    unknown = replace(spec, evaluation=replace(spec.evaluation, tasks=("verbs",)))
    with pytest.raises(UnreadableTask, match="tasks: found 'verbs'"):
        require_tasks(unknown, lambda _: None)
    chat = replace(spec, evaluation=replace(spec.evaluation, chat=True))
    with pytest.raises(InvalidRecipe, match=r"evaluation\.chat: found a tokenizer without chat template"):
        prepare(chat, root, lambda _: None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(
        MissingExtra, match=r"evaluation\.tasks: needs lm_eval.*'minitron-nas\[worker,eval\]'"
    ):
        require_tasks(spec, lambda _: None)
