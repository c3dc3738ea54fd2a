"""Who may do what, over the server as users start it: every operation that it describes, as everybody."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.authorisation import RULES
from nas.accounts import LOCAL, Member, Role
from nas.cli_options import connected
from nas.client import Client, pages
from nas.connection import ClientError
from nas.layout import attempt_log
from nas.logs import log_path
from nas.search import SearchState
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.unit.api.answers import events_in, problem_in
from tests.unit.api.people import crowd
from tests.unit.api.seeded import DEMO, demo_spec
from tests.unit.api.server import running

PUBLIC = {"get_health", "get_readiness"}
OF_EVERYBODY = {
    "get_metrics", "whoami", "list_searches", "stream_all_events", "list_history", "list_parents", "export_history",
}  # fmt: skip
READS = {
    "get_search", "get_log", "download_winner", "list_trials", "stream_events", "list_members", "get_front",
    "get_series", "get_priors", "get_report", "export_search", "compare_searches", "read_search_log", "read_attempt_log",
}  # fmt: skip
CHANGES = {
    "edit_search", "clone_search", "cancel_search", "pause_search", "resume_search", "kill_search", "extend_search",
    "enqueue_architecture", "stop_trial", "promote_trial",
}  # fmt: skip
ORDERS_WITH_BODY = {"extend_search", "enqueue_architecture", "promote_trial"}
SUBMITS = {"create_search"}
MANAGES = {"put_member", "remove_member", "list_tokens", "create_token", "revoke_token"}
ENDLESS = {"stream_all_events", "stream_events"}
DOCUMENT = create_app(SearchService(InMemoryStore(), artifact_root=".")).openapi()
OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
SEARCHES = "/api/v1/searches"
JSON, YAML = {"Content-Type": "application/json"}, {"Content-Type": "application/yaml"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("team")) as server:
        search_id = server.id("succeeded")
        for log in (
            attempt_log(server.artifact_root, search_id, 0, 1),
            log_path(server.home / "logs", search_id),
        ):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("began\n", encoding="utf-8")
        yield server


@pytest.fixture(scope="module")
def team(server):
    return crowd(server.store)


def request_of(operation: str, server, team, **places: str) -> dict:
    """Return a request that somebody who may do it would be served."""
    method, path = OPERATIONS[operation]
    usual = {
        "search_id": server.id("failed" if operation == "get_log" else "succeeded"),
        "workspace": "default",
    }
    usual |= {"name": "vic", "token_id": team.ids["off"], "trial_number": "0", "attempt_number": "1"}
    headers, content = {}, None
    if operation == "create_search":
        headers, content = YAML, DEMO.read_bytes()
    elif operation == "compare_searches":
        path += "?search={search_id}"
    elif operation in {"put_member", "create_token", "edit_search", *ORDERS_WITH_BODY}:
        body = {
            "promote_trial": {"training": {"num_tokens": 4096}},
            "extend_search": {"num_trials": 20},
            "enqueue_architecture": {"num_layers": 5},
            "put_member": {"role": "viewer"},
            "create_token": {"member": "vic", "workspaces": ["default"]},
            "edit_search": {"tags": ["seen"]},
        }[operation]
        headers, content = JSON, json.dumps(body)
    return {"method": method, "url": path.format(**usual | places), "headers": headers, "content": content}


@contextmanager
def asked(http: httpx.Client, request: dict):
    """Give the answer to a request; one that has no end is left after its beginning."""
    with http.stream(**request) as answer:
        if not answer.headers["content-type"].startswith("text/event-stream"):
            answer.read()
        yield answer


def test_every_operation_has_a_rule_and_every_rule_an_operation():
    assert OPERATIONS.keys() == RULES.keys()
    assert OPERATIONS.keys() == PUBLIC | OF_EVERYBODY | READS | CHANGES | SUBMITS | MANAGES


def test_what_no_rule_is_for_is_refused(fresh, monkeypatch):
    monkeypatch.setattr("api.authorisation.RULES", {})
    problem_in(fresh.http.get(SEARCHES), 403, "forbidden")


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
class TestEveryOperation:
    def test_as_nobody(self, server, team, operation):
        request = request_of(operation, server, team)
        forged = f"nas_{team.ids['ada']}_{'A' * 43}"
        strangers = ["", f"Bearer {forged}", "Bearer nas_", f"Basic {team.secrets['ada']}"]
        strangers += [f"Bearer {team.secrets[name]}" for name in ("old", "off")]
        for authorization in strangers:
            given = {"Authorization": authorization} if authorization else {}
            with httpx.Client(base_url=server.address) as http:
                answer = http.request(**{**request, "headers": request["headers"] | given})
            if operation in PUBLIC:
                assert answer.status_code == 200
                continue
            problem = problem_in(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert not any(secret in json.dumps(problem) for secret in team.secrets.values())

    def test_as_a_viewer(self, server, team, operation):
        with (
            team.client(server.address, "vic") as http,
            asked(http, request_of(operation, server, team)) as answer,
        ):
            if operation in PUBLIC | OF_EVERYBODY | READS:
                assert answer.status_code == 200
            else:
                problem_in(answer, 403, "forbidden")

    def test_as_a_contributor_of_another_workspace(self, server, team, operation):
        """What is there for others answers word for word as what is not there at all."""
        with team.client(server.address, "eve") as http:
            with asked(http, request_of(operation, server, team)) as answer:
                if operation in PUBLIC | OF_EVERYBODY | SUBMITS:
                    assert answer.status_code in {200, 201}
                    return
                if operation in MANAGES - {"put_member", "remove_member"}:
                    problem_in(answer, 403, "forbidden")
                    return
                found = problem_in(answer, 404, "not_found")
            none = {"search_id": "none", "workspace": "none"}
            with asked(http, request_of(operation, server, team, **none)) as answer:
                other = problem_in(answer, 404, "not_found")
        there = {"none": server.id("failed" if operation == "get_log" else "succeeded")}
        is_of_search = "search_id" in OPERATIONS[operation][1] or operation == "compare_searches"
        there = there if is_of_search else {"none": "default"}
        detail = other["detail"].replace("none", there["none"])
        assert found["detail"] == detail
        assert found.keys() == other.keys()
        assert found["title"] == other["title"]


@pytest.mark.parametrize("operation", sorted(MANAGES))
class TestManaging:
    def test_as_a_contributor(self, server, team, operation):
        with team.client(server.address, "con") as http:
            problem_in(http.request(**request_of(operation, server, team)), 403, "forbidden")

    def test_as_an_admin_of_another_workspace(self, server, team, operation):
        with team.client(server.address, "zed") as http:
            answer = http.request(**request_of(operation, server, team))
        if operation == "list_tokens":
            assert {each["member"] for each in answer.json()["tokens"]} <= {"eve", "zed", "two"}
        else:
            problem_in(answer, 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/", "/launch", "/docs", "/openapi.json", "/nowhere", "/_nicegui/x", "/api/v1/x"]
)
def test_nothing_else_answers_nobody_either(server, team, path):
    problem_in(httpx.get(server.address + path), 401, "unauthenticated")


def submitted(http, **parameters):
    answer = http.post(SEARCHES, content=DEMO.read_bytes(), headers=YAML, params=parameters)
    assert answer.status_code == 201, answer.text
    return answer.json()


class TestWorkspaces:
    def test_a_search_belongs_to_the_only_workspace_of_who_submits_it_and_to_them(self, server, team):
        with team.client(server.address, "eve") as http:
            made = submitted(http)
            assert (made["workspace"], made["owner"]) == ("vision", "eve")
            assert submitted(http, owner="Team V")["owner"] == "Team V"
            listed = http.get(SEARCHES).json()["searches"]
            assert {each["workspace"] for each in listed} == {"vision"}
            assert http.get(SEARCHES, params={"workspace": "default"}).json()["searches"] == []
        with team.client(server.address, "con") as http:
            problem_in(http.get(f"{SEARCHES}/{made['id']}"), 404, "not_found")
            assert {each["workspace"] for each in http.get(SEARCHES).json()["searches"]} == {"default"}

    def test_who_is_in_several_says_which_or_means_the_default(self, server, team):
        for workspace in ("speech", "vision"):
            team.people.add_workspace(workspace)
            team.people.put_member(LOCAL, Member(workspace=workspace, name="two", role=Role.CONTRIBUTOR))
        _, secret = team.people.create_token(LOCAL, "two", ["speech", "vision"])
        with httpx.Client(
            base_url=server.address, headers={"Authorization": f"Bearer {secret.text}"}
        ) as http:
            for params in ({}, {"workspace": "default"}, {"workspace": "nowhere"}):
                answer = http.post(SEARCHES, content=DEMO.read_bytes(), headers=YAML, params=params)
                reason = problem_in(answer, 422, "invalid_request")["errors"][0]
                assert (reason["field"], reason["reason"].split(": ")[-1]) == ("workspace", "speech, vision")
            made = submitted(http, workspace="speech")
            assert made["workspace"] == "speech"
            clone = http.post(f"{SEARCHES}/{made['id']}:clone", params={"workspace": "vision"}).json()
            assert (clone["workspace"], clone["cloned_from"]) == ("vision", made["id"])
            assert http.post(f"{SEARCHES}/{made['id']}:clone").json()["workspace"] == "speech"

    def test_a_viewer_copies_nothing_into_a_workspace_that_they_only_read(self, server, team):
        with team.client(server.address, "vic") as http:
            for body in ({}, {"content": b"num_trials: [", "headers": YAML}):  # which is not even read
                answer = http.post(f"{SEARCHES}/{server.id('succeeded')}:clone", **body)
                problem_in(answer, 403, "forbidden")

    def test_keys_of_requests_are_each_persons_own(self, server, team):
        made = []
        for name in ("con", "ada", "con", "eve"):
            with team.client(server.address, name) as http:
                answer = http.post(
                    SEARCHES, content=DEMO.read_bytes(), headers=YAML | {"Idempotency-Key": "mine"}
                )
                made.append(answer.json()["id"])
        assert made[0] == made[2]
        assert len(set(made)) == 3

    def test_events_of_all_searches_are_those_of_ones_own(self, server, team):
        with team.client(server.address, "eve") as http:
            mine = submitted(http)["id"]
            text = ""
            with http.stream("GET", "/api/v1/events") as stream:
                for part in stream.iter_text():
                    text += part
                    if mine in text and text.endswith("\n\n"):
                        break
        workspaces = {server.store.get_search(event["search_id"]).workspace for event in events_in(text)}
        assert workspaces == {"vision"}

    def test_a_page_does_not_begin_after_what_is_not_seen(self, server, team):
        """A token of a page can be made by anybody: it says only after which search it begins."""
        with team.client(server.address, "con") as http:
            token = http.get(SEARCHES, params={"page_size": 1}).json()["next_page_token"]
        with team.client(server.address, "eve") as http:
            problem_in(http.get(SEARCHES, params={"page_token": token}), 404, "not_found")

    def test_an_edit_of_a_stale_version_tells_strangers_nothing(self, server, team):
        with team.client(server.address, "eve") as http:
            headers = JSON | {"If-Match": '"999"'}
            answer = http.patch(f"{SEARCHES}/{server.id('failed')}", content="{}", headers=headers)
            problem_in(answer, 404, "not_found")


class TestPeople:
    def test_whoami(self, server, team):
        with team.client(server.address, "con") as http:
            assert http.get("/api/v1/whoami").json() == {
                "name": "con", "is_local": False, "roles": {"default": "contributor"}, "token_id": team.ids["con"],
            }  # fmt: skip

    def test_without_accounts_everybody_there_is_local(self, fresh):
        told = fresh.http.get("/api/v1/whoami", headers={"Authorization": "Bearer whatever"}).json()
        assert told == {"name": "local", "is_local": True, "roles": {}, "token_id": None}

    def test_the_first_token_is_not_made_by_whoever_comes_first(self, fresh):
        fresh.http.put("/api/v1/workspaces/default/members/ann", json={"role": "admin"})
        answer = fresh.http.post("/api/v1/tokens", json={"member": "ann", "workspaces": ["default"]})
        assert "nas admin" in problem_in(answer, 409, "conflict")["detail"]

    def test_an_admin_lets_somebody_in_and_out(self, server, team):
        with team.client(server.address, "ada") as http:
            made = http.put("/api/v1/workspaces/default/members/new", json={"role": "viewer"})
            assert made.json() == {"workspace": "default", "name": "new", "role": "viewer"}
            token = http.post(
                "/api/v1/tokens", json={"member": "new", "workspaces": ["default"], "expires_in_days": 3}
            ).json()
            assert token["secret"].startswith(f"nas_{token['id']}_")
            listed = http.get("/api/v1/tokens").text
            assert token["id"] in listed
            assert token["secret"] not in listed
            assert team.ids["eve"] not in listed
            them = {"Authorization": f"Bearer {token['secret']}"}
            assert httpx.get(server.address + SEARCHES, headers=them).status_code == 200
            used = [each for each in http.get("/api/v1/tokens").json()["tokens"] if each["id"] == token["id"]]
            assert used[0]["last_used_at"]
            assert http.delete("/api/v1/workspaces/default/members/new").status_code == 204
            problem_in(httpx.get(server.address + SEARCHES, headers=them), 401, "unauthenticated")
            assert http.put("/api/v1/workspaces/default/members/new", json={"role": "viewer"}).is_success
            problem_in(httpx.get(server.address + SEARCHES, headers=them), 401, "unauthenticated")
            revoked = http.post(f"/api/v1/tokens/{token['id']}:revoke").json()
            assert revoked["revoked_at"]

    def test_an_admin_takes_a_token_out_of_their_own_workspaces_alone(self, server, team):
        for workspace in ("default", "vision"):
            team.people.put_member(LOCAL, Member(workspace=workspace, name="carl", role=Role.CONTRIBUTOR))
        made, secret = team.people.create_token(LOCAL, "carl", ["default", "vision"])
        revoke = f"/api/v1/tokens/{made.id}:revoke"
        them = {"Authorization": f"Bearer {secret.text}"}
        with team.client(server.address, "ada") as ada, team.client(server.address, "zed") as zed:
            for http, workspace in ((ada, "default"), (zed, "vision")):
                listed = {each["id"]: each for each in http.get("/api/v1/tokens").json()["tokens"]}
                assert listed[made.id]["workspaces"] == [workspace]
            left = ada.post(revoke).json()
            assert (left["workspaces"], left["revoked_at"]) == ([], None)
            problem_in(ada.post(revoke), 404, "not_found")
            roles = httpx.get(server.address + "/api/v1/whoami", headers=them).json()["roles"]
            assert roles == {"vision": "contributor"}
            assert zed.post(revoke).json()["revoked_at"]
        problem_in(httpx.get(server.address + SEARCHES, headers=them), 401, "unauthenticated")

    def test_the_last_admin_stays(self, server, team):
        with team.client(server.address, "ada") as http:
            for answer in (
                http.delete("/api/v1/workspaces/default/members/ada"),
                http.put("/api/v1/workspaces/default/members/ada", json={"role": "viewer"}),
            ):
                problem_in(answer, 409, "last_admin")

    @pytest.mark.parametrize(
        "body",
        [
            {"member": "nobody", "workspaces": ["default"]},
            {"member": "eve", "workspaces": ["vision"]},
            {"member": "ada", "workspaces": ["default", "vision"]},
        ],
        ids=["no member", "another's", "another's too"],
    )
    def test_an_admin_hands_out_nothing_of_another_workspace(self, server, team, body):
        with team.client(server.address, "ada") as http:
            problem_in(http.post("/api/v1/tokens", json=body), 404, "not_found")

    def test_a_token_is_worth_nothing_where_it_was_not_made_for(self, server, team):
        """Whoever knows a person's token of one workspace gains nothing when another lets that person in."""
        team.people.put_member(LOCAL, Member(workspace="vision", name="con", role=Role.ADMIN))
        with team.client(server.address, "con") as http:
            assert http.get("/api/v1/whoami").json()["roles"] == {"default": "contributor"}

    def test_a_stream_ends_with_the_token_that_opened_it(self, server, team):
        _, secret = team.people.create_token(LOCAL, "vic", ["default"])
        with httpx.stream(
            "GET", f"{server.address}/api/v1/events?after=now", timeout=30,
            headers={"Authorization": f"Bearer {secret.text}"},
        ) as stream:  # fmt: skip
            parts = stream.iter_text()
            team.people.revoke_token(LOCAL, secret.token_id)
            service = SearchService(server.store, artifact_root=server.artifact_root)
            told, seen = "", set()
            for number in range(40):
                seen.add(service.create(replace(demo_spec(), name=f"after {number}")).id)
                try:
                    told += next(parts)
                except StopIteration:
                    break
            else:
                pytest.fail("it goes on")


class TestClient:
    def test_it_shows_its_token_and_manages_people(self, server, team):
        with Client(server.address, team.secrets["ada"]) as client:
            assert client.whoami().roles == {"default": Role.ADMIN}
            client.put_member("default", "mia", Role.VIEWER)
            assert "mia" in [each.name for each in client.list_members("default").members]
            token = client.create_token("mia", ["default"], name="laptop", expires_in_days=None)
            assert token.id in [each.id for page in pages(client.list_tokens) for each in page.tokens]
            assert token.secret not in repr(token)
            with Client(server.address, token.secret) as other:
                assert other.get_search(server.id("succeeded")).workspace == "default"
            assert client.revoke_token(token.id).revoked_at
            client.remove_member("default", "mia")

    @pytest.mark.parametrize("token", [None, "nas_nonsense"])
    def test_without_it_is_told_in_one_line_what_to_set(self, server, team, token):
        with Client(server.address, token) as client, pytest.raises(ClientError) as refused:
            client.list_searches()
        assert str(refused.value).startswith("NAS_TOKEN: the server wants a token that holds: ")
        assert "\n" not in str(refused.value)
        assert "nonsense" not in str(refused.value)

    def test_a_token_that_cannot_be_sent_is_not_repeated(self, server):
        with pytest.raises(ClientError) as refused:
            Client(server.address, "nas_é\n")
        assert "é" not in str(refused.value)

    def test_commands_take_it_from_the_environment(self, server, team, monkeypatch):
        monkeypatch.setenv("NAS_TOKEN", team.secrets["vic"])
        with connected(server.address) as client:
            assert client.whoami().name == "vic"

    @pytest.mark.parametrize(("variables", "owner"), [({}, "con"), ({"NAS_OWNER": "Team"}, "Team")])
    def test_a_search_is_whose_the_token_is_unless_somebody_is_named(self, server, team, variables, owner):
        environment = os.environ | {
            "NAS_TOKEN": team.secrets["con"],
            "NAS_SERVER_URL": server.address,
            **variables,
        }
        command = [Path(sys.executable).with_name("nas"), "submit", str(DEMO), "--json"]
        made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert json.loads(made)["owner"] == owner


def test_what_viewers_see_stays_as_it_was(server, team):
    """Nothing that was refused above was done all the same."""
    assert server.store.get_search(server.id("running")).state is SearchState.RUNNING
    assert server.store.get_search(server.id("succeeded")).tags == ()
    assert not server.store.get_search(server.id("running")).cancel_requested
