"""A search of a gated parent from the hub to its winner there, and a token that nothing ever shows."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from minitron.hub import HubName
from minitron.parents import fetched_directory
from nas.parent import described
from nas.search import SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import open_store
from nas.supervisor import NOT_NOW
from tests.home import tell_mlflow
from tests.hub import FakeHub, asked_here, serving
from tests.micro import micro_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.searches,
]

TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture(scope="module")
def hub():
    with serving(FakeHub()) as hub:
        hub.writers = {TOKEN}
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def settings(home):
    return Settings(home=home, tracking_uri=f"sqlite:///{home}/mlflow.db")


@pytest.fixture
def service(settings, hub, home, monkeypatch):
    with asked_here(hub, monkeypatch, home.with_name("hf")):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield SearchService(open_store(settings.database_url), artifact_root=settings.artifact_root)


@pytest.fixture(scope="module")
def spec(hub, tmp_path_factory):
    directory = tmp_path_factory.mktemp("micro")
    spec = micro_spec(directory, max_parallel=1, num_trials=1)
    hub.add("org/micro", directory / "parent")
    hub.add("org/closed", directory / "parent")
    hub.add("org/late", directory / "parent")
    hub.models["org/micro"].admitted = {TOKEN}
    return replace(spec, parent="hub:org/micro")


def _commands():
    """The command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def _run(search_id, hub, settings):
    """Run a search as the supervisor does, with its log; return the exit code and who showed the token."""
    environment = os.environ | hub.environment(TOKEN) | settings.environment()
    with (settings.home / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers", "--search", search_id],
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        shown = []
        while worker.poll() is None:
            shown += [command for command in _commands() if TOKEN.encode() in command]
            time.sleep(0.2)
    print((settings.home / "worker.log").read_text())
    return worker.returncode, shown


@pytest.fixture
def searched(service, spec, hub, settings):
    """The search, run once for all tests."""
    found = service.list_views()
    if not found:
        search = service.create(spec)
        assert _run(search.id, hub, settings) == (0, [])
        found = [service.get(search.id)]
    return found[-1].search


def test_a_gated_parent_is_searched_by_a_token(searched, hub, settings):
    assert searched.state is SearchState.SUCCEEDED
    commit = hub.models["org/micro"].refs["main"]
    assert searched.spec.parent == f"hub:org/micro@{commit}"
    parent = fetched_directory(HubName.parse(searched.spec.parent), settings.artifact_root)
    assert (parent / "model.safetensors").is_file()
    assert hub.sent.count("model.safetensors") == 1
    card = (settings.artifact_root / searched.winner.path / "README.md").read_text()
    assert 'base_model: "org/micro"' in card
    assert f"`hub:org/micro@{commit}`" in card
    tell_mlflow(settings)
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    (experiment,) = [
        each.experiment_id for each in client.search_experiments(filter_string="name = 'minitron-nas'")
    ]
    runs = client.search_runs([experiment], "tags.`nas.kind` = 'search'")
    assert runs[0].data.params["parent"] == searched.spec.parent


def test_a_second_search_of_it_needs_no_hub(searched, service, hub, settings):
    hub.is_down = True
    try:
        assert described(searched.spec, settings.artifact_root) == searched.spec
    finally:
        hub.is_down = False


def test_nothing_that_is_kept_shows_the_token(searched, service, spec, hub, settings):
    """Also where a search fails because the hub no longer admits it."""
    refused = service.create(replace(spec, parent="hub:org/closed"))
    hub.models["org/closed"].admitted = set()
    code, shown = _run(refused.id, hub, settings)
    assert (code, shown) == (1, [])
    failure = service.get(refused.id).search.failure
    assert failure.message.startswith(
        f"RefusedByHub: {refused.spec.parent}: is gated: the token has no access"
    )
    assert "Traceback" in failure.traceback
    tell_mlflow(settings, **hub.environment(TOKEN))
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert {"nas.db", "mlflow.db", "worker.log", "README.md"} <= {path.name for path in files}
    # Not read here: a process that closes a SQLite file loses the locks of its open connections to it.
    grep = subprocess.run(["grep", "-rl", TOKEN, settings.home], capture_output=True, text=True, check=False)
    assert (grep.returncode, grep.stdout) == (1, "")
    assert TOKEN not in repr(service.get(searched.id)) + repr(service.events()) + repr(settings)
    assert {each.token for each in hub.requests if each.path.startswith("/storage/")} == {None}


@pytest.mark.searches
def test_a_hub_that_is_away_is_waited_for(service, spec, hub, settings):
    """Nobody is asked to submit the search again, and nothing of it is lost."""
    search = service.create(replace(spec, parent="hub:org/late"))
    hub.is_down = True
    try:
        assert _run(search.id, hub, settings)[0] == NOT_NOW
    finally:
        hub.is_down = False
    waiting = service.get(search.id).search
    assert not waiting.state.is_final
    assert waiting.progress.stage.startswith("waiting for the hub: ")
    assert "answered 503" in waiting.progress.stage
    assert _run(search.id, hub, settings)[0] == 0
    assert service.get(search.id).search.state is SearchState.SUCCEEDED
