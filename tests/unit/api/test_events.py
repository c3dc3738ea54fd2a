"""Streams of events over real sockets: whole, in order, and gone on with wherever they broke."""

import contextlib
import itertools
import threading

import httpx
import pytest

from api.app import create_app
from nas.client import Client
from nas.errors import StoreUnavailable
from nas.search import SearchState
from nas.service import SearchService
from nas.spec import dump
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.answers import events_in, problem_in
from tests.unit.api.cutter import Cutter
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, demo_spec


def test_a_final_search_is_told_from_its_beginning_to_its_end(seeded):
    search_id = seeded.id("succeeded")
    response = seeded.http.get(f"/api/v1/searches/{search_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_in(response.text)
    stored = seeded.store.events(search_id=search_id, limit=10_000)
    assert [event["id"] for event in events] == [event.sequence for event in stored]
    assert [event["event"] for event in events] == [event.kind for event in stored]
    assert [event["data"] for event in events] == [dump(event)["data"] for event in stored]
    assert events[-1]["data"]["state"] == "SUCCEEDED"


@pytest.mark.parametrize("by_header", [True, False])
def test_goes_on_after_the_event_seen_last(seeded, by_header):
    address = f"/api/v1/searches/{seeded.id('succeeded')}/events"
    ids = [event["id"] for event in events_in(seeded.http.get(address).text)]
    seen = ids[len(ids) // 2]
    headers = {"Last-Event-ID": str(seen)} if by_header else {}
    params = {"after": 0 if by_header else seen}
    rest = events_in(seeded.http.get(address, headers=headers, params=params).text)
    assert [event["id"] for event in rest] == [number for number in ids if number > seen]


def test_a_live_search_is_told_as_it_happens_until_it_ends(fresh):
    played = Played(fresh.store, ManualClock(NOW), fresh.service.create(demo_spec(num_trials=2)).id)
    kinds: list[str] = []
    with fresh.http.stream("GET", f"/api/v1/searches/{played.id}/events", timeout=20) as response:
        rest = threading.Thread(target=lambda: played.train().succeed(fresh.artifact_root))
        for line in response.iter_lines():
            if line.startswith("event:"):
                kinds.append(line.removeprefix("event: "))
                if len(kinds) == 1:  # the search as it was submitted has arrived; only now it runs
                    rest.start()
        rest.join()
    assert set(kinds) == {"search", "trial", "point", "attempt"}
    assert kinds[0] == kinds[-1] == "search"
    assert played.search.state is SearchState.SUCCEEDED


# Where a stream begins


@pytest.mark.parametrize(
    "given", ["soon", "1.5", "", "9" * 5000, "0x1", "nan", "-1", str(2**64), "2026-01-01"]
)
@pytest.mark.parametrize("path", ["/searches/ID/events", "/events"])
def test_a_cursor_that_was_never_given_out_is_a_problem(seeded, given, path):
    address = f"/api/v1{path.replace('ID', seeded.id('succeeded'))}"
    for arguments in ({"headers": {"Last-Event-ID": given}}, {"params": {"after": given}}):
        answer = seeded.http.get(address, **arguments)
        code = answer.json()["code"]
        assert code in {"invalid_request", "unknown_cursor"}
        field = problem_in(answer, 422, code)["errors"][0]["field"]
        assert field.split(".")[0] in {"Last-Event-ID", "after"}


def test_a_cursor_beyond_the_last_event_names_the_last(seeded):
    """It comes from another database; to wait for that event would be to wait in silence for ever."""
    last = seeded.store.last_sequence()
    address = f"/api/v1/searches/{seeded.id('running')}/events"
    problem = problem_in(seeded.http.get(address, params={"after": last + 1}), 422, "unknown_cursor")
    assert problem["detail"] == f"after: found {last + 1}, allowed: 0 to {last}, the last event there is"


def test_after_the_last_event_of_a_final_search_there_is_nothing(seeded):
    last = seeded.store.last_sequence()
    answer = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}/events", params={"after": last})
    assert events_in(answer.text) == []


def test_an_unknown_search_is_told_before_a_cursor(seeded):
    problem_in(seeded.http.get("/api/v1/searches/nope/events", params={"after": 10**9}), 404, "not_found")


# All searches


def _read(http: httpx.Client, address: str, count: int, **arguments) -> list[dict]:
    """Read so many events of a stream that does not end, and leave it."""
    text = ""
    with http.stream("GET", address, **arguments) as response:
        assert response.status_code == 200
        for chunk in response.iter_text():
            text += chunk
            if len(events_in(text)) >= count:
                break
    return events_in(text)[:count]


def test_one_stream_tells_of_all_searches(seeded):
    stored = seeded.store.events(limit=100_000)
    told = _read(seeded.http, "/api/v1/events", len(stored))
    assert [(event["id"], event["search_id"], event["event"]) for event in told] == [
        (event.sequence, event.search_id, event.kind) for event in stored
    ]


def test_from_now_on_nothing_older_is_told(fresh):
    old = fresh.service.create(demo_spec())
    told = []
    with fresh.http.stream("GET", "/api/v1/events", params={"after": "now"}, timeout=20) as response:
        new = fresh.service.create(demo_spec())
        fresh.service.control.cancel(new.id)
        for line in response.iter_lines():
            told.append(line)
            if "CANCELLED" in line:
                break
    assert old.id not in "\n".join(told)
    assert [line for line in told if line.startswith("event:")] == ["event: search"] * 2


# Connections that break


@pytest.mark.parametrize("step", [1013, 4099])
def test_a_stream_that_is_cut_anywhere_is_gone_on_with_by_the_last_id(seeded, step):
    """As a browser does: keep the id of the last whole event, and send it when connecting again."""
    search_id = seeded.id("succeeded")
    stored = [event.sequence for event in seeded.store.events(search_id=search_id, limit=10_000)]
    with serving(create_app(seeded.service)) as address:
        cutter = Cutter(address, iter(range(1500, 10**9, step)))
        with cutter.running() as relay:
            seen: list[int] = []
            while len(seen) < len(stored):
                text = ""
                headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
                with (
                    contextlib.suppress(httpx.TransportError),
                    httpx.stream(
                        "GET", f"{relay}/api/v1/searches/{search_id}/events", headers=headers
                    ) as response,
                ):
                    for chunk in response.iter_text():
                        text += chunk
                seen += [event["id"] for event in events_in(text)]
    assert seen == stored
    assert cutter.num_cut > 2


def test_the_client_goes_on_over_connections_that_are_cut(tmp_path):
    store = InMemoryStore()
    service = SearchService(store, artifact_root=tmp_path)
    played = Played(store, ManualClock(NOW), service.create(demo_spec(num_trials=3)).id).train(num_points=4)
    seen = []
    with serving(create_app(service)) as address:
        cutter = Cutter(address, (4000 * 2**number for number in itertools.count()))
        with cutter.running() as relay, Client(relay) as client:
            for event in client.stream_events(played.id):
                seen.append(event)
                if len(seen) == 5:
                    played.train().succeed(tmp_path)
    assert seen == store.events(search_id=played.id, limit=10_000)
    assert cutter.num_cut > 2


def test_a_stream_ends_while_the_database_is_away_and_its_reader_goes_on_later(tmp_path, monkeypatch):
    """No half event, no error in the middle: what was sent stands, and the rest comes after."""
    monkeypatch.setattr("api.errors.RETRY_SECONDS", 0)
    away = threading.Event()

    class Flaky(InMemoryStore):
        def events(self, **options):
            if away.is_set():
                raise StoreUnavailable("database: away")
            return super().events(**options)

        def last_sequence(self):
            if away.is_set():
                away.clear()
                raise StoreUnavailable("database: away")
            return super().last_sequence()

    store = Flaky()
    service = SearchService(store, artifact_root=tmp_path)
    played = Played(store, ManualClock(NOW), service.create(demo_spec(num_trials=2)).id).train(num_points=3)
    seen = []
    with serving(create_app(service)) as address, Client(address) as client:
        for event in client.stream_events(played.id):
            seen.append(event)
            if len(seen) == 4:
                played.train().succeed(tmp_path)
                away.set()
    assert seen == store.events(search_id=played.id, limit=10_000)
    assert not away.is_set()
