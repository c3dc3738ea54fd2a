"""``nas push`` as users call it: a real process, a real server, a hub of our own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub import FakeHub, serving
from tests.unit.api.server import running

NAS = Path(sys.executable).with_name("nas")
TOKEN = "hf_canaryCANARYcanary"
CARD = "---\nlibrary_name: transformers\n---\n# small\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        winner = server.artifact_root / "searches" / server.id("succeeded") / "winner"
        (winner / "README.md").write_text(CARD)
        yield server


@pytest.fixture
def hub():
    with serving(FakeHub()) as hub:
        hub.writers = {TOKEN}
        yield hub


@pytest.fixture
def push(server, hub, tmp_path):
    """Call ``nas push`` away from the server's home; return standard output or else standard error."""

    def call(*arguments, token=TOKEN, code=0, home=tmp_path / "home"):
        environment = os.environ | hub.environment(token) | {
            "NAS_SERVER_URL": server.address, "NAS_HOME": str(home), "HF_HOME": str(tmp_path / "hf"),
        }  # fmt: skip
        ended = subprocess.run(
            [NAS, "push", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        assert TOKEN not in ended.stdout + ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    return call


def _files(hub, name):
    repository = hub.models[name]
    return repository.commits[repository.refs["main"]]


def test_a_winner_of_the_server_goes_to_the_hub(push, server, hub, tmp_path):
    search_id = server.id("succeeded")
    said = push(search_id, "--repo", "org/small", "--private")
    assert said.splitlines()[-1] == f"{hub.endpoint}/org/small"
    assert "org/small (private): 3 files, 3,000," in said
    winner = server.artifact_root / "searches" / search_id / "winner"
    assert _files(hub, "org/small")["model.safetensors"] == (winner / "model.safetensors").read_bytes()
    assert hub.models["org/small"].readers == {TOKEN}
    assert list((tmp_path / "home").iterdir()) == [], "the copy is removed"


def test_a_winner_that_lies_here_needs_no_server(push, server, hub, tmp_path):
    shutil.copytree(server.artifact_root.parent, tmp_path / "own")
    search_id = server.id("succeeded")
    said = push(search_id, home=tmp_path / "own")
    assert said.splitlines()[-1] == f"{hub.endpoint}/me/minitron-nas-{search_id}"
    assert _files(hub, f"me/minitron-nas-{search_id}")["README.md"].decode() == CARD


def test_a_dry_run_needs_no_token_and_asks_nobody(push, server, hub):
    said = push(server.id("succeeded"), "--repo", "org/small", "--dry-run", token=None)
    assert "README.md" in said
    assert said.splitlines()[-1] == "dry run: nothing was uploaded"
    told = json.loads(push(server.id("succeeded"), "--repo", "org/small", "--dry-run", "--json", token=None))
    assert {"path": "README.md", "num_bytes": len(CARD)} in told.pop("files")
    assert told == {"repository": "org/small", "is_private": False, "address": None}
    assert hub.requests == []


def test_what_cannot_be_pushed_is_told_in_one_line(push, server, hub):
    succeeded, running_id = server.id("succeeded"), server.id("running")
    for arguments, token, message in (
        ((succeeded,), None, "error: HF_TOKEN: not set, allowed: a token with write access"),
        ((succeeded,), "hf_other", f"error: HF_TOKEN: {hub.endpoint} does not accept the token"),
        ((succeeded, "--repo", "org/x"), "hf_other", "error: hub:org/x: the token may not write there"),
        ((succeeded, "--repo", "org"), TOKEN, "error: --repo: found 'org', allowed: ORG/NAME"),
        ((running_id, "--repo", "org/x"), TOKEN, f"error: winner: search {running_id} has none yet"),
    ):
        (line,) = push(*arguments, token=token, code=1).splitlines()
        assert line.startswith(message)
    assert push("nope", "--repo", "org/x", token=TOKEN, code=2) == "error: search nope: not found\n"
    assert not hub.models
