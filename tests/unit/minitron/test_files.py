"""Whole files or nothing, and a full disk by its name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from minitron.files import naming_full_disk, new_directory, new_file

ROOT = Path(__file__).parents[3]
SAFETENSORS = (
    "import numpy, safetensors.numpy; safetensors.numpy.save_file({{'x': numpy.ones(500_000)}}, {path!r})"
)
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode
    == 0
)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_directory_appears_when_it_is_complete(tmp_path):
    with new_directory(tmp_path / "a" / "artifact") as scratch:
        (scratch / "one").write_text("1")
        assert not (tmp_path / "a" / "artifact").exists()
    assert names(tmp_path / "a") == ["artifact"]
    assert (tmp_path / "a" / "artifact" / "one").read_text() == "1"


def test_a_failure_leaves_nothing(tmp_path):
    def fail_in_a_directory():
        with new_directory(tmp_path / "artifact") as scratch:
            (scratch / "one").write_text("1")
            raise ZeroDivisionError

    def fail_in_a_file():
        with new_file(tmp_path / "file") as scratch:
            scratch.write_text("half")
            raise ZeroDivisionError

    for fail in (fail_in_a_directory, fail_in_a_file):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert names(tmp_path) == []


def test_of_two_makers_of_one_artifact_the_first_stands(tmp_path):
    with new_directory(tmp_path / "artifact") as slow:
        (slow / "by").write_text("slow")
        with new_directory(tmp_path / "artifact") as quick:
            (quick / "by").write_text("quick")
    assert (tmp_path / "artifact" / "by").read_text() == "quick"
    assert names(tmp_path) == ["artifact"]


def test_a_file_replaces_the_earlier_one_whole(tmp_path):
    for text in ("first", "second"):
        with new_file(tmp_path / "file") as scratch:
            scratch.write_text(text)
    assert (tmp_path / "file").read_text() == "second"
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no ordinary user mount a disk")
@pytest.mark.parametrize(
    "writer", ["open({path!r}, 'wb').write(b'x' * 1_000_000)", SAFETENSORS], ids=["python", "safetensors"]
)
def test_a_full_disk_is_named(writer, tmp_path):
    """On a real full disk: a tiny one, seen by a child process alone."""
    program = tmp_path / "program.py"
    write = writer.format(path=str(tmp_path / "disk" / "file"))
    program.write_text(
        "from pathlib import Path\nfrom minitron.errors import OutOfSpace\n"
        "from minitron.files import naming_full_disk\n"
        f"try:\n    with naming_full_disk(Path('artifact')):\n        {write}\n"
        "except OutOfSpace as error:\n    print(error)\n"
    )
    (tmp_path / "disk").mkdir()
    mounted = f"mount -t tmpfs -o size=64k none {tmp_path}/disk && {sys.executable} {program}"
    child = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.stdout == "artifact: no space left on the disk that holds it\n", child.stderr


def test_other_failures_keep_their_own_name(tmp_path):
    with pytest.raises(FileNotFoundError), naming_full_disk(tmp_path):
        (tmp_path / "no" / "such").write_text("x")
    with pytest.raises(SafetensorError), naming_full_disk(tmp_path):
        save_file({"x": torch.ones(1)}, tmp_path / "no" / "such")


def test_what_gets_its_name_is_on_the_disk_first(tmp_path, monkeypatch):
    """After a power cut a name must not stand for less than it did."""
    happened = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(descriptor):
        happened.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def recorded_rename(self, target):
        happened.append(f"-> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    with new_directory(tmp_path / "model") as scratch:
        (scratch / "weights").write_text("w")
    directory_name = happened[0]
    assert directory_name.startswith(".model.")
    assert happened[1:] == ["weights", "-> model", tmp_path.name]
    happened.clear()
    with new_file(tmp_path / "scores") as scratch:
        scratch.write_text("s")
    assert happened[1:] == ["-> scores", tmp_path.name]
    assert happened[0].startswith(".scores.")
