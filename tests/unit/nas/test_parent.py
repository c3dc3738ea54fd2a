"""What a search is told of its parent when it is submitted, and never asks for again."""

import json
from dataclasses import replace

import pytest

from minitron.families import planning_config
from minitron.parents import BUILTIN_CONFIGS, TINY, fetched_directory, hub_name, parent_architecture
from nas.axes import Axes
from nas.budget import Budget
from nas.errors import HubUnavailable, InvalidSpec
from nas.leaderboard import comparison_of
from nas.parent import described
from nas.service import SearchService, resolved
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.wording import parent as parent_words
from tests.gguf_files import write_gguf
from tests.hub import FakeHub, asked_here, serving
from tests.searches import make_search, make_spec

CONFIG = BUILTIN_CONFIGS[TINY]
FILES = {
    "config.json": json.dumps(CONFIG | {"transformers_version": "9"}).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors": b"",
}
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        yield hub


@pytest.fixture
def service(tmp_path):
    return SearchService(InMemoryStore(), artifact_root=tmp_path)


def test_a_hub_parent_is_named_by_its_commit_and_known_by_its_config(hub, service):
    commit = hub.add("org/tiny", FILES)
    search = service.create(make_spec(parent="hub:org/tiny"))
    assert search.spec.parent == f"hub:org/tiny@{commit}"
    assert search.spec.parent_config == planning_config(CONFIG)
    assert "transformers_version" not in search.spec.parent_config
    assert search.parent_parameters == parent_architecture(TINY).parameter_count
    hub.add("org/tiny", {})
    assert service.get(search.id).search.spec == search.spec


def test_what_is_computed_later_asks_nobody(hub, service):
    hub.add("org/tiny", FILES)
    search = service.create(make_spec(parent="hub:org/tiny"))
    asked = len(hub.requests)
    space = search_space(search.spec)
    assert space.architectures == search_space(make_spec()).architectures
    assert comparison_of(make_search(spec=search.spec), []) is None
    assert hash(search.spec) == hash(replace(search.spec))
    assert len(hub.requests) == asked


def test_a_parent_given_with_its_config_must_have_it(hub, service, tmp_path):
    hub.add("org/tiny", FILES)
    spec = make_spec(parent="hub:org/tiny", parent_config=CONFIG)
    assert service.create(spec).spec.parent_config == planning_config(CONFIG)
    for parent in ("hub:org/tiny", TINY):
        other = replace(spec, parent=parent, parent_config=CONFIG | {"hidden_size": 64, "vocab_size": 9})
        with pytest.raises(
            InvalidSpec, match=r"^parent_config: differs from .*hidden_size: found 64, allowed: 128; v"
        ):
            service.create(other)


def test_a_config_that_no_parent_has_is_refused(hub, service):
    with pytest.raises(InvalidSpec, match="parent_config: model_type: found 'bert', allowed: llama"):
        service.create(make_spec(parent_config={"model_type": "bert"}))


def test_without_network_a_commit_and_a_config_are_enough(hub, service, tmp_path):
    hub.is_down = True
    spec = make_spec(parent=f"hub:org/tiny@{COMMIT}", parent_config=CONFIG)
    assert service.create(spec).spec == replace(spec, parent_config=planning_config(CONFIG))
    for lacking in (replace(spec, parent="hub:org/tiny"), replace(spec, parent_config=None)):
        with pytest.raises(
            HubUnavailable, match=r"^parent: hub:org/tiny.* or name a commit and give parent_config$"
        ):
            service.create(lacking)


def test_a_parent_that_was_fetched_needs_no_network(hub, service, tmp_path):
    hub.is_down = True
    directory = fetched_directory(hub_name(f"hub:org/tiny@{COMMIT}"), tmp_path)
    directory.mkdir(parents=True)
    (directory / "config.json").write_bytes(FILES["config.json"])
    spec = service.create(make_spec(parent=f"hub:org/tiny@{COMMIT}")).spec
    assert spec.parent_config == planning_config(CONFIG)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("hub:org", r"found 'hub:org', allowed: hub:ORG/NAME"),
        ("hub:org/none", r"hub:org/none: http://\S+ has no such repository, or one that needs a token"),
        ("hub:org/tiny@v9", r"hub:org/tiny@v9: no such revision"),
    ],
)
def test_what_the_hub_has_not_is_refused_at_submission(hub, service, parent, message):
    hub.add("org/tiny", FILES)
    with pytest.raises(InvalidSpec, match=f"^parent: {message}"):
        service.create(make_spec(parent=parent))


def test_blocks_fit_the_positions_of_a_parent_on_the_hub(hub, service):
    hub.add("org/tiny", FILES)
    spec = make_spec(parent="hub:org/tiny")
    with pytest.raises(InvalidSpec, match=r"^data.sequence_length: found 1024.*at most 512"):
        service.create(replace(spec, data=replace(spec.data, sequence_length=1024)))


def test_a_gguf_file_is_known_by_its_header(service, tmp_path, monkeypatch):
    write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.chdir(tmp_path)
    axes = Axes(num_layers=(1, 2))
    spec = service.create(make_spec(parent="tiny.gguf", budget=Budget(max_parameters=10**6), axes=axes)).spec
    assert spec.parent == str(tmp_path / "tiny.gguf")
    assert spec.parent_config["num_hidden_layers"] == 2
    (tmp_path / "tiny.gguf").unlink()
    assert search_space(spec).parent.hidden_size == 64


def test_a_name_on_the_hub_is_no_path(tmp_path):
    spec = make_spec(parent="hub:org/tiny")
    assert resolved(spec) == spec


def test_parents_that_are_here_keep_their_specs_short(tmp_path):
    assert described(make_spec(), tmp_path) == make_spec()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (TINY, TINY),
        ("/home/me/my-llama", "my-llama"),
        (f"hub:org/tiny@{COMMIT}", "tiny@0123456"),
        (f"hub:org/tiny@{COMMIT}#x.gguf", "tiny@0123456#x.gguf"),
    ],
)
def test_parents_are_short_in_tables(name, words):
    assert parent_words(name) == words
