"""Serving a team: where a server may listen, and the link by which somebody looks while it runs."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from nas.accounts import LOCAL, Member, Role
from nas.people import People
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import open_store
from tests.unit.api.seeded import demo_spec
from tests.unit.api.test_sign_in import form_of

COMMAND = (sys.executable, "-m", "api", "--port", "0", "--page-only")


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings):
    store = open_store(settings.database_url)
    yield store
    store.close()


@pytest.fixture
def people(store):
    """An admin, and nobody else."""
    people = People(store.accounts)
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    people.create_token(LOCAL, "ann", ["default"])
    return people


@contextmanager
def served(settings, *options, **more):
    """Give a server and the lines that it begins with."""
    environment = os.environ | {"NAS_HOME": str(settings.home)} | more
    with subprocess.Popen(
        [*COMMAND, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout
        finally:
            process.kill()


def refusal(settings, *options):
    with served(settings, *options) as (process, _):
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    return told


def test_no_link_is_shared_where_everybody_may_everything(settings):
    assert "make the first with: nas admin token create" in refusal(settings, "--share", "default")


def test_no_link_leads_to_what_is_not_there(settings, people):
    assert "workspace nowhere: not found" in refusal(settings, "--share", "nowhere")
    assert [each.name for each in people.members(LOCAL, "default")] == ["ann"]


def test_another_address_is_served_once_there_is_an_admin(settings, store):
    people, options = People(store.accounts), ("--host", "0.0.0.0")
    assert "nas admin token create NAME --role admin" in refusal(settings, *options)
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.VIEWER))
    people.create_token(LOCAL, "ann", ["default"])
    assert "while there are no accounts" in refusal(settings, *options), "a viewer manages nobody"
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    with served(settings, *options) as (_, lines):
        address = lines.readline().split()[-1]
        assert httpx.get(f"{address}/api/v1/searches").status_code == 401
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_an_admin_whose_token_has_ended_manages_nobody(settings, store):
    people = People(store.accounts)
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    made, _ = people.create_token(LOCAL, "ann", ["default"], lifetime=timedelta(seconds=1))
    assert people.has_admin()
    people.revoke_token(LOCAL, made.id)
    assert not people.has_admin()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_link_lets_somebody_look_until_the_server_ends(settings, store, people, how):
    search = SearchService(store, artifact_root=settings.artifact_root).create(demo_spec())
    with served(settings, "--share", "default") as (process, lines):
        address = lines.readline().split()[-1]
        shared, _, fragment = lines.readline().split()[-1].partition("#token=")
        assert shared == f"{address}/sign-in"
        with httpx.Client(base_url=address, follow_redirects=True) as http:
            page = http.post("/sign-in", data=form_of(http.get("/sign-in")) | {"token": fragment})
            assert (page.status_code, page.url.path) == (200, "/")
            assert http.get("/api/v1/whoami").json()["roles"] == {"default": "viewer"}
            assert http.get(f"/api/v1/searches/{search.id}").status_code == 200
            assert http.post(f"/api/v1/searches/{search.id}:cancel").status_code == 403
        process.send_signal(how)
        _, told = process.communicate(timeout=60)
    assert fragment not in told
    newest = people.tokens(LOCAL)[0]
    assert (newest.name, newest.revoked_at is not None) == ("nas serve --share", True)
    assert [each.name for each in people.members(LOCAL, "default")] == ["ann"]


def test_the_link_is_where_others_find_the_server(settings, people):
    public = {"NAS_SERVER_URL": "https://nas.example/"}
    with served(settings, "--share", "default", **public) as (_, lines):
        lines.readline()
        assert "https://nas.example/sign-in#token=nas_" in lines.readline()
