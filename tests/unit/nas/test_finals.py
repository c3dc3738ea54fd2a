"""The finals: who is put to tasks, how scores stand beside each other, and when a loss misled."""

from dataclasses import replace

import pytest
from rich.console import Console

from minitron.errors import InvalidRecipe
from nas import display
from nas.errors import InvalidSpec
from nas.finals import Evaluated, Evaluation, overtaking, score_rows
from nas.frontier import Comparison, best_trial
from nas.promoting import finalists
from nas.service import SearchService
from nas.spec import parse_spec, spec_to_json
from nas.standing import TrialRecord, view_of
from nas.storage.memory import InMemoryStore
from nas.tally import tally_of
from nas.trial import TrialRole
from tests.searches import MEASUREMENT, after, make_scores, make_search, make_spec, make_trial

TEACHER = Evaluated(trial_number=None, scores=make_scores(arc=0.7, piqa=0.9))
FIRST = Evaluated(trial_number=4, scores=make_scores(arc=0.3, piqa=0.6))
SECOND = Evaluated(trial_number=1, scores=make_scores(arc=0.5, piqa=0.5))


def completed(number, loss, **changes):
    measured = replace(MEASUREMENT, loss=loss)
    return make_trial(number, **changes).started(after(0)).completed(measured, "student", after(1))


TRIALS = [completed(number, loss) for number, loss in enumerate((2.3, 2.1, 2.4, 2.2, 2.0))]


def test_finalists_are_the_best_by_loss_and_no_baselines():
    baseline = completed(5, 1.0, role=TrialRole.RANDOM_ARCHITECTURE)
    spec = make_spec(evaluation=Evaluation(tasks=("arc",), finalists=3))
    chosen = finalists(spec, [*TRIALS, baseline, make_trial(6)])
    assert [trial.number for trial in chosen] == [4, 1, 3]
    assert chosen[0] == best_trial(TRIALS)
    assert finalists(make_spec(), TRIALS) == []
    assert len(finalists(replace(spec, evaluation=Evaluation(tasks=("arc",), finalists=99)), TRIALS)) == 5


def test_scores_stand_side_by_side():
    first, second = score_rows((TEACHER, FIRST, SECOND))
    assert (first.name, first.values) == ("arc acc", (0.7, 0.3, 0.5))
    assert (second.name, second.values) == ("piqa acc", (0.9, 0.6, 0.5))
    assert score_rows(()) == []


def test_a_finalist_that_overtakes_the_lowest_loss_is_told_of():
    assert overtaking((TEACHER, FIRST, SECOND), 4) == (
        "trial 1 scores higher at the tasks than trial 4, whose loss is lowest: 0.5000 against 0.4500 on average"
    )
    assert overtaking((TEACHER, FIRST, SECOND), 1) is None, "the teacher is no finalist"
    assert overtaking((), 4) is None


def test_what_counts_downwards_is_no_part_of_the_mean():
    worse = replace(make_scores(wikitext=99.0)[0], metric="perplexity", higher_is_better=False)
    assert replace(FIRST, scores=(*FIRST.scores, worse)).mean == FIRST.mean
    assert replace(FIRST, scores=(worse,)).mean is None


def test_the_report_shows_scores_and_the_warning():
    search = make_search(evaluated=(TEACHER, FIRST, SECOND), parent_loss=1.5, corrected_loss=1.4)
    records = [TrialRecord(trial=trial, points=(), attempts=()) for trial in TRIALS]
    comparison = Comparison(winner_loss=2.0, parent_loss=1.5, random_architectures=(), random_indices=())
    console = Console(width=160)
    with console.capture() as printed:
        display.report(
            console, view_of(search, tally_of((trial, (), ()) for trial in TRIALS)), records, comparison
        )
    text = printed.get()
    assert "teacher" in text
    assert "trial 4" in text
    assert "arc acc" in text
    assert "trial 1 scores higher at the tasks than trial 4" in text
    assert "corrected teacher: 1.4000" in text


def test_a_spec_says_what_is_wrong_with_its_stages():
    plain = spec_to_json(make_spec())
    for changes, problem in (
        ({"evaluation": {"tasks": []}}, ("evaluation.tasks", "found none, allowed: at least one")),
        (
            {"evaluation": {"tasks": ["x"], "finalists": 0}},
            ("evaluation.finalists", "found 0, allowed: 1 to 1000"),
        ),
        (
            {"evaluation": {"tasks": ["x"], "limit": "5"}},
            ("evaluation.limit", 'found "5", allowed: a whole number'),
        ),
        (
            {"evaluation": {"tasks": ["x"], "task": 1}},
            ("evaluation.task", "unknown, allowed: tasks, task_path"),
        ),
        (
            {"correction": {"learning_rate_ratio": 2}},
            ("correction.learning_rate_ratio", "found 2.0, allowed"),
        ),
        ({"correction": {"num_tokens": 5}}, ("correction.num_tokens", "found 5, allowed: at least one step")),
        (
            {"correction": {"mode": "beside"}},
            ("correction.mode", "found \"beside\", allowed: 'before' or 'alongside'"),
        ),
        ({"correction": {"stages": 0}}, ("correction.stages", "found 0, allowed: at least 1")),
        (
            {"correction": {"mode": "alongside", "stages": 10**6}},
            ("correction.stages", "found 1000000, allowed: at most"),
        ),
        (
            {"correction": {"mode": "alongside", "num_tokens": 10**12}},
            (
                "correction.num_tokens",
                "found 1000000000000, allowed with mode alongside: at most the students'",
            ),
        ),
        ({"correction": {"tokens": 5}}, ("correction.tokens", "unknown, allowed: num_tokens")),
    ):
        with pytest.raises(InvalidSpec) as caught:
            parse_spec(plain | changes)
        ((field, reason),) = caught.value.problems
        assert (field, reason[: len(problem[1])]) == problem


def test_a_directory_of_tasks_must_be_there_when_a_search_is_submitted(tmp_path, monkeypatch):
    service = SearchService(InMemoryStore(), artifact_root=tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = make_spec(evaluation=Evaluation(tasks=("x",), task_path="tasks"))
    with pytest.raises(InvalidSpec, match=r"evaluation\.task_path: .*/tasks: no such directory"):
        service.create(spec)
    (tmp_path / "tasks").mkdir()
    assert service.create(spec).spec.evaluation.task_path == str(tmp_path / "tasks")


def test_an_evaluation_out_of_range_is_refused():
    with pytest.raises(InvalidRecipe, match=r"evaluation\.limit: found 0"):
        Evaluation(tasks=("x",), limit=0)
