"""Fetching: whole or nothing, resumable, checked, with progress."""

import shutil

import pytest

from minitron.errors import ArtifactMismatch, OutOfSpace, RefusedByHub, UnreachableHub
from minitron.hub import HubName, look_up
from minitron.hub_files import fetch_files
from tests.hub import FakeHub, asked_here, serving

FILES = {
    "config.json": b"{}",
    "sub/a.safetensors": bytes(range(256)) * 50,
    "b.safetensors": b"b" * 5000,
    "code.py": b"import os",
}
WANTED = ["config.json", "sub/a.safetensors", "b.safetensors"]
TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        hub.add("org/name", FILES)
        yield hub


@pytest.fixture
def snapshot(hub):
    return look_up(HubName.parse("hub:org/name"))


@pytest.fixture
def directory(tmp_path, snapshot):
    return tmp_path / "root" / snapshot.name.directory


def _content(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_what_was_asked_for_arrives_and_nothing_else(snapshot, directory):
    told = []
    assert fetch_files(snapshot, WANTED, directory, report=told.append) == directory
    assert _content(directory) == {path: FILES[path] for path in WANTED}
    assert list(directory.parent.iterdir()) == [directory]
    total = sum(len(FILES[path]) for path in WANTED)
    assert (told[-1].done, told[-1].total, told[-1].unit) == (total, total, "bytes")


def test_what_is_there_is_not_fetched_again(hub, snapshot, directory):
    fetch_files(snapshot, WANTED, directory)
    before = len(hub.requests)
    fetch_files(snapshot, WANTED, directory)
    assert len(hub.requests) == before


def test_a_fetch_that_broke_goes_on_with_what_is_missing(hub, snapshot, directory):
    hub.breaks_after = 2
    with pytest.raises(UnreachableHub, match="answered 502"):
        fetch_files(snapshot, WANTED, directory)
    assert not directory.exists()
    arrived = _content(directory.with_name(f".{directory.name}.partial"))
    arrived = {path for path in arrived if not path.startswith(".cache")}
    assert len(arrived) == 2
    hub.breaks_after = None
    hub.sent.clear()
    fetch_files(snapshot, WANTED, directory)
    assert set(hub.sent) == set(WANTED) - arrived
    assert _content(directory) == {path: FILES[path] for path in WANTED}


def test_another_content_than_the_hub_names_is_refused(hub, snapshot, directory):
    repository = hub.models["org/name"]
    repository.commits[snapshot.name.commit]["b.safetensors"] = b"x" * 5000
    with pytest.raises(ArtifactMismatch, match=r"b\.safetensors: found SHA-256 .*, allowed by the hub: "):
        fetch_files(snapshot, WANTED, directory)
    assert not directory.exists()


def test_what_huggingface_hub_finds_broken_is_told_in_one_line(hub, snapshot, directory):
    hub.size_error = 7
    with pytest.raises(
        UnreachableHub, match=r"^hub:org/name@\w+: b.safetensors: Consistency check failed: .*"
    ) as caught:
        fetch_files(snapshot, ["b.safetensors"], directory)
    assert "\n" not in str(caught.value)


def test_a_gated_repository_shows_its_files_but_not_their_content(hub, snapshot, directory, monkeypatch):
    hub.models["org/name"].admitted = {TOKEN}
    with pytest.raises(
        RefusedByHub, match="is gated: set HF_TOKEN to a token that has access; access is asked"
    ):
        fetch_files(snapshot, WANTED, directory)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RefusedByHub, match="is gated: the token has no access; access is asked for at http"):
        fetch_files(snapshot, WANTED, directory)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch_files(snapshot, WANTED, directory)
    assert {each.token for each in hub.requests if each.path.startswith("/storage/")} == {None}


def test_a_disk_without_room_is_told_before_anything_is_fetched(hub, snapshot, directory, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(OutOfSpace, match=r"found 100 bytes free on the disk that holds it, needed: 17,802"):
        fetch_files(snapshot, WANTED, directory)
    assert hub.sent == []
