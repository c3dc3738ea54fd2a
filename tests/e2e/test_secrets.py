"""Real secrets, and all that is written while a server is asked, refuses and fails, and while it runs a search."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from api.sessions import SESSION
from nas.accounts import LOCAL, Member, Role
from nas.people import People
from nas.settings import Settings
from nas.spec import spec_to_json
from nas.storage import tables
from nas.storage.sql import open_store
from tests.micro import micro_spec
from tests.postgres import private_server
from tests.unit.api.test_sign_in import form_of

CANARIES = {
    "NAS_TOKEN": "nas_canarycana_CANARYtokenCANARYtokenCANARYtokenCANARY01",
    "NAS_SESSION_KEY": "CANARYsessionCANARYsessionCANARYsession",
    "HF_TOKEN": "hf_CANARYhubCANARYhubCANARYhub",
}
PASSWORD = "CANARYpasswordCANARY"
SEARCHES = "/api/v1/searches"


@pytest.fixture
def database():
    """A server of databases, and the address of one with a password in it."""
    with private_server() as server:
        yield server, server.new_database().replace("nas@", f"nas:{PASSWORD}@", 1)


@contextmanager
def served(settings, said: Path, *options):
    """Give the address of a server that knows all secrets, and keep what it says."""
    environment = os.environ | settings.environment() | CANARIES | {"HF_HUB_OFFLINE": "1"}
    command = (sys.executable, "-m", "api", "--port", "0", *options)
    with (
        said.open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def admitted(url) -> tuple[str, str]:
    """Return an admin's token, and what its secret is without what may be known of it."""
    store = open_store(url)
    people = People(store.accounts)
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    _, secret = people.create_token(LOCAL, "ann", ["default"])
    store.close()
    return secret.text, secret.text.split("_", 2)[2]


def rows_of(url) -> str:
    """Return all that a database holds."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = [table.name for table in tables.metadata.sorted_tables]
        rows = [str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in names]
    engine.dispose()
    return "\n".join(rows)


def files_below(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def require_none(where: bytes, *secrets: str) -> None:
    for secret in (*CANARIES.values(), PASSWORD, *secrets):
        assert secret.encode() not in where, secret


def test_a_server_that_is_asked_refuses_and_fails(tmp_path, database):
    server, url = database
    settings = Settings(home=tmp_path / "home", database_url=url, log_format="json")
    said = tmp_path / "said"
    token, secret = admitted(url)
    with served(settings, said, "--page-only") as address, httpx.Client(base_url=address) as http:
        page = http.post("/sign-in", data=form_of(http.get("/sign-in")) | {"token": token})
        session = page.cookies[SESSION]
        bearer = {"Authorization": f"Bearer {token}"}
        made = http.post("/api/v1/tokens", json={"member": "ann", "workspaces": ["default"]}, headers=bearer)
        other = made.json()["secret"].split("_", 2)[2]
        answers = [
            http.get("/"),
            http.get("/launch"),
            http.get("/metrics"),
            http.get(SEARCHES, headers=bearer),
            http.get("/api/v1/tokens", headers=bearer),
            http.get("/api/v1/none", headers=bearer),
            http.get(SEARCHES, headers={"Authorization": f"Bearer {token}x"}),
            http.get(SEARCHES, headers={"Authorization": f"Basic {token}"}),
            http.post("/sign-in", data={"token": token}),
            http.post("/api/v1/tokens", json={"member": token, "workspaces": []}, headers=bearer),
            http.post(SEARCHES, json=spec_to_json(micro_spec(tmp_path)), headers=bearer),
            http.post(
                SEARCHES,
                json=spec_to_json(micro_spec(tmp_path)) | {"parent": "hub:org/name"},
                headers=bearer,
            ),
        ]
        statuses = [answer.status_code for answer in answers]
        assert {200, 401, 403, 404, 422} <= set(statuses), statuses
        stored = rows_of(url)
        server.stop()
        answers += [http.get(path, headers=bearer) for path in (SEARCHES, "/", "/metrics", "/readyz")]
        assert [answer.status_code for answer in answers[-4:]] == [503, 503, 200, 503]
        server.start()
    told = b"\n".join(answer.content for answer in answers)
    assert said.stat().st_size > 0
    for where in (told, stored.encode(), said.read_bytes()):
        require_none(where, secret, other)
    # What the server keeps for itself is where it belongs, and a session is for its browser alone.
    require_none(files_below(settings.home), secret, other)
    for where in (stored.encode(), said.read_bytes()):
        assert session.encode() not in where


@pytest.mark.searches
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_a_whole_search(tmp_path, database):
    """Its spec, events, logs, artifacts, MLflow runs and Optuna studies."""
    _, url = database
    settings = Settings(home=tmp_path / "home", database_url=url, data_roots=str(tmp_path))
    said = tmp_path / "said"
    token, secret = admitted(url)
    spec = spec_to_json(micro_spec(tmp_path, num_trials=2))
    with (
        served(settings, said) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        made = http.post(SEARCHES, json=spec)
        assert made.status_code == 201, made.text
        path, deadline = f"{SEARCHES}/{made.json()['id']}", time.monotonic() + 400
        while (found := http.get(path).json())["state"] not in {"SUCCEEDED", "FAILED"}:
            assert time.monotonic() < deadline, found
            time.sleep(1)
        assert found["state"] == "SUCCEEDED", found["failure"]
        told = b"\n".join(
            http.get(f"{path}{what}").content for what in ("", "/trials", "/events", "/logs?tail=10000")
        )
    assert (settings.home / "mlflow.db").stat().st_size > 0
    assert (settings.home / "optuna.db").stat().st_size > 0
    for where in (told, rows_of(url).encode(), said.read_bytes(), files_below(settings.home)):
        require_none(where, secret)
