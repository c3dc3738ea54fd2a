"""The REST interface over real HTTP."""

import io
import tarfile

import pytest
import yaml
from rich.console import Console

from api.guard import MAX_BODY_BYTES
from nas import wording
from nas.budget import Budget, MemoryBudget, WorkBudget
from nas.display import report
from nas.estimate import Estimate
from nas.search import Search
from nas.spec import load, load_spec, spec_to_json
from nas.trial import FailureKind
from tests import hub
from tests.fakes import ManualClock
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import DEMO, NOW, PARENT_LOSS, TRACEBACK, Played, demo_spec

YAML = {"Content-Type": "application/yaml"}


def test_a_search_says_what_its_files_take(fresh):
    search = fresh.service.create(demo_spec())
    path = fresh.artifact_root / "searches" / search.id / "trials" / "0" / "student"
    path.mkdir(parents=True)
    (path / "weights").write_bytes(bytes(123))
    assert fresh.http.get(f"/api/v1/searches/{search.id}").json()["disk_bytes"] == 123
    assert fresh.http.get("/api/v1/searches").json()["searches"][0]["disk_bytes"] is None


def test_what_a_budget_counts_is_told_of_plan_trials_and_in_words(fresh):
    memory = MemoryBudget(max_bytes=2_000_000, context=256)
    spec = demo_spec(budget=Budget(memory=memory, work=WorkBudget(max_flops=3_000_000, context=128)))
    planned = fresh.http.post("/api/v1/searches?validate_only=true", json=spec_to_json(spec)).json()
    assert set(planned["costs"]) == {"memory_bytes", "flops_per_token"}
    assert planned["costs"]["memory_bytes"]["most"] <= 2_000_000
    played = Played(fresh.store, ManualClock(NOW), fresh.service.create(spec).id).train()
    records = fresh.service.trials(played.id)
    trials = fresh.http.get(f"/api/v1/searches/{played.id}/trials").json()["trials"]
    assert [trial["costs"] for trial in trials] == [
        {
            "memory_bytes": record.trial.architecture.weight_bytes()
            + record.trial.architecture.kv_cache_bytes(batch=1, context=256),
            "flops_per_token": record.trial.architecture.flops_per_token(context=128),
        }
        for record in records
    ]
    view = fresh.service.get(played.id)
    written = io.StringIO()
    report(Console(file=written, width=200), view, records, fresh.service.comparison(view.search))
    told = written.getvalue()
    assert (
        "budget at most 2 MB of weights and cache (bfloat16, batch 1, context 256), at most 3 MFLOP" in told
    )
    assert "weights and cache" in told.splitlines()[2]
    assert told.count(wording.in_bytes(trials[view.best.number]["costs"]["memory_bytes"])) >= 2


class TestSubmit:
    def test_yaml_and_json_mean_the_same(self, fresh):
        as_yaml = fresh.http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML)
        as_json = fresh.http.post("/api/v1/searches", json=yaml.safe_load(DEMO.read_text(encoding="utf-8")))
        assert as_yaml.status_code == as_json.status_code == 201
        assert as_yaml.json()["spec"] == as_json.json()["spec"] == spec_to_json(load_spec(DEMO))

    def test_answer_is_the_stored_search_at_its_location(self, fresh):
        response = fresh.http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML)
        found = fresh.http.get(response.headers["location"]).json()
        assert found == response.json()
        assert found["state"] == "QUEUED"
        assert found["num_feasible"] > 100
        assert fresh.store.get_search(found["id"]).spec == load_spec(DEMO)

    def test_validate_only_says_what_it_would_cost_and_stores_nothing(self, fresh):
        response = fresh.http.post(
            "/api/v1/searches?validate_only=true&device_flops=1e9", content=DEMO.read_bytes(), headers=YAML
        )
        assert response.status_code == 200
        found = load(Estimate, response.json())
        assert found == fresh.service.plan(load_spec(DEMO), flops_per_second=1e9)
        assert response.json()["trial"]["memory"]["total"] == found.trial.memory.total
        assert fresh.store.list_searches() == []
        spec = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"budget": {"max_parameters": 10}}
        problem_in(fresh.http.post("/api/v1/searches?validate_only=true", json=spec), 422, "empty_space")

    @pytest.mark.parametrize("speed", ["inf", "nan", "0", "1e-300", "-1"])
    def test_a_speed_that_gives_no_hours(self, fresh, speed):
        response = fresh.http.post(
            f"/api/v1/searches?validate_only=true&device_flops={speed}",
            content=DEMO.read_bytes(),
            headers=YAML,
        )
        assert problem_in(response, 422, "invalid_request")["errors"][0]["field"] == "device_flops"

    def test_every_wrong_field_is_named(self, fresh):
        spec = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"num_trials": "many", "colour": "red"}
        problem = problem_in(fresh.http.post("/api/v1/searches", json=spec), 422, "invalid_spec")
        assert {"colour", "num_trials"} <= {error["field"] for error in problem["errors"]}
        assert all(error["reason"] for error in problem["errors"])

    def test_impossible_budget_says_how_near_the_space_comes(self, fresh):
        spec = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"budget": {"max_parameters": 10}}
        problem = problem_in(fresh.http.post("/api/v1/searches", json=spec), 422, "empty_space")
        assert problem["errors"][0]["field"] == "budget"

    def test_unknown_parent_is_named(self, fresh):
        spec = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"parent": "builtin:huge"}
        problem = problem_in(fresh.http.post("/api/v1/searches", json=spec), 422, "invalid_spec")
        assert problem["errors"][0]["field"] == "parent"

    def test_a_hub_that_is_down_is_worth_another_try(self, fresh, monkeypatch, tmp_path):
        spec = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | {"parent": "hub:org/tiny"}
        source = fresh.service.create(demo_spec())
        with hub.serving(hub.FakeHub()) as down, hub.asked_here(down, monkeypatch, tmp_path):
            down.is_down = True
            for answer in (
                fresh.http.post("/api/v1/searches", json=spec),
                fresh.http.post("/api/v1/searches?validate_only=true", json=spec),
                fresh.http.post(
                    f"/api/v1/searches/{source.id}:clone", json={"data": {"source": "hub:org/tiny"}}
                ),
            ):
                problem = problem_in(answer, 503, "hub_unavailable")
                assert "hub:org/tiny: http" in problem["detail"]
                assert int(answer.headers["retry-after"]) > 0
        assert fresh.store.list_searches() == [source]

    def test_text_that_is_no_spec(self, fresh):
        response = fresh.http.post("/api/v1/searches", content=b"{[", headers=YAML)
        assert problem_in(response, 422, "invalid_spec")["errors"][0]["field"] == "spec"

    def test_bytes_that_are_no_text(self, fresh):
        response = fresh.http.post("/api/v1/searches", content=b"\xff\xfe", headers=YAML)
        problem_in(response, 400, "malformed_body")

    @pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}])
    def test_other_media_types_and_none(self, fresh, headers):
        """What a browser may send across sites without asking is refused."""
        response = fresh.http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=headers)
        assert "application/yaml" in problem_in(response, 415, "unsupported_media_type")["detail"]

    def test_body_is_bounded_also_when_its_length_is_not_told(self, fresh):
        def endless():
            for _ in range(MAX_BODY_BYTES // 65_536 + 1):
                yield b"#" * 65_536

        response = fresh.http.post("/api/v1/searches", content=endless(), headers=YAML)
        problem_in(response, 413, "body_too_large")

    def test_a_refused_spec_stores_nothing(self, fresh):
        fresh.http.post("/api/v1/searches", json={})
        assert fresh.store.list_searches() == []


class TestRead:
    def test_list_is_newest_first_and_paged(self, seeded):
        everything = [search["id"] for search in seeded.http.get("/api/v1/searches").json()["searches"]]
        assert everything == [search.id for search in seeded.store.list_searches()]
        paged, token = [], ""
        while token is not None:
            page = seeded.http.get("/api/v1/searches", params={"page_size": 4, "page_token": token}).json()
            assert len(page["searches"]) <= 4
            paged += [search["id"] for search in page["searches"]]
            token = page["next_page_token"]
        assert paged == everything

    def test_list_by_state(self, seeded):
        found = seeded.http.get("/api/v1/searches?state=FAILED&state=RUNNING").json()["searches"]
        assert {search["state"] for search in found} == {"FAILED", "RUNNING"}

    @pytest.mark.parametrize("query", ["page_size=0", "order_by=best", "state=SLEEPING", "name=%00"])
    def test_parameters_out_of_range(self, seeded, query):
        problem = problem_in(seeded.http.get(f"/api/v1/searches?{query}"), 422, "invalid_request")
        assert problem["errors"][0]["field"].startswith(query.split("=", maxsplit=1)[0])

    def test_search_holds_all_that_is_stored(self, seeded):
        for name in seeded.played:
            found = seeded.http.get(f"/api/v1/searches/{seeded.id(name)}").json()
            assert load(Search, found) == seeded.store.get_search(seeded.id(name))

    def test_search_says_where_it_stands(self, seeded):
        found = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}").json()
        trials = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}/trials").json()["trials"]
        completed = [t for t in trials if t["role"] == "SEARCH" and t["state"] == "COMPLETED"]
        assert found["best_loss"] == min(t["measurement"]["loss"] for t in completed)
        assert found["winner"]["trial_number"] == found["best"]["number"]
        assert sum(found["counts"].values()) == len(trials)
        assert 0 < found["gap_closed"] < 1
        comparison = found["comparison"]
        assert comparison["winner_loss"] == found["best_loss"]
        assert comparison["parent_loss"] == PARENT_LOSS
        assert len(comparison["random_architectures"]) == 5
        assert len(comparison["random_indices"]) == 1
        teacher, finalist = found["evaluated"]
        assert (teacher["trial_number"], teacher["scores"][0]["value"]) == (None, 0.6125)
        assert finalist["trial_number"] == found["winner"]["trial_number"]

    def test_trials_come_with_points_attempts_and_sizes(self, seeded):
        trials = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}/trials").json()["trials"]
        records = seeded.service.trials(seeded.id("succeeded"))
        assert [trial["number"] for trial in trials] == list(range(len(records)))
        for trial, record in zip(trials, records, strict=True):
            assert trial["architecture"]["parameter_count"] == record.trial.architecture.parameter_count
            assert [p["loss"] for p in trial["points"]] == [p.loss for p in record.points]
            assert [a["worker"] for a in trial["attempts"]] == [a.worker for a in record.attempts]

    def test_a_workers_traceback_is_shown_in_trial_and_search(self, seeded):
        trials = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}/trials").json()["trials"]
        (failed,) = [trial for trial in trials if trial["state"] == "FAILED"]
        assert failed["failure"]["kind"] == FailureKind.ERROR
        assert failed["failure"]["traceback"] == TRACEBACK
        search = seeded.http.get(f"/api/v1/searches/{seeded.id('failed')}").json()
        assert search["failure"]["traceback"] == TRACEBACK

    @pytest.mark.parametrize("path", ["", "/trials", "/events", "/winner"])
    def test_unknown_search(self, seeded, path):
        assert (
            "nope" in problem_in(seeded.http.get(f"/api/v1/searches/nope{path}"), 404, "not_found")["detail"]
        )


class TestCancel:
    def test_a_queued_search_ends_at_once(self, fresh):
        queued = fresh.service.create(demo_spec())
        answer = fresh.http.post(f"/api/v1/searches/{queued.id}:cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")

    def test_a_running_search_is_asked_to_end_and_again_without_harm(self, fresh):
        played = Played(fresh.store, ManualClock(NOW), fresh.service.create(demo_spec()).id).train(
            num_points=2
        )
        for _ in range(2):
            answer = fresh.http.post(f"/api/v1/searches/{played.id}:cancel").json()
            assert (answer["state"], answer["cancel_requested"]) == ("RUNNING", True)

    def test_what_has_ended_cannot_be_cancelled(self, seeded):
        problem_in(seeded.http.post(f"/api/v1/searches/{seeded.id('succeeded')}:cancel"), 409, "conflict")

    def test_unknown_search(self, seeded):
        problem_in(seeded.http.post("/api/v1/searches/nope:cancel"), 404, "not_found")


class TestWinner:
    def test_archive_holds_the_checkpoint_byte_by_byte(self, seeded):
        search_id = seeded.id("succeeded")
        response = seeded.http.get(f"/api/v1/searches/{search_id}/winner")
        assert response.headers["content-type"] == "application/x-tar"
        assert int(response.headers["content-length"]) == len(response.content)
        directory = seeded.service.winner_directory(search_id)
        with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
            files = {member.name.split("/", 1)[1]: archive.extractfile(member).read() for member in archive}
            assert {member.name.split("/")[0] for member in archive} == {f"winner-{search_id}"}
        assert files == {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }

    def test_it_is_sent_in_pieces(self, seeded):
        with seeded.http.stream("GET", f"/api/v1/searches/{seeded.id('succeeded')}/winner") as response:
            sizes = [len(chunk) for chunk in response.iter_raw()]
        assert max(sizes) < 2_000_000 < sum(sizes)

    def test_no_winner_yet(self, seeded):
        response = seeded.http.get(f"/api/v1/searches/{seeded.id('running')}/winner")
        assert "RUNNING" in problem_in(response, 409, "conflict")["detail"]
