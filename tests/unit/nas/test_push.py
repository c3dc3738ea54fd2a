"""Winners on the hub: uploaded whole, with a card, by a token that is never shown."""

import pytest

from minitron.card import model_card
from minitron.errors import HubError, RefusedByHub, UnreachableHub
from minitron.hub import HubName, look_up
from minitron.parents import TINY, parent_architecture
from nas.push import owner, planned_upload, push
from tests.hub import FakeHub, asked_here, serving

# huggingface_hub's own way of sending a file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        hub.writers = {TOKEN}
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def winner(tmp_path):
    directory = tmp_path / "winner"
    directory.mkdir()
    shape = parent_architecture(TINY)
    card = model_card(
        title="small", parent="/home/me/llama", parent_fingerprint="abc", before=shape, after=shape,
        recipes={}, losses={},
    )  # fmt: skip
    for name, content in {
        "config.json": b"{}", "tokenizer.json": b"{}", "README.md": card.encode(),
        "model-00001-of-00002.safetensors": b"1" * 3000, "model-00002-of-00002.safetensors": b"2" * 3000,
        "model.safetensors.index.json": b"{}",
    }.items():  # fmt: skip
        (directory / name).write_bytes(content)
    return directory


def _push(winner, repository="me/small", *, is_private=False):
    return push(planned_upload(winner, repository, is_private=is_private), "Winner of search x")


def test_a_winner_is_there_as_it_is_here(hub, winner):
    assert _push(winner) == f"{hub.endpoint}/me/small"
    repository = hub.models["me/small"]
    files = repository.commits[repository.refs["main"]]
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in winner.iterdir()
    }
    assert repository.readers is None
    found = look_up(HubName.parse("hub:me/small"))
    assert len(found.files) == 7


def test_all_comes_in_one_commit_and_old_weights_go(hub, winner):
    hub.add("me/small", {"model.safetensors": b"old", "notes.txt": b"kept", ".gitattributes": b""})
    commits = len(hub.models["me/small"].commits)
    _push(winner)
    repository = hub.models["me/small"]
    assert len(repository.commits) == commits + 1
    files = repository.commits[repository.refs["main"]]
    assert "model.safetensors" not in files
    assert files["notes.txt"] == b"kept"


def test_a_private_one_is_private_from_the_start(hub, winner):
    _push(winner, is_private=True)
    assert hub.models["me/small"].readers == {TOKEN}


def test_a_private_winner_does_not_go_into_a_public_repository(hub, winner):
    commit = hub.add("me/small", {".gitattributes": b""})
    with pytest.raises(
        HubError, match=r"--private: http://\S+/me/small is public, allowed: another or a private"
    ):
        _push(winner, is_private=True)
    assert hub.models["me/small"].refs["main"] == commit


def test_what_is_refused_is_named_without_the_token(hub, winner, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RefusedByHub, match="the token may not write there; allowed: one with write access"):
        _push(winner)
    with pytest.raises(RefusedByHub, match=r"^HF_TOKEN: http://\S+ does not accept the token"):
        owner()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"^HF_TOKEN: not set, allowed: a token with write access"):
        _push(winner)
    assert not hub.models


def test_a_card_that_the_hub_refuses_stops_the_push(hub, winner):
    (winner / "README.md").write_text("---\nbase_model: no name\n---\n")
    with pytest.raises(
        HubError, match=r'^hub:me/small: Invalid metadata in README\.md\. - "base_model" must be'
    ):
        _push(winner)
    assert list(hub.models["me/small"].commits.values()) == [{".gitattributes": b""}]


def test_a_hub_that_goes_down_while_files_are_sent_is_told(hub, winner, monkeypatch):
    hub.refuses_storage = True
    with pytest.raises(UnreachableHub, match=r"^hub:me/small: http://\S+ answered 501"):
        _push(winner)
    hub.is_down = True
    with pytest.raises(UnreachableHub, match="answered 503"):
        _push(winner)


@pytest.mark.parametrize("repository", ["small", "a/b/c", "me/small@main", "me/small#x", "hub:me/small", ""])
def test_the_repository_is_a_name(winner, repository):
    with pytest.raises(HubError, match=rf"^--repo: found '{repository}', allowed: ORG/NAME"):
        planned_upload(winner, repository, is_private=False)


def test_only_a_checkpoint_with_a_card_is_planned(tmp_path, winner):
    assert planned_upload(winner, "me/small", is_private=False).files[0][0] == "README.md"
    with pytest.raises(HubError, match=r"holds no README\.md, allowed: the winner of a search"):
        planned_upload(tmp_path, "me/small", is_private=False)
