"""A search on a cluster of several nodes: all work, some leave and join meanwhile, others are not fit."""

import shutil
import time
from pathlib import Path

import pytest

import nas
from minitron.recipe import TrainingRecipe
from nas.axes import Axes
from nas.search import Comparisons, Rungs, SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import open_store
from nas.trial import FailureKind, TrialState
from tests.cluster import cluster
from tests.home import Home
from tests.micro import SEQUENCE_LENGTH

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PATIENCE_SECONDS = 400
LONG = TrainingRecipe(num_tokens=800 * SEQUENCE_LENGTH, batch_tokens=SEQUENCE_LENGTH, precision="float32")
"""A few seconds a trial: long enough to be at work when something happens."""
WIDE = Axes(num_layers=(1, 2), hidden_size=(24, 36, 48), intermediate_size=tuple(range(8, 41)))


@pytest.fixture
def ray():
    with cluster() as running:
        running.add()
        yield running


@pytest.fixture
def home(tmp_path, ray):
    settings = Settings(home=tmp_path / "home", ray_address=ray.address)
    return Home(settings, open_store(settings.database_url), environment=ray.environment)


def create(home, **changes):
    return home.create(
        max_parallel=2,
        comparisons=Comparisons(),
        rungs=Rungs(fractions=()),
        training=LONG,
        checkpoint_seconds=0.5,
        **changes,
    )


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pids(home, search_id):
    return {int(attempt.worker.rpartition(":")[2]) for attempt in home.store.attempts(search_id)}


def lost(home, search_id):
    """Return the numbers of the trials whose worker went away; nothing else may have gone wrong."""
    attempts = [attempt for attempt in home.store.attempts(search_id) if attempt.failure]
    assert {attempt.failure.kind for attempt in attempts} <= {FailureKind.WORKER_LOST}
    return [attempt.trial_number for attempt in attempts]


def has_worked(home, search_id, node):
    return any(node.has_run(pid) for pid in pids(home, search_id))


def test_nodes_share_the_trials_and_may_leave_and_join_on_the_way(home, ray):
    """The search has trials to hand out until the node that joins has begun one, however slowly that comes."""
    leaving = ray.add()
    search_id = create(home, num_trials=200, axes=WIDE)
    process = home.start(search_id)
    wait_for(lambda: has_worked(home, search_id, ray.nodes[0]) and has_worked(home, search_id, leaving))
    leaving.leave()
    joining = ray.add()
    wait_for(lambda: has_worked(home, search_id, joining) and lost(home, search_id))
    (again,) = lost(home, search_id)
    wait_for(lambda: home.store.trials(search_id)[again].state is TrialState.COMPLETED)
    SearchService(home.store, artifact_root=home.settings.artifact_root).control.cancel(search_id)
    assert process.wait(PATIENCE_SECONDS) == 0, home.log
    assert home.store.get_search(search_id).state is SearchState.CANCELLED
    states = {trial.state for trial in home.store.trials(search_id)}
    assert states == {TrialState.COMPLETED, TrialState.CANCELLED}
    brought = list((home.settings.artifact_root / "parents").glob("local--parent--*"))
    assert len(brought) == 1, "the user's directory is where other nodes see it"


@pytest.fixture
def other_version(tmp_path):
    """An environment in which this project is another version of itself."""
    packages = Path(nas.__file__).parents[1]
    for name in ("minitron", "nas", "workers"):
        shutil.copytree(packages / name, tmp_path / "other" / name)
    with (tmp_path / "other" / "nas" / "clock.py").open("a") as file:
        file.write("# changed\n")
    return {"PYTHONPATH": str(tmp_path / "other")}


def test_nodes_with_another_version_are_told_of_and_not_used(home, ray, other_version):
    """One is there when the search begins, one joins while it runs."""
    first = ray.add(environment=other_version)
    search_id = create(home, num_trials=8)
    process = home.start(search_id)
    wait_for(lambda: pids(home, search_id))
    second = ray.add(environment=other_version)
    assert process.wait(PATIENCE_SECONDS) == 0, home.log
    assert {trial.state for trial in home.store.trials(search_id)} == {TrialState.COMPLETED}
    completed = [attempt for attempt in home.store.attempts(search_id) if attempt.failure is None]
    for attempt in completed:
        assert ray.nodes[0].has_run(int(attempt.worker.rpartition(":")[2]))
    assert "not used: node node-1" in home.log
    assert "code: found another version of this project" in home.log
    stages = [
        event.data["progress"]["stage"]
        for event in home.store.events(search_id=search_id)
        if event.kind == "search" and event.data["progress"]
    ]
    assert any(stage.startswith("not used: node node-1") for stage in stages)
    assert has_worked(home, search_id, second), "it is asked when its first trial begins there"
    assert "node node-2" in home.log
    assert not has_worked(home, search_id, first)


def test_where_no_node_is_fit_the_search_fails_at_once_and_says_why(tmp_path, other_version):
    with cluster() as ray:
        ray.add(environment=other_version)
        settings = Settings(home=tmp_path / "home", ray_address=ray.address)
        home = Home(settings, open_store(settings.database_url), environment=ray.environment)
        search_id = create(home)
        assert home.start(search_id).wait(PATIENCE_SECONDS) == 1
        failure = home.store.get_search(search_id).failure
        assert "found no node that may run trials: node node-0" in failure.message
        assert home.store.trials(search_id) == []


def test_an_address_where_no_cluster_is_says_what_to_set(tmp_path):
    for address, reason in (
        ("127.0.0.1:9", "no cluster answers at"),
        ("ray://127.0.0.1:9", "a Ray Client address"),
    ):
        settings = Settings(home=tmp_path / "home", ray_address=address)
        home = Home(settings, open_store(settings.database_url))
        search_id = create(home)
        assert home.start(search_id).wait(PATIENCE_SECONDS) == 1
        failure = home.store.get_search(search_id).failure
        assert "NAS_RAY_ADDRESS: " in failure.message
        assert reason in failure.message
