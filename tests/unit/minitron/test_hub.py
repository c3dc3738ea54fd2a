"""Asking the hub: what names mean, and what each refusal is told as."""

import re
import subprocess
import sys
import traceback

import pytest

from minitron.errors import HubError, RefusedByHub, UnreachableHub
from minitron.hub import HubName, asking, has_token, look_up, page
from tests.hub import FakeHub, asked_here, serving

TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path):
        yield hub


@pytest.mark.parametrize(
    ("text", "repository", "revision", "file"),
    [
        ("hub:org/name", "org/name", None, None),
        ("hub:org/name@v1.0", "org/name", "v1.0", None),
        ("hub:org/name@refs/pr/1#sub/x.Q4_1.gguf", "org/name", "refs/pr/1", "sub/x.Q4_1.gguf"),
        ("hub:o-r_g.x/N-a_m.e#f.gguf", "o-r_g.x/N-a_m.e", None, "f.gguf"),
    ],
)
def test_names_are_read_and_written(text, repository, revision, file):
    name = HubName.parse(text)
    assert (name.repository, name.revision, name.file) == (repository, revision, file)
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["hub:", "hub:name", "hub:a/b/c", "hub:a/b@", "hub:a/b#", "hub:a b/c", "hub:a/b@x y", "hub:ü/b", "a/b"],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(HubError, match=r"found '.*', allowed: hub:ORG/NAME\[@REVISION\]\[#FILE\]"):
        HubName.parse(text)


def test_only_a_whole_hash_is_a_commit():
    commit = "0123456789abcdef" * 2 + "01234567"
    assert HubName.parse(f"hub:a/b@{commit}").commit == commit
    assert HubName.parse(f"hub:a/b@{commit[:7]}").commit is None
    assert HubName.parse("hub:a/b").commit is None


def test_no_two_files_share_a_directory():
    commit = "0123456789abcdef" * 2 + "01234567"
    files = [
        "q4/m.gguf",
        "q4--m.gguf",
        "m.gguf",
        "q4//m.gguf",
        "Q4/m.gguf",
        "é" * 200 + "/m.gguf",
        "m" * 300 + ".gguf",
    ]
    names = {HubName.parse(f"hub:a/b@{commit}#{file}").directory for file in files}
    assert len(names) == len(files)
    for name in names:
        assert re.fullmatch(rf"a--b--{commit}--[0-9a-f]{{16}}--.*m\.gguf", name)
        assert len(f".{name}--v1.partial".encode()) < 255
    assert HubName.parse(f"hub:a/b@{commit}").directory == f"a--b--{commit}"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_is_looked_up_at_the_commit_that_its_revision_is_now(hub, kind):
    first = hub.add("org/name", {"a.txt": b"1", "w.safetensors": b"22"}, kind=kind)
    second = hub.add("org/name", {"a.txt": b"3"}, kind=kind)
    found = look_up(HubName.parse("hub:org/name"), kind)
    assert found.name == HubName(repository="org/name", revision=second)
    pinned = look_up(HubName.parse(f"hub:org/name@{first}"), kind)
    assert [(file.path, file.size) for file in pinned.files] == [("a.txt", 1), ("w.safetensors", 2)]
    assert [file.sha256 is None for file in pinned.files] == [True, False]
    assert page(found.name, kind).endswith("/datasets/org/name" if kind == "dataset" else "/org/name")


def _refusal(name="hub:org/name"):
    with pytest.raises(HubError) as caught:
        look_up(HubName.parse(name))
    error = caught.value
    assert str(error).startswith(name)
    assert "\n" not in str(error)
    assert "huggingface_hub.errors" not in "".join(traceback.format_exception(error))
    return type(error), str(error)


def test_an_unknown_repository_may_be_a_private_one(hub, monkeypatch):
    kind, text = _refusal()
    assert kind is RefusedByHub
    assert "no such repository, or one that needs a token in HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    kind, text = _refusal()
    assert "no such repository, or one that its token may not read" in text
    assert TOKEN not in text


def test_an_unknown_revision_is_named(hub):
    hub.add("org/name", {"a": b""})
    assert _refusal("hub:org/name@v9") == (
        RefusedByHub, "hub:org/name@v9: no such revision of org/name: 'v9'",
    )  # fmt: skip


def test_a_hub_that_is_down_may_be_up_later(hub):
    hub.is_down = True
    kind, text = _refusal()
    assert kind is UnreachableHub
    assert "answered 503" in text


def test_no_network_is_told_with_the_way_out(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://me:secret@127.0.0.1:9")
    kind, text = _refusal()
    assert kind is UnreachableHub
    assert "http://127.0.0.1:9 does not answer (ConnectError); allowed: try again, or take a local" in text
    assert "secret" not in text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    kind, text = _refusal()
    assert kind is UnreachableHub
    assert "HF_HUB_OFFLINE is set" in text


def test_a_name_that_only_the_hub_forbids(hub):
    assert "is no name of the hub's" in _refusal("hub:org/a--b")[1]


def test_a_token_that_no_header_can_carry_is_not_quoted(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\x01\u00e9")
    with pytest.raises(HubError, match=r"^HF_TOKEN: found characters") as caught:
        look_up(HubName.parse("hub:org/name"))
    assert TOKEN not in str(caught.value)


def test_a_token_is_found_where_huggingface_hub_finds_it(hub, monkeypatch):
    assert not has_token()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert has_token()
    hub.add("org/name", {"a": b""})
    look_up(HubName.parse("hub:org/name"))
    assert hub.requests[-1].token == TOKEN


def test_errors_of_others_pass_through(hub):
    with pytest.raises(ZeroDivisionError), asking(HubName.parse("hub:org/name")):
        raise ZeroDivisionError


def test_a_name_is_read_without_loading_anything():
    """Every spec is read by the server, the command line and the page."""
    program = (
        "import sys; from minitron.hub import HubName; HubName.parse('hub:a/b');"
        "print(*{'huggingface_hub', 'httpx2', 'torch'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == ""
