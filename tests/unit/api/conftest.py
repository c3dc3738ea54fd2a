"""A server with searches in every state, shared by the tests that only read."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.chromium import chromium
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, fill
from tests.unit.api.server import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """A server, what is behind it, and a client of its REST interface."""

    http: httpx.Client
    store: InMemoryStore
    service: SearchService
    artifact_root: Path
    played: dict[str, Played]

    def id(self, name: str) -> str:
        """Return the id of a search by its name."""
        return self.played[name].id


@pytest.fixture(scope="session")
def seeded(tmp_path_factory):
    """Read only."""
    artifact_root = tmp_path_factory.mktemp("artifacts")
    store = InMemoryStore(ManualClock(NOW))
    played = fill(store, artifact_root, NOW)
    service = SearchService(store, artifact_root=artifact_root)
    with serving(create_app(service)) as address, httpx.Client(base_url=address) as http:
        yield Seeded(http=http, store=store, service=service, artifact_root=artifact_root, played=played)


@pytest.fixture
def fresh(tmp_path):
    """A server of one's own, with nothing in it."""
    store = InMemoryStore()
    service = SearchService(store, artifact_root=tmp_path)
    with serving(create_app(service)) as address, httpx.Client(base_url=address) as http:
        yield Seeded(http=http, store=store, service=service, artifact_root=tmp_path, played={})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in a process of its own, with a search in every state."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless browser with one page."""
    assert CHROMIUM, "no Chromium on the path: install it, or leave these tests out with -m 'not browser'"
    with chromium(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
