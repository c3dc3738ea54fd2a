"""Searches under way over real HTTP: orders, why they wait, and logs by ranges."""

from datetime import timedelta

import pytest

from minitron.recipe import TrainingRecipe
from nas.axes import AXIS_NAMES
from nas.layout import attempt_log
from nas.promotion import Promotion
from nas.search import SearchState
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import NOW, Played, demo_spec


@pytest.fixture
def search(fresh):
    """A queued search."""
    return fresh.service.create(demo_spec())


@pytest.fixture
def post(fresh):
    def call(path, **options):
        return fresh.http.post(f"/api/v1/searches/{path}", **options)

    return call


def sizes_of(architecture):
    return {name: getattr(architecture, name) for name in AXIS_NAMES}


def test_a_queued_search_waits_and_is_paused_resumed_and_killed(fresh, search, post):
    found = fresh.http.get(f"/api/v1/searches/{search.id}").json()
    assert (found["waiting"]["kind"], found["waiting"]["position"]) == ("queue", 1)
    paused = post(f"{search.id}:pause", params={"by": "ann"}).json()
    assert (paused["state"], paused["waiting"]["kind"], paused["orders"]["is_paused"]) == (
        "PAUSED",
        "paused",
        True,
    )
    assert fresh.http.get("/api/v1/searches", params={"state": "PAUSED"}).json()["searches"] == [paused]
    assert post(f"{search.id}:resume").json()["state"] == "QUEUED"
    killed = post(f"{search.id}:kill").json()
    assert (killed["state"], killed["waiting"]) == ("CANCELLED", None)
    assert post(f"{search.id}:kill").json() == killed
    problem = problem_in(post(f"{search.id}:resume"), 409, "conflict")
    assert problem["detail"] == f"search {search.id}: is CANCELLED and cannot be resumed"


def test_each_order_is_an_event_with_who_gave_it(fresh, search, post):
    post(f"{search.id}:extend", json={"num_trials": 20}, params={"by": "ann"})
    event = [each for each in fresh.store.events(search_id=search.id) if each.kind == "order"][-1]
    assert event.data == {
        "order": "extend",
        "by": "ann",
        "num_trials": 20,
        "max_tokens": None,
        "max_parallel": None,
    }
    for by in ("a" * 101, "two\nlines", "nul\0"):
        problem_in(post(f"{search.id}:pause", params={"by": by}), 422, "invalid_request")


def test_limits_change_beside_the_spec(fresh, search, post):
    extended = post(f"{search.id}:extend", json={"num_trials": 20, "max_parallel": 3}).json()
    assert (extended["orders"]["num_trials"], extended["orders"]["max_parallel"]) == (20, 3)
    assert extended["spec"]["num_trials"] == 12
    assert extended["tokens_total"] > fresh.service.create(demo_spec()).spec.num_trials
    needed = extended["spec"]["training"]["num_tokens"]
    limited = post(f"{search.id}:extend", json={"max_tokens": 2 * needed}).json()
    assert (limited["orders"]["max_tokens"], limited["spec"]["max_tokens"]) == (2 * needed, None)
    assert limited["tokens_total"] < extended["tokens_total"]
    problem = problem_in(post(f"{search.id}:extend", json={"max_tokens": 9}), 422, "invalid_order")
    assert problem["errors"][0]["field"] == "max_tokens"
    problem = problem_in(
        post(f"{search.id}:extend", json={"training": {"num_tokens": 9}}), 422, "invalid_order"
    )
    assert "nas clone ID" in problem["errors"][0]["reason"]
    assert problem["errors"][0]["field"] == "training"


JSON = "application/json"
REFUSED = {
    "empty": (b"", JSON, 422, "invalid_order"),
    "nothing": (b"{}", JSON, 422, "invalid_order"),
    "cut off": (b"[", JSON, 422, "invalid_order"),
    "text": (b'{"num_trials": "5"}', JSON, 422, "invalid_order"),
    "infinite": (b'{"num_trials": 1e400}', JSON, 422, "invalid_order"),
    "no UTF-8": (b"\xff", JSON, 400, "malformed_body"),
    "no JSON": (b'{"num_trials": 5}', "text/plain", 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_bodies_that_are_none_are_refused(search, post, refused):
    body, media_type, status, code = refused
    for verb in ("extend", "enqueue"):
        answer = post(f"{search.id}:{verb}", content=body, headers={"Content-Type": media_type})
        problem_in(answer, status, code)


def test_an_architecture_is_enqueued_once(search, post):
    wanted = search_space(search.spec).largest
    found = post(f"{search.id}:enqueue", json=sizes_of(wanted), params={"by": "ann"}).json()
    (enqueued,) = found["orders"]["enqueued"]
    assert (enqueued["architecture"]["name"], enqueued["by"]) == (wanted.name, "ann")
    again = post(f"{search.id}:enqueue", json=sizes_of(wanted), params={"by": "bob"})
    assert (again.status_code, again.json()["orders"]) == (200, found["orders"])
    problem = problem_in(post(f"{search.id}:enqueue", json={"num_layers": 99}), 422, "invalid_order")
    assert problem["errors"][0]["field"] == "num_layers"
    assert "; the nearest that fits: num_layers 6" in problem["errors"][0]["reason"]


def test_a_running_search_pauses_its_trials_wait_at_a_rung_and_one_is_stopped(fresh, search, post):
    played = Played(fresh.store, ManualClock(NOW, step=timedelta(seconds=1)), search.id).train(num_points=30)
    trials = fresh.http.get(f"/api/v1/searches/{search.id}/trials").json()["trials"]
    waiting = [trial for trial in trials if trial["state"] == "WAITING"]
    assert waiting
    assert all(trial["waiting"]["kind"] in {"rung", "place"} for trial in waiting)
    assert all(trial["waiting"] is None for trial in trials if trial["state"] != "WAITING")
    assert all(trial["enqueued_by"] is None for trial in trials)
    number = waiting[0]["number"]
    assert post(f"{search.id}/trials/{number}:stop").json()["orders"]["stopped"] == [number]
    asked = post(f"{search.id}:pause").json()
    assert (asked["state"], asked["orders"]["is_paused"]) == ("RUNNING", True)
    problem_in(post(f"{search.id}/trials/999:stop"), 404, "not_found")
    problem_in(post(f"{search.id}/trials/-1:stop"), 422, "invalid_request")
    assert played.search.state is SearchState.RUNNING


@pytest.mark.parametrize("verb", ["pause", "resume", "kill"])
def test_unknown_searches_are_not_found(post, verb):
    problem_in(post(f"nope:{verb}"), 404, "not_found")


def test_logs_are_read_by_ranges(fresh, search):
    Played(fresh.store, ManualClock(NOW), search.id).train(num_points=3)
    path = attempt_log(fresh.artifact_root, search.id, 0, 1)
    path.parent.mkdir(parents=True)
    path.write_text("begun\nloss 3.1\n")
    address = f"/api/v1/searches/{search.id}/trials/0/attempts"
    first = fresh.http.get(f"{address}/1/log", params={"limit": 8}).json()
    assert first == {"text": "begun\n", "offset": 0, "next_offset": 6, "total_bytes": 15}
    rest = fresh.http.get(f"{address}/1/log", params={"offset": first["next_offset"]}).json()
    assert (rest["text"], rest["next_offset"]) == ("loss 3.1\n", 15)
    problem_in(fresh.http.get(f"{address}/9/log"), 404, "not_found")
    problem_in(fresh.http.get(f"{address}/1/log", params={"limit": 0}), 422, "invalid_request")
    problem_in(fresh.http.get(f"/api/v1/searches/{search.id}/log"), 404, "log_unavailable")


def test_the_log_of_a_search_is_read_by_ranges(tmp_path):
    service = SearchService(InMemoryStore(), artifact_root=tmp_path, logs=tmp_path)
    search = service.create(demo_spec())
    (tmp_path / f"{search.id}.log").write_text("one\ntwo\n")
    assert service.log_ranges.of_search(search.id, offset=4).text == "two\n"


LONGER = {"training": {"num_tokens": 200_000}}


@pytest.fixture
def done(fresh):
    """A search that has ended, with a completed trial of its own."""
    made = fresh.service.create(demo_spec())
    Played(fresh.store, ManualClock(NOW, step=timedelta(seconds=1)), made.id).train().succeed(
        fresh.artifact_root
    )
    return fresh.store.get_search(made.id)


def test_a_trial_of_a_search_that_is_over_is_promoted_once(fresh, done, post):
    number = done.winner.trial_number
    found = post(f"{done.id}/trials/{number}:promote", json=LONGER, params={"by": "ann"}).json()
    assert (found["state"], found["ended_as"]) == ("QUEUED", "SUCCEEDED")
    (promoted,) = found["orders"]["promoted"]
    assert (promoted["trial_number"], promoted["by"], promoted["repeats"]) == (number, "ann", None)
    training = promoted["promotion"]["training"]
    assert training == {**found["spec"]["training"], **LONGER["training"]}
    again = post(f"{done.id}/trials/{number}:promote", json=LONGER, params={"by": "bob"})
    assert (again.status_code, again.json()["orders"]) == (200, found["orders"])
    event = [each for each in fresh.store.events(search_id=done.id) if each.kind == "order"][-1]
    assert (event.data["order"], event.data["trial_number"], event.data["by"]) == ("promote", number, "ann")
    assert event.trial_number == number


def test_what_the_spec_says_of_promotions_is_changed_or_left(fresh, post):
    promotion = Promotion(training=TrainingRecipe(num_tokens=300_000, weight_decay=0.5), num_points=2)
    made = fresh.service.create(demo_spec(promotion=promotion))
    played = Played(fresh.store, ManualClock(NOW, step=timedelta(seconds=1)), made.id).train()
    numbers = [trial.number for trial in fresh.store.trials(made.id) if trial.state == "COMPLETED"][:2]
    plain = post(f"{made.id}/trials/{numbers[0]}:promote").json()
    changed = post(f"{made.id}/trials/{numbers[1]}:promote", json=LONGER).json()
    whole = changed["spec"]["promotion"]
    assert [each["promotion"] for each in changed["orders"]["promoted"]] == [
        whole,
        {**whole, "training": whole["training"] | LONGER["training"]},
    ]
    assert plain["state"] == changed["state"] == played.search.state


REFUSED_PROMOTIONS = {
    "nothing": ({}, "promotion"),
    "no tokens": ({"num_points": 2}, "promotion.training.num_tokens"),
    "a list": ([], "promotion"),
    "no number": ({"training": {"num_tokens": "long"}}, "promotion.training.num_tokens"),
    "no mapping": ({"training": 5}, "promotion.training"),
    "unknown": ({**LONGER, "epochs": 2}, "promotion.epochs"),
    "one shard": ({**LONGER, "num_shards": 1}, "promotion.num_shards"),
    "more shards than blocks": ({**LONGER, "num_shards": 999}, "promotion.num_shards"),
    "less than a step": ({"training": {"num_tokens": 1}}, "promotion.training.num_tokens"),
}


@pytest.mark.parametrize("refused", REFUSED_PROMOTIONS.values(), ids=REFUSED_PROMOTIONS)
def test_promotions_that_make_no_sense_are_refused_with_their_field(fresh, done, post, refused):
    body, field = refused
    problem = problem_in(
        post(f"{done.id}/trials/{done.winner.trial_number}:promote", json=body), 422, "invalid_order"
    )
    assert field in {each["field"] for each in problem["errors"]}
    assert all("allowed" in each["reason"] for each in problem["errors"])
    assert fresh.store.get_search(done.id) == done


def test_what_is_not_done_or_not_there_is_not_promoted(fresh, done, search, post):
    Played(fresh.store, ManualClock(NOW, step=timedelta(seconds=1)), search.id).train(num_points=3)
    running = next(each.number for each in fresh.store.trials(search.id) if each.state == "RUNNING")
    problem = problem_in(post(f"{search.id}/trials/{running}:promote", json=LONGER), 409, "conflict")
    assert "is RUNNING and cannot be promoted" in problem["detail"]
    problem_in(post(f"{done.id}/trials/999:promote", json=LONGER), 404, "not_found")
    problem_in(post(f"{done.id}/trials/-1:promote", json=LONGER), 422, "invalid_request")
    problem_in(post(f"{done.id}/trials/0:promote", content=b"{}"), 415, "unsupported_media_type")
