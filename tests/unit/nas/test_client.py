"""The client against the real server: what comes back equals what the service knows."""

import socket
import threading
import time

import pytest

from api.app import create_app
from nas.client import Client, ClientError
from nas.leaderboard import comparison_of
from nas.search import SearchState
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, demo_spec, fill


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def store():
    return InMemoryStore(ManualClock(NOW))


@pytest.fixture(scope="module")
def service(store, root):
    return SearchService(store, artifact_root=root)


@pytest.fixture(scope="module")
def played(store, root):
    return fill(store, root, NOW)


@pytest.fixture(scope="module")
def client(service):
    with serving(create_app(service)) as address, Client(address) as client:
        yield client


def test_every_value_survives_the_way(client, service, played):
    for each in played.values():
        assert client.get(each.id) == service.get(each.id)
        assert client.trials(each.id) == service.trials(each.id)
        expected = comparison_of(each.search, service.trials(each.id))
        assert client.comparison(each.id) == expected
    assert client.list_searches() == service.list_views()
    assert client.list_searches(limit=2) == service.list_views(limit=2)


def test_create_and_cancel(client, store):
    spec = demo_spec(name="sent")
    view = client.create(spec)
    assert store.get_search(view.search.id).spec == spec
    assert client.cancel(view.search.id).search.state is SearchState.CANCELLED


def test_events_are_those_of_the_store_and_end_with_the_search(client, store, played):
    search_id = played["succeeded"].id
    stored = store.events(search_id=search_id, limit=10_000)
    assert list(client.events(search_id)) == stored
    assert list(client.events(search_id, after=stored[-3].sequence)) == stored[-2:]


def test_events_go_on_when_the_server_is_away_for_a_while(tmp_path):
    """The connection breaks with the search under way; nothing is missed and nothing comes twice."""
    store = InMemoryStore()
    service = SearchService(store, artifact_root=tmp_path)
    played = Played(store, ManualClock(NOW), service.create(demo_spec(num_trials=2)).id).train(num_points=2)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    seen = []

    def read():
        with Client(f"http://127.0.0.1:{port}") as client:
            seen.extend(client.events(played.id))

    reader = threading.Thread(target=read)
    with serving(create_app(service), port=port):
        reader.start()
        while not seen:
            assert reader.is_alive()
            time.sleep(0.02)
    played.train().succeed(tmp_path)
    with serving(create_app(service), port=port):
        reader.join(20)
    assert seen == store.events(search_id=played.id, limit=10_000)


def test_download_writes_the_checkpoint_whole(client, service, played, tmp_path):
    search_id = played["succeeded"].id
    target = tmp_path / "new" / "model"
    client.download(search_id, target)
    source = service.winner_directory(search_id)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_download_never_overwrites(client, played, tmp_path):
    (tmp_path / "mine").write_text("keep", encoding="utf-8")
    with pytest.raises(ClientError, match="mine: exists"):
        client.download(played["succeeded"].id, tmp_path / "mine")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "keep"


def test_a_refused_download_leaves_nothing(client, played, tmp_path):
    with pytest.raises(ClientError) as caught:
        client.download(played["running"].id, tmp_path / "model")
    assert (caught.value.status, caught.value.code) == (409, "conflict")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_off_download_leaves_nothing(tmp_path):
    """A server that promises more bytes than it sends."""
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\n" + b"\0" * 5000
    )
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client, pytest.raises(ClientError):
            client.download("x", tmp_path / "model")
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_problems_keep_their_parts(client):
    with pytest.raises(ClientError) as caught:
        client.get("nope")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert str(caught.value) == "search nope: not found"
    with pytest.raises(ClientError) as caught:
        client.create(demo_spec(parent="builtin:huge"))
    assert caught.value.code == "invalid_spec"
    assert [field for field, _ in caught.value.problems] == ["parent"]


def test_where_nothing_listens_the_remedy_is_named():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(ClientError, match="nas serve") as caught,
    ):
        client.list_searches()
    assert "\n" not in str(caught.value)
    assert caught.value.status is None


@pytest.mark.parametrize("address", ["http://[", "localhost:8000", ""])
def test_what_is_no_address(address):
    with pytest.raises(ClientError, match="server: "), Client(address) as client:
        client.list_searches()


def test_what_answers_may_be_no_search_server():
    from fastapi import FastAPI

    with serving(FastAPI()) as address, Client(address) as client, pytest.raises(ClientError, match="404"):
        client.list_searches()
