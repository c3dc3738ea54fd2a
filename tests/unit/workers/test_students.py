"""Students of reused trials are found where they were made, or made again to the bit."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import load_file

from nas.layout import student_directory, student_of
from nas.space import search_space
from nas.trial import Trial, TrialState
from tests.micro import micro_spec
from workers.artifacts import prepare
from workers.students import bring_students, missing_students
from workers.trial import TrialEvaluator

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """The artifact root, how trials are evaluated there, and a trial that was."""
    directory = tmp_path_factory.mktemp("micro")
    torch.set_num_threads(1)
    spec = micro_spec(directory)
    root = directory / "artifacts"
    evaluator = TrialEvaluator(spec, prepare(spec, root, lambda _: None), root)
    trial = Trial(
        search_id="first", number=2, architecture=search_space(spec).architectures[-2], created_at=NOW
    )
    last = list(evaluator(trial))[-1]
    made = replace(trial, state=TrialState.COMPLETED, measurement=last.finished, checkpoint=last.checkpoint)
    return root, evaluator, made


@pytest.fixture
def reused(micro, request):
    """A trial of another search, for this test alone, that was not run."""
    _, _, made = micro
    trial = Trial(search_id=request.node.name, number=0, architecture=made.architecture, created_at=NOW)
    return trial.reused(made, rung=0, at=NOW)


def _never():
    raise AssertionError("nothing is to be trained")


def test_a_student_is_linked_where_it_is_still_there(micro, reused):
    root, _, made = micro
    assert missing_students(root, [made, reused]) == [reused]
    told = []
    bring_students([reused], root, _never, told.append)
    assert missing_students(root, [made, reused]) == []
    found, source = student_of(root, reused), student_directory(root, made)
    assert found == student_directory(root, reused)
    assert {path.name for path in found.iterdir()} == {path.name for path in source.iterdir()}
    assert (found / "model.safetensors").samefile(source / "model.safetensors")
    assert not (found / "config.json").samefile(source / "config.json")
    assert [progress.stage for progress in told] == ["student of trial 0: from search first, trial 2"]


def test_a_student_that_is_gone_is_trained_again_to_the_same(micro, reused):
    root, evaluator, made = micro
    gone = replace(reused, checkpoint="searches/gone/student")
    told = []
    bring_students([gone], root, lambda: evaluator, told.append)
    again = load_file(student_of(root, gone) / "model.safetensors")
    before = load_file(student_directory(root, made) / "model.safetensors")
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)
    assert (told[-1].done, told[-1].total) == (made.measurement.num_tokens,) * 2
    assert "trained again" in told[-1].stage


def test_a_student_that_is_deleted_while_it_is_linked_is_trained_again(micro, reused, monkeypatch):
    root, evaluator, made = micro
    copied = shutil.copyfile
    source = root / "searches" / "deleted" / "student"
    shutil.copytree(student_directory(root, made), source)

    def copy(path, to):
        shutil.rmtree(source, ignore_errors=True)
        return copied(path, to)

    monkeypatch.setattr(shutil, "copyfile", copy)
    going = replace(reused, checkpoint=source.relative_to(root).as_posix())
    bring_students([going], root, lambda: evaluator, lambda _: None)
    assert not source.exists()
    assert (student_of(root, going) / "model.safetensors").exists()
