"""A process that asks only some hosts for what is on the hub, where the hub redirects to another."""

import pytest

from minitron.errors import RefusedByHub, UnreadableData
from minitron.hub import HubName, confine, look_up, reading
from minitron.hub_files import fetch_files
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource
from minitron.sources import pinned
from tests.hub import FakeHub, asked_here, serving

LARGE = "model.safetensors"
"""Its content comes from another host than the hub's: localhost, where that is 127.0.0.1."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path):
        hub.add("org/model", {"config.json": b"{}", LARGE: b"x" * 100})
        yield hub
        set_client_factory(default_client_factory)


def fetched(tmp_path):
    found = look_up(HubName.parse("hub:org/model"))
    return fetch_files(found, ["config.json", LARGE], tmp_path / "fetched")


def test_hosts_that_are_allowed_are_asked(hub, tmp_path):
    confine(["127.0.0.1", "localhost"])
    assert (fetched(tmp_path) / LARGE).read_bytes() == b"x" * 100


def test_a_redirect_elsewhere_is_not_followed(hub, tmp_path):
    confine(["127.0.0.1"])
    with pytest.raises(RefusedByHub, match=r"hub: found localhost.*allowed: 127.0.0.1 \(NAS_HUB_HOSTS\)"):
        fetched(tmp_path)
    found = look_up(HubName.parse("hub:org/model"))
    with pytest.raises(RefusedByHub, match="found localhost"), reading(found, LARGE) as content:
        content.read()
    assert {request.host.partition(":")[0] for request in hub.requests} == {"127.0.0.1"}
    assert not (tmp_path / "fetched").exists()


def test_a_hub_that_is_not_allowed_is_not_asked(hub):
    confine(["huggingface.co"])
    with pytest.raises(RefusedByHub, match=r"found 127\.0\.0\.1"):
        look_up(HubName.parse("hub:org/model"))
    assert hub.requests == []


def test_a_dataset_names_no_files_of_this_machine(hub, monkeypatch, tmp_path):
    """Its card is its author's, who has no business with what the worker can read."""
    from datasets import config

    monkeypatch.setattr(config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret of this machine\n" * 100)
    card = (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - {{split: train, path: {secret}}}\n---\n"
    )
    hub.add("org/sly", {"README.md": card.encode(), "a.txt": b"words\n" * 100}, kind="dataset")
    recipe = pinned(DataRecipe(source="hub:org/sly"))
    [(field, source)] = recipe.all_sources.items()
    assert isinstance(source, DataSource)
    with pytest.raises(UnreadableData, match="Data files don't belong to org/sly"):
        list(read_documents(field, source, seed=0))
