"""Where a search is in MLflow, as REST, page, command line and metrics say it; asked of the store alone."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from nas.client import Client
from nas.clock import utc_now
from nas.mlflow_links import LATE_SECONDS, MlflowStanding, run_address
from nas.outbox import RegisteredVersion, TrackedRun, target_of
from nas.settings import Settings
from nas.storage.tables import events
from tests.unit.api.chromium import chromium
from tests.unit.api.server import running
from tests.unit.api.test_metrics import samples

NAS = Path(sys.executable).with_name("nas")
MLFLOW = "https://mlflow.example/at"
"""Nobody asks it for anything."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow was told of one search and is behind with all others, which were there for days."""
    with running(tmp_path_factory.mktemp("server"), mlflow_url=f"{MLFLOW}/") as server:
        now = utc_now()
        outbox = server.store.outboxes.open(
            "a", target=target_of(Settings(home=server.home).tracking_uri), experiment_id="7", owner="me", at=now,
            until=now + timedelta(hours=1),
        )  # fmt: skip
        runs = [
            TrackedRun(search_id=server.id("succeeded"), run_id="whole"),
            *(_run(attempt) for attempt in server.store.attempts(server.id("succeeded"))),
        ]
        version = RegisteredVersion(
            search_id=server.id("succeeded"), trial_number=2, name="tiny-half", version=3
        )
        server.store.outboxes.advance(outbox, 5, runs, [version], owner="me", until=now)
        with server.store._database.writing() as connection:
            connection.execute(events.update().values(at=now - timedelta(days=1)))
        yield server


def _run(attempt):
    place = attempt.trial_number, attempt.number
    return TrackedRun(
        search_id=attempt.search_id,
        trial_number=place[0],
        attempt_number=place[1],
        run_id="r{}-{}".format(*place),
    )


def test_a_search_and_its_attempts_say_where_they_are(server):
    link = run_address(MLFLOW, "7", "whole")
    assert link == f"{MLFLOW}/#/experiments/7/runs/whole"
    with httpx.Client(base_url=f"{server.address}/api/v1") as http:
        one = http.get(f"/searches/{server.id('succeeded')}").json()
        assert one["mlflow_url"] == link
        assert one["registered_model"] == {
            "trial_number": 2,
            "name": "tiny-half",
            "version": 3,
            "url": f"{MLFLOW}/#/models/tiny-half/versions/3",
        }
        listed = http.get("/searches").json()["searches"]
        assert {each["spec"]["name"]: each["mlflow_url"] for each in listed} == {
            name: link if name == "succeeded" else None for name in [*server.played, "queued"]
        }
        trials = http.get(f"/searches/{server.id('succeeded')}/trials").json()["trials"]
        attempts = [attempt for trial in trials for attempt in trial["attempts"]]
        assert attempts
        for attempt in attempts:
            run_id = f"r{attempt['trial_number']}-{attempt['number']}"
            assert attempt["mlflow_run_id"] == run_id
            assert attempt["mlflow_url"] == run_address(MLFLOW, "7", run_id)
        others = http.get(f"/searches/{server.id('running')}/trials").json()["trials"]
        assert {attempt["mlflow_url"] for trial in others for attempt in trial["attempts"]} == {None}


def test_it_is_told_how_far_mlflow_is_behind_once_that_is_long(server):
    first = server.store.events(after=5, limit=1)[0]
    age = (utc_now() - first.at).total_seconds()
    assert age > LATE_SECONDS
    with Client(server.address) as client:
        standing = client.get_search(server.id("running")).mlflow_standing
    assert standing == MlflowStanding(mlflow_behind_seconds=pytest.approx(age, abs=60))
    found = samples(httpx.get(f"{server.address}/metrics").text)
    assert found["nas_mlflow_unsent_events",] == server.store.last_sequence() - 5
    assert found["nas_mlflow_behind_seconds",] == pytest.approx(age, abs=60)


def test_show_says_it(server):
    environment = os.environ | {"NAS_SERVER_URL": server.address}
    shown = subprocess.run(
        [NAS, "show", server.id("succeeded")], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"in MLflow: {MLFLOW}/#/experiments/7/runs/whole" in shown
    page = f"{MLFLOW}/#/models/tiny-half/versions/3"
    assert f"registered as tiny-half, version 3 (trial 2): {page}" in shown
    assert "MLflow has not been told all for 1 d" in shown


def test_where_no_mlflow_was_ever_told_nothing_is_said(fresh, seeded):
    one = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}").json()
    assert (one["mlflow_url"], one["mlflow_behind_seconds"]) == (None, None)
    assert "mlflow" not in fresh.http.get("/metrics").text


@pytest.mark.browser
def test_the_page_leads_there(server, tmp_path):
    executable = shutil.which("chromium") or "google-chrome"
    with chromium(executable, tmp_path) as browser:
        browser.open(f"{server.address}/searches/{server.id('succeeded')}")
        browser.wait_for(
            "In MLflow",
            "This search: its losses",
            "The winner is registered as tiny-half, version 3",
            "MLflow has not been told all",
        )
        links = browser.evaluate("[...document.querySelectorAll('a')].map(link => link.href)")
        assert {f"{MLFLOW}/#/experiments/7/runs/whole", f"{MLFLOW}/#/models/tiny-half/versions/3"} <= {*links}
        browser.open(f"{server.address}/searches/{server.id('preparing')}")
        browser.wait_for("MLflow has not been told all")
        assert "This search: its losses" not in browser.text
