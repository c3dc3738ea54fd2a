"""The commands for searches under way as users call them, and the client behind them, against a real server."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from api.app import create_app
from minitron.recipe import TrainingRecipe
from nas.axes import AXIS_NAMES
from nas.client import Client
from nas.connection import ClientError
from nas.layout import attempt_log
from nas.promotion import Promotion
from nas.search import SearchState
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.trial import TrialState
from tests.fakes import ManualClock
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, demo_spec

NAS = Path(sys.executable).with_name("nas")


class Served:
    """A server and what is behind it."""

    def __init__(self, address, store, service, root):
        self.address = address
        self.store = store
        self.service = service
        self.root = root


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    store = InMemoryStore()
    service = SearchService(store, artifact_root=root)
    with serving(create_app(service)) as address:
        yield Served(address, store, service, root)


@pytest.fixture
def search(served):
    return served.service.create(demo_spec())


@pytest.fixture
def client(served):
    with Client(served.address) as client:
        yield client


@pytest.fixture
def nas(served, tmp_path):
    def call(*arguments, code=0):
        environment = os.environ | {
            "NAS_SERVER_URL": served.address,
            "NAS_HOME": str(tmp_path),
            "NAS_OWNER": "ann",
        }
        ended = subprocess.run(
            [NAS, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    return call


def sizes_of(spec):
    largest = search_space(spec).largest
    return {name: getattr(largest, name) for name in AXIS_NAMES}


def test_a_search_is_paused_resumed_and_killed(served, search, nas):
    assert nas("pause", search.id) == "paused\n"
    assert served.store.get_search(search.id).state is SearchState.PAUSED
    assert f"waits: paused, until somebody resumes it: nas resume {search.id}" in nas("show", search.id)
    told = json.loads(nas("resume", search.id, "--json"))
    assert (told["id"], told["state"], told["waiting"]["kind"]) == (search.id, "QUEUED", "queue")
    assert nas("kill", search.id) == "killed\n"
    assert "is CANCELLED and cannot be paused" in nas("pause", search.id, code=1)
    orders = [event.data for event in served.store.events(search_id=search.id) if event.kind == "order"]
    assert {order["by"] for order in orders} == {"ann"}


def test_a_search_is_cancelled_and_it_is_told_who_wanted_that(served, nas, client):
    by_command, by_client = (served.service.create(demo_spec(name=name)) for name in ("one", "two"))
    assert nas("cancel", by_command.id) == "cancelled\n"
    assert client.cancel_search(by_client.id, by="bob").state is SearchState.CANCELLED
    for search, by in ((by_command, "ann"), (by_client, "bob")):
        (told,) = (each.data for each in served.store.events(search_id=search.id) if each.kind == "order")
        assert told == {"order": "cancel", "by": by}


def test_limits_are_changed_and_architectures_enqueued(served, search, nas):
    assert nas("extend", search.id, "--num-trials", "20", "--max-parallel", "3") == "20 trials, 3 at a time\n"
    told = nas("extend", search.id, "--max-tokens", "90000000")
    assert told == "20 trials, 90,000,000 tokens, 3 at a time\n"
    assert "found 5, allowed: " in nas("extend", search.id, "--max-tokens", "5", code=2)
    assert "allowed: --num-trials, --max-tokens, --max-parallel" in nas("extend", search.id, code=2)
    assert "found 0, allowed: a whole number above 0" in nas("extend", search.id, "--num-trials", "0", code=2)
    assigned = [f"{name}={size}" for name, size in sizes_of(search.spec).items()]
    largest = search_space(search.spec).largest
    assert nas("enqueue", search.id, *assigned) == f"enqueued: {largest.name}\n"
    smallest = search_space(search.spec).smallest
    others = [f"{name}={getattr(smallest, name)}" for name in AXIS_NAMES]
    assert nas("enqueue", search.id, *others) == f"enqueued: {smallest.name}\n"
    assert nas("enqueue", search.id, *assigned) == f"enqueued: {largest.name}\n"
    enqueued = served.store.get_search(search.id).orders.enqueued
    assert [each.architecture for each in enqueued] == [largest, smallest]
    assert "num_layers: found 99, allowed: 4, 5, 6; the nearest" in nas(
        "enqueue", search.id, "num_layers=99", code=2
    )
    assert "layers: unknown, allowed: num_layers" in nas("enqueue", search.id, "layers=9", code=2)


def test_the_client_says_the_same(served, search, client):
    assert client.pause_search(search.id, by="bob").state is SearchState.PAUSED
    found = client.enqueue_architecture(search.id, sizes_of(search.spec), by="bob")
    assert found.view == served.service.get(search.id)
    assert found.orders.enqueued[0].by == "bob"
    assert client.extend_search(search.id, max_parallel=9).spec_by_now.max_parallel == 9
    assert client.resume_search(search.id).waiting.position == served.store.queue(99).index(search.id) + 1
    with pytest.raises(ClientError) as caught:
        client.extend_search(search.id)
    assert (caught.value.status, caught.value.code) == (422, "invalid_order")
    assert client.kill_search(search.id).orders.is_killed


def test_a_trial_is_stopped_and_the_log_of_its_attempt_read(served, search, nas, client):
    Played(served.store, ManualClock(NOW), search.id).train(num_points=3)
    running = next(trial for trial in served.store.trials(search.id) if not trial.state.is_final)
    assert "is stopped, or will be" in nas("stop-trial", search.id, str(running.number))
    assert served.store.get_search(search.id).orders.stopped == (running.number,)
    assert "trial 99: not found" in nas("stop-trial", search.id, "99", code=2)
    path = attempt_log(served.root, search.id, running.number, 1)
    path.parent.mkdir(parents=True)
    lines = "".join(f"line {number} of a long log\n" for number in range(10_000))
    path.write_text(lines)
    log = partial(nas, "logs", search.id, "--trial", str(running.number))
    assert log() == log("--attempt", "1") == lines
    assert "attempt 7: not found" in log("--attempt", "7", code=2)
    numbers = [trial.number for trial in served.store.trials(search.id)]
    told = nas("logs", search.id, "--trial", "99", code=2)
    assert f"trial: found 99, allowed: 0 to {max(numbers)}" in told
    assert "found without --trial" in nas("logs", search.id, "--attempt", "1", code=2)
    assert client.read_attempt_log(search.id, running.number, 1, offset=7, limit=3).text == "of "
    with pytest.raises(ClientError, match="log"):
        client.read_search_log(search.id)


def test_a_trial_is_promoted_for_longer_by_a_recipe_or_as_the_spec_says(served, nas, client, tmp_path):
    promotion = Promotion(training=TrainingRecipe(num_tokens=300_000))
    search = served.service.create(demo_spec(promotion=promotion))
    Played(served.store, ManualClock(NOW), search.id).train()
    done = [each.number for each in served.store.trials(search.id) if each.state is TrialState.COMPLETED]
    recipe = tmp_path / "longer.yaml"
    recipe.write_text("num_points: 2\ntraining: {num_tokens: 5, weight_decay: 0.5}\n", encoding="utf-8")
    assert nas("promote", search.id, str(done[0])).startswith(f"trial {done[0]} is promoted: ")
    told = json.loads(
        nas("promote", search.id, str(done[1]), "--tokens", "2e5", "--recipe", str(recipe), "--json")
    )
    assert told["id"] == search.id
    client.promote_trial(search.id, done[2], {"start": "pruned"}, by="bob")
    first, second, third = served.store.get_search(search.id).orders.promoted
    assert (first.trial_number, first.promotion, first.by) == (done[0], promotion, "ann")
    assert (second.trial_number, second.promotion.num_points) == (done[1], 2)
    assert second.promotion.training == replace(promotion.training, num_tokens=200_000, weight_decay=0.5)
    assert (third.promotion, third.by) == (replace(promotion, start="pruned"), "bob")
    refused = nas("promote", search.id, str(done[0]), "--tokens", "many", code=2)
    assert 'promotion.training.num_tokens: found "many", allowed: a whole number' in refused
    missing = nas("promote", search.id, str(done[0]), "--recipe", str(tmp_path / "none.yaml"), code=2)
    assert "none.yaml: cannot be read" in missing


def test_a_promotion_that_was_done_is_not_said_to_come(served, nas):
    search = served.service.create(
        demo_spec(promotion=Promotion(training=TrainingRecipe(num_tokens=300_000)))
    )
    Played(served.store, ManualClock(NOW), search.id).train().promote().move(SearchState.SUCCEEDED)
    number = next(each.promoted_from for each in served.store.trials(search.id) if each.promotion)
    assert f"trial {number} is promoted: that was done already" in nas("promote", search.id, str(number))
    assert served.store.get_search(search.id).state is SearchState.SUCCEEDED
