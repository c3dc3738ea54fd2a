"""Temporary directories go with their process, or with the next one."""

import os
import tempfile
import time

import pytest
from filelock import FileLock

from workers.scratch import LOCK, SETTLED_SECONDS, scratch_directory


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left_behind(path, *, seconds):
    path.mkdir()
    (path / LOCK).touch()
    (path / "file").touch()
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_it_goes_at_the_end_even_of_an_error(tmp_path):
    def fail():
        with scratch_directory("nas-x-") as path:
            (path / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    left_behind(tmp_path / "nas-x-old", seconds=2 * SETTLED_SECONDS)
    left_behind(tmp_path / "nas-x-new", seconds=0)
    left_behind(tmp_path / "nas-y-old", seconds=2 * SETTLED_SECONDS)
    with scratch_directory("nas-x-"):
        assert not (tmp_path / "nas-x-old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nas-x-new", "nas-y-old"]


def test_what_another_process_holds_stays(tmp_path):
    held = tmp_path / "nas-x-held"
    left_behind(held, seconds=2 * SETTLED_SECONDS)
    with FileLock(held / LOCK), scratch_directory("nas-x-"):
        assert (held / "file").exists()
