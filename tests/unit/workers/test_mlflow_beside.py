"""MLflow beside, as users start it: real processes, killed and started again; what is told survives it all."""

import os
import signal
import time
from importlib.metadata import version

import httpx
import pytest

from nas.clock import utc_now
from nas.mlflow_beside import MlflowBeside, tell_all
from nas.mlflow_links import links_of
from nas.outbox import target_of
from nas.settings import Settings
from nas.storage.sql import open_store
from tests.fakes import Faults
from tests.unit.workers.mlflow_bench import Bench

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated"  # MLflow's own models, on the SQLAlchemy that we use
)
PATIENCE_SECONDS = 120


class Beside:
    """A home with MLflow beside, and searches in its database that a fake executor runs."""

    def __init__(self, directory):
        self.settings = Settings(home=directory / "home", mlflow_port=0, _env_file=None)
        self.settings.artifact_root.mkdir(parents=True)
        self.store = open_store(self.settings.database_url)
        self.directory = directory
        self.beside = MlflowBeside(self.settings, serves=True)
        self.links = links_of(self.settings, self.store.outboxes, self.beside.address)
        self.target = target_of(self.settings.tracking_uri)
        self.beside.start()

    @property
    def server(self):
        return self.beside._children[0]

    @property
    def projector(self):
        return self.beside._children[1]

    def search(self, name):
        return Bench(
            self.settings.artifact_root, self.directory, name, store=self.store, uri=self.beside.address,
            faults=Faults(lost_workers={1: 1}),
        )  # fmt: skip

    def cursor(self):
        outbox = self.store.outboxes.at(self.target)
        return outbox.cursor if outbox else 0

    def once_sent(self):
        last = self.store.last_sequence()
        once(lambda: self.cursor() >= last)


def once(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    running = Beside(tmp_path_factory.mktemp("beside"))
    yield running
    assert running.beside.stop(PATIENCE_SECONDS)
    running.store.close()


@pytest.fixture(scope="module")
def told(beside):
    """A search that MLflow was told of without any trouble."""
    search = beside.search("calm")
    search.succeed()
    beside.once_sent()
    return search


def test_links_lead_to_the_runs_that_they_are_of(beside, told):
    links = beside.links.of("calm")
    attempts = {(attempt.trial_number, attempt.number) for attempt in beside.store.attempts("calm")}
    assert links.attempts.keys() == attempts == links.run_ids.keys()
    assert beside.links.of_searches(["calm", "unknown"]) == {"calm": links.search}
    pages = {None: links.search, **links.attempts}
    with httpx.Client() as browser:
        for place, link in pages.items():
            page, _, fragment = link.partition("#")
            assert browser.get(page).status_code == 200
            _, _, experiment, _, run_id = fragment.split("/")
            answer = browser.get(f"{page}api/2.0/mlflow/runs/get", params={"run_id": run_id})
            assert answer.status_code == 200
            run = answer.json()["run"]
            tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
            shown = (int(tags["nas.trial"]), int(tags["nas.attempt"])) if "nas.trial" in tags else None
            assert (shown, run["info"]["experiment_id"]) == (place, experiment)


def test_a_winner_is_registered_by_way_of_the_server_and_its_page_is_known(beside, told):
    found = beside.links.registered("calm")
    assert found == beside.links.of("calm").registered
    (version,) = told.versions()
    assert (found.name, found.version) == (version.name, int(version.version))
    assert found.url == f"{beside.beside.address}/#/models/{found.name}/versions/{found.version}"
    with httpx.Client(base_url=beside.beside.address) as browser:
        asked = {"name": found.name, "alias": "champion"}
        answer = browser.get("/api/2.0/mlflow/registered-models/alias", params=asked)
        champion = answer.json()["model_version"]
        tags = {tag["key"]: tag["value"] for tag in champion["tags"]}
        assert tags["nas.search_id"] in {"calm", "killed-0", "killed-1", "killed-2"}
        assert champion["source"].endswith(f"/{champion['run_id']}/artifacts/winner")


def test_it_serves_this_machine_and_nothing_that_runs_commands(beside, told):
    with httpx.Client(base_url=beside.beside.address) as browser:
        assert browser.get("/version").text == version("mlflow")
        asked = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=minitron-nas"
        assert browser.get(asked).status_code == 200
        assert browser.get(asked, headers={"Host": "elsewhere.example"}).status_code == 403
        elsewhere = {"Origin": "https://elsewhere.example"}
        made = browser.post("/api/2.0/mlflow/experiments/create", json={"name": "x"}, headers=elsewhere)
        assert made.status_code == 403
        for path in (
            "/ajax-api/3.0/mlflow/assistant/config",
            "/gateway/any/mlflow/invocations",
            "/ajax-api/3.0/jobs/x",
        ):
            answer = browser.get(path)
            assert (answer.status_code, answer.text) == (404, "not served here\n")


def test_the_winner_lies_with_its_run(beside, told):
    winner = told.store.get_search("calm").winner
    (version,) = told.versions()
    assert version.tags["nas.trial"] == str(winner.trial_number)
    files = told.client.list_artifacts(version.run_id, "winner")
    assert [file.path for file in files] == ["winner/README.md"]
    assert (beside.settings.mlflow_artifacts).is_dir()


@pytest.mark.searches
def test_mlflow_and_its_projector_killed_while_searches_run_are_caught_up_with_to_the_same_content(
    beside, told, tmp_path
):
    """What it shows is what an MLflow shows that was always there."""
    address = beside.beside.address
    killed = [beside.search(f"killed-{number}") for number in range(3)]
    os.kill(beside.server.pid, signal.SIGKILL)
    killed[0].succeed()
    os.kill(beside.projector.pid, signal.SIGKILL)
    killed[1].succeed()
    before = beside.cursor()
    # In the middle of a batch: MLflow has runs that the store was not told of.
    once(lambda: _has_runs(killed[0]))
    os.kill(beside.projector.pid, signal.SIGKILL)
    assert beside.cursor() == before
    killed[2].run()
    beside.once_sent()
    assert beside.beside.address == address
    assert beside.store.outboxes.backlog(beside.store.outboxes.at(beside.target)).num_events == 0
    # The same store, told to an MLflow of its own by a projector that nothing happens to.
    changes = {"uri": f"sqlite:///{tmp_path}/calm.db", "artifacts": tmp_path / "calm"}
    calm = [search.like(**changes) for search in killed]
    assert calm[0].project(target="calm")
    for other, search in zip(calm, killed, strict=True):
        assert search.content() == other.content()
        assert len(search.runs("search")) == 1


def _has_runs(search):
    try:
        return bool(search.runs("attempt"))
    except Exception:  # the server is being started again
        return False


def test_what_is_unsent_is_counted(beside, told):
    beside.once_sent()
    outbox = beside.store.outboxes.at(beside.target)
    assert beside.links.behind_seconds(utc_now()) is None
    beside.store.outboxes.rewind(beside.target)
    rewound = beside.store.outboxes.at(beside.target)
    backlog = beside.store.outboxes.backlog(rewound)
    if rewound.cursor == 0:  # unless it was sent already
        assert backlog.num_events == beside.store.last_sequence()
        assert backlog.since == beside.store.events(limit=1)[0].at
    beside.once_sent()
    assert beside.store.outboxes.at(beside.target) == outbox


def test_all_is_told_again_by_whoever_has_the_turn(beside, told):
    content = told.content()
    assert tell_all(beside.settings, beside.store, again=True, seconds=PATIENCE_SECONDS) == 0
    assert told.content() == content
