"""The client against the real server: what comes back equals what the service knows."""

import json
import socket
import threading
import time
from datetime import timedelta
from math import ceil

import pytest

from api import errors
from api.app import create_app
from nas import connection
from nas.answers import Health
from nas.cli_remote import _retagged
from nas.client import Client, SearchNotWon, pages
from nas.client_calls import answered
from nas.connection import MAX_RETRIES, ClientError, Connection
from nas.edits import Edit
from nas.errors import InvalidSpec, StoreFull, StoreUnavailable
from nas.listing import SearchFilter, SearchOrder
from nas.search import SearchState
from nas.service import SearchService
from nas.spec import dump, parse_spec, spec_to_json
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.cutter import Cutter
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, demo_spec, fill


class Spy:
    """A method that counts how often it is called."""

    def __init__(self, method) -> None:
        self._method = method
        self.num_calls = 0

    def __get__(self, instance, _):
        def call(*arguments, **named):
            self.num_calls += 1
            return self._method(instance, *arguments, **named)

        return call


def views(client, **asked):
    """Return all searches asked for, as the service gives them."""
    return [search.view for page in pages(client.list_searches, **asked) for search in page.searches]


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
        found = client.get_search(each.id)
        assert found.view == service.get(each.id)
        assert found.comparison == service.comparison(service.search(each.id))
        assert found.disk_bytes == service.disk_bytes(each.id)
        assert [trial.record for trial in client.trials(each.id)] == service.trials(each.id)
    assert views(client) == service.list_views()


def test_every_answer_is_written_again_as_it_was_sent(client, played):
    """So that what the command line prints as JSON is what REST answers."""
    for each in played.values():
        for path, read in (
            (f"/searches/{each.id}", client.get_search(each.id)),
            (f"/searches/{each.id}/trials", client.list_trials(each.id)),
            (f"/searches/{each.id}/logs", client.get_log(each.id) if each is played["failed"] else None),
            ("/searches", client.list_searches()),
        ):
            assert read is None or dump(read) == client._connection.call("GET", path)


def test_create_and_cancel(client, store):
    spec = demo_spec(name="sent")
    found = client.create_search(spec)
    assert store.get_search(found.id).spec == spec
    assert client.cancel_search(found.id).state is SearchState.CANCELLED


def test_events_are_those_of_the_store_and_end_with_the_search(client, store, played):
    search_id = played["succeeded"].id
    stored = store.events(search_id=search_id, limit=10_000)
    assert list(client.stream_events(search_id)) == stored
    assert list(client.stream_events(search_id, after=stored[-3].sequence)) == stored[-2:]


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
            seen.extend(client.stream_events(played.id))

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


def test_a_submission_whose_answer_is_lost_is_sent_again_and_makes_one_search(client, store, service):
    """The connection breaks after the server has stored the search: nobody could tell that from before."""
    with serving(create_app(service)) as address:
        cutter = Cutter(address, iter([1, 1, 10**9]))
        with cutter.running() as relay, Client(relay) as broken:
            made = broken.submit(demo_spec(name="lost"))
    assert cutter.num_cut == 2
    assert views(client, name="lost") == [made.view]


def test_two_submissions_are_two_searches_unless_they_share_a_key(client):
    spec = demo_spec(name="twice")
    alone = [client.submit(spec).id for _ in range(2)]
    keyed = [client.submit(spec, idempotency_key="nightly").id for _ in range(2)]
    assert len(set(alone)) == 2
    assert len(set(keyed)) == 1
    with pytest.raises(ClientError) as caught:
        client.submit(demo_spec(name="other"), idempotency_key="nightly")
    assert caught.value.code == "idempotency_key_reused"
    for key in ("", "a b", 'a"b', "\u00fc"):
        with pytest.raises(ClientError, match="key: found"):
            client.submit(spec, idempotency_key=key)


def test_clone(client, store, played):
    source = store.get_search(played["failed"].id)
    made = client.clone_search(source.id, {"seed": 5}, idempotency_key="once")
    assert client.clone_search(source.id, {"seed": 5}, idempotency_key='"once"') == made
    assert (made.spec.seed, made.cloned_from) == (5, source.id)
    with pytest.raises(ClientError, match="checkpoint_seconds"):
        client.clone_search(source.id, {"checkpoint_seconds": float("nan")})


class Away(InMemoryStore):
    """Cannot be reached for so many writes."""

    def __init__(self, error: type[Exception], times: int) -> None:
        super().__init__()
        self.error = error
        self.times = times
        self.num_asked = 0

    def add_search(self, *arguments):
        self.num_asked += 1
        if self.num_asked <= self.times:
            raise self.error("database: away")
        return super().add_search(*arguments)


def test_a_database_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "RETRY_SECONDS", 0)
    store = Away(StoreUnavailable, times=1)
    with (
        serving(create_app(SearchService(store, artifact_root=tmp_path))) as address,
        Client(address) as client,
    ):
        made = client.submit(demo_spec())
        assert store.list_searches() == [made.view.search]
        store.times = 100
        with pytest.raises(ClientError) as caught:
            client.submit(demo_spec())
    assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
    assert store.num_asked == 2 + 1 + MAX_RETRIES


def test_nobody_waits_long_to_be_told(tmp_path, monkeypatch):
    """Each pause that a server asks for may be short, and all of them long."""
    monkeypatch.setattr(connection, "RETRY_SECONDS", errors.RETRY_SECONDS - 1)
    store = Away(StoreUnavailable, times=100)
    with (
        serving(create_app(SearchService(store, artifact_root=tmp_path))) as address,
        Client(address) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.submit(demo_spec())
    assert (caught.value.code, caught.value.pause) == ("store_unavailable", errors.RETRY_SECONDS)
    assert store.num_asked == 1


def test_a_full_disk_is_told_at_once(tmp_path):
    store = Away(StoreFull, times=1)
    with (
        serving(create_app(SearchService(store, artifact_root=tmp_path))) as address,
        Client(address) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.submit(demo_spec())
    assert (caught.value.status, caught.value.code) == (507, "store_full")
    assert store.num_asked == 1


def test_lists_are_those_that_were_asked_for(client, service, played, monkeypatch):
    monkeypatch.setattr(Connection, "call", spy := Spy(Connection.call))
    which = SearchFilter(
        name="ED", parent="tiny", states=(SearchState.FAILED, SearchState.SUCCEEDED, SearchState.CANCELLED),
        created_after=NOW - timedelta(days=3), created_before=NOW,
    )  # fmt: skip
    asked = {
        "name": which.name, "parent": which.parent, "state": which.states,
        "created_after": which.created_after, "created_before": which.created_before,
    }  # fmt: skip
    found = views(client, **asked, order_by=SearchOrder.NAME)
    assert found == service.list_views(which, order=SearchOrder.NAME)
    assert [view.search.spec.name for view in found] == ["cancelled", "failed", "succeeded"]
    assert spy.num_calls == 1
    assert views(client, **asked, page_size=2) == service.list_views(which)
    assert spy.num_calls == 1 + 2


@pytest.mark.parametrize(
    ("asked", "which"),
    [
        ({}, SearchFilter(archived=False)),
        ({"archived": "any"}, SearchFilter()),
        ({"archived": "true"}, SearchFilter(archived=True)),
        ({"owner": ""}, SearchFilter(owner="", archived=False)),
        ({"owner": "Ann & Bo"}, SearchFilter(owner="Ann & Bo", archived=False)),
        ({"tag": ("a", "b"), "text": "NOTE"}, SearchFilter(tags=("a", "b"), text="NOTE")),
    ],
)
def test_lists_are_those_of_whom_and_what_was_asked_for(client, service, played, asked, which):
    service.edit(played["failed"].id, Edit(owner="Ann & Bo", tags=("b", "a"), notes="a note"))
    service.edit(played["cancelled"].id, Edit(archived=True))
    found = views(client, **asked, order_by=SearchOrder.NAME, page_size=200)
    assert found == service.list_views(which, order=SearchOrder.NAME, limit=200)
    assert found


def test_what_is_said_of_a_search_survives_the_way(client, store):
    made = client.submit(demo_spec(), owner="Ann & Bo", tag=("b", "a"))
    assert (made.owner, made.tags, made.version) == ("Ann & Bo", ("a", "b"), 0)
    assert client.clone_search(made.id, {}, tag=("c",)).tags == ("c",)
    edited = client.edit_search(made.id, Edit(notes="# \u00e9", archived=True), if_match=made.etag)
    assert edited.view.search == store.get_search(made.id)
    assert (edited.owner, edited.notes, edited.archived) == ("Ann & Bo", "# \u00e9", True)
    with pytest.raises(ClientError) as caught:
        client.edit_search(made.id, Edit(owner=""), if_match=made.etag)
    assert (caught.value.status, caught.value.code) == (412, "stale_version")
    assert client.edit_search(made.id, Edit(owner="")).owner == ""


def test_tags_that_others_change_meanwhile_stay_as_they_say(client, store, monkeypatch):
    """``nas edit`` reads tags and writes them: what comes in between is read again."""
    made = client.submit(demo_spec(), tag=("theirs", "old"))
    read, between = client.get_search, iter([Edit(tags=("old", "new"), notes="n"), Edit(owner="Bo")])

    def get(search_id):
        view = read(search_id)
        if (other := next(between, None)) is not None:
            store.edit_search(search_id, other)
        return view

    monkeypatch.setattr(client, "get_search", get)
    edited = _retagged(client, made.id, Edit(archived=True), ["mine"], ["old"])
    assert edited.view.search == store.get_search(made.id)
    assert (edited.tags, edited.notes, edited.owner, edited.archived) == (("mine", "new"), "n", "Bo", True)
    monkeypatch.setattr("nas.cli_remote.MAX_TRIES", 1)
    between = iter([Edit(owner="Cy")])
    with pytest.raises(ClientError, match="edited meanwhile"):
        _retagged(client, made.id, Edit(), ["more"], [])


def test_trials_are_read_page_by_page(client, service, played, monkeypatch):
    monkeypatch.setattr("nas.client.TRIALS_PER_PAGE", 4)
    monkeypatch.setattr(Connection, "call", spy := Spy(Connection.call))
    search_id = played["succeeded"].id
    assert [trial.record for trial in client.trials(search_id)] == service.trials(search_id)
    assert spy.num_calls == ceil(len(service.trials(search_id)) / 4) > 3


def test_download_writes_the_checkpoint_whole(client, service, played, tmp_path):
    search_id = played["succeeded"].id
    target = tmp_path / "new" / "model"
    assert client.download_winner(search_id, target) == target
    source = service.winner_directory(search_id)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_download_never_overwrites(client, played, tmp_path):
    (tmp_path / "mine").write_text("keep", encoding="utf-8")
    with pytest.raises(ClientError, match="mine: exists"):
        client.download_winner(played["succeeded"].id, tmp_path / "mine")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "keep"


@pytest.mark.parametrize("name", ["file/x", "file/x/y", "x" * 300])
def test_download_names_a_place_that_cannot_be(client, played, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(
        ClientError,
        match=rf"^output: {tmp_path / name}: cannot be made: .*(File exists|Not a dir|name too long)",
    ):
        client.download_winner(played["succeeded"].id, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refused_download_leaves_nothing(client, played, tmp_path):
    with pytest.raises(ClientError) as caught:
        client.download_winner(played["running"].id, tmp_path / "model")
    assert (caught.value.status, caught.value.code) == (409, "conflict")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("length", "content", "message"),
    [(100_000, bytes(5_000), "server: "), (5_000, b"x" * 5_000, "server: sent no whole archive: ")],
    ids=["less than promised", "no archive"],
)
def test_a_broken_off_download_leaves_nothing(tmp_path, length, content, message):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
    answer = head.encode() + content
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with (
            Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client,
            pytest.raises(ClientError, match=f"^{message}"),
        ):
            client.download_winner("x", tmp_path / "model")
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_problems_keep_their_parts(client):
    with pytest.raises(ClientError) as caught:
        client.get_search("nope")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert str(caught.value) == "search nope: not found"
    with pytest.raises(ClientError) as caught:
        client.submit(demo_spec(parent="builtin:huge"))
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


def test_a_search_is_submitted_from_a_spec_its_fields_or_its_file(client, store, tmp_path, monkeypatch):
    fields = spec_to_json(demo_spec()) | {"name": "three ways", "data": {"source": "text.txt"}}
    (tmp_path / "text.txt").write_text("text", encoding="utf-8")
    (tmp_path / "search.json").write_text(json.dumps(fields), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for task in (fields, parse_spec(fields), "search.json", tmp_path / "search.json"):
        made = store.get_search(client.submit(task).id)
        assert (made.spec.name, made.spec.data.source) == ("three ways", str(tmp_path / "text.txt"))
        assert client.plan(task).num_feasible == made.num_feasible
    with pytest.raises(InvalidSpec, match=r"none\.yaml: cannot be read"):
        client.submit("none.yaml")


def test_waiting_tells_what_happens_and_ends_with_the_search(client, store, played):
    told = []
    search = client.wait(played["succeeded"].id, told.append)
    assert told == store.events(search_id=search.id, limit=10_000)
    assert search.winner.trial_number == search.best.number
    for name, message in (("failed", "failed: RuntimeError"), ("cancelled", "was cancelled")):
        with pytest.raises(SearchNotWon, match=f"^search {played[name].id} {message}") as caught:
            client.wait(played[name].id)
        assert caught.value.search.id == played[name].id


def test_all_searches_are_followed_from_a_place_in_the_events(client, store):
    stored = store.events(limit=10_000)
    followed = client.stream_all_events(after=stored[-3].sequence)
    assert [next(followed) for _ in range(2)] == stored[-2:]
    followed.close()
    followed = client.stream_all_events(last_event_id=stored[0].sequence)
    assert next(followed) == stored[1]
    followed.close()


def test_the_server_says_how_it_is(client):
    assert client.get_health().status == client.get_readiness().status == "ok"
    assert "nas_database_up 1.0" in client.get_metrics()


def test_what_a_later_server_says_is_told_and_no_traceback():
    """Fields are added and ignored; a state that has no name here cannot be."""
    with pytest.raises(ClientError, match="answered status with 'PAUSED', which this version"):
        answered(Health, {"status": "PAUSED"})
    assert answered(Health, {"status": "ok", "since": 1}) == Health(status="ok")


def test_a_server_is_found_by_the_environment(client, monkeypatch):
    monkeypatch.setenv("NAS_SERVER_URL", client._connection._url)
    with Client() as found:
        assert found.get_health().status == "ok"
