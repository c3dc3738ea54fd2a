"""``/metrics`` as Prometheus reads it."""

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from api import metrics
from api.app import create_app
from nas.search import SearchState
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.storage.sql import SqlStore
from nas.trial import TrialState
from tests.unit.api.live import serving
from tests.unit.api.seeded import demo_spec
from tests.unit.api.server import running

COUNT = "nas_http_request_duration_seconds_count"


def samples(text: str, read=text_string_to_metric_families) -> dict[tuple, float]:
    """Return values by the name and labels of their sample."""
    found = {}
    for family in read(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def numbers(found: dict[tuple, float], name: str) -> dict[str, float]:
    """Return the values of the samples that have one label, by it."""
    return {key[1][1]: value for key, value in found.items() if key[0] == name}


def test_totals_are_those_of_the_store(seeded):
    answer = seeded.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.text)
    searches = seeded.store.list_searches()
    assert numbers(found, "nas_searches") == {
        state.value: sum(search.state is state for search in searches) for state in SearchState
    }
    trials = [trial for search in searches for trial in seeded.store.trials(search.id)]
    assert numbers(found, "nas_trials") == {
        state.value: sum(trial.state is state for trial in trials) for state in TrialState
    }
    tokens = {}
    for search in searches:
        for each in seeded.store.points(search.id):
            key = search.id, each.trial_number
            tokens[key] = max(tokens.get(key, 0), each.point.num_tokens)
    assert found["nas_trained_tokens_total",] == sum(tokens.values()) > 0
    flops = 0
    for (search_id, number), num_tokens in tokens.items():
        context = seeded.store.get_search(search_id).spec.data.sequence_length
        shape = seeded.store.trials(search_id)[number].architecture
        flops += 3 * shape.flops_per_token(context=context) * num_tokens
    assert found["nas_training_flops_total",] == pytest.approx(flops, rel=0.01)
    assert found["nas_database_up",] == 1
    (build,) = [dict(key[1:]) for key in found if key[0] == "nas_build_info"]
    assert build.keys() == {"version", "python"}


def test_the_newer_format_for_whom_asks_for_it(fresh):
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
    answer = fresh.http.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert samples(answer.text, openmetrics_families)["nas_database_up",] == 1


def test_answers_are_counted_by_the_route_that_gave_them(tmp_path):
    """Over the server as users start it: however many paths are asked for, there are few routes."""
    with running(tmp_path) as server, httpx.Client(base_url=server.address) as http:
        ids = [played.id for played in server.played.values()]
        for search_id in ids:
            for path in (
                f"/api/v1/searches/{search_id}",
                f"/api/v1/searches/{search_id}/trials",
                f"/searches/{search_id}",
            ):
                assert http.get(path).status_code == 200
        for number in range(5):
            assert http.get(f"/api/v1/searches/none-{number}").status_code == 404
            assert http.get(f"/api/v1/none-{number}").status_code == 404
            assert http.get(f"/none-{number}").status_code == 404
            http.get("/", headers={"Host": f"evil-{number}"})
            http.request(f"M{number}", "/healthz")
        http.post(f"/api/v1/searches/{ids[0]}:cancel", headers={"Sec-Fetch-Site": "cross-site"})
        http.post("/api/v1/searches")
        found = samples(http.get("/metrics").text)
    counts = {
        (labels["method"], labels["route"], labels["status"]): value
        for labels, value in ((dict(key[1:]), value) for key, value in found.items() if key[0] == COUNT)
    }
    assert counts["GET", "/api/v1/searches/{search_id}", "200"] == len(ids)
    assert counts["GET", "/api/v1/searches/{search_id}/trials", "200"] == len(ids)
    assert counts["GET", "/searches/{search_id}", "200"] == len(ids)
    assert counts["GET", "/api/v1/searches/{search_id}", "404"] == 5
    assert counts["GET", "none", "421"] == 5
    assert counts["POST", "none", "403"] == 1
    assert counts["POST", "/api/v1/searches", "415"] == 1
    assert not any("none-" in route or "evil" in route or "M1" in method for method, route, _ in counts)
    assert sum(value for key, value in counts.items() if key[2] == "404") == 15
    assert len(counts) < 20


def test_a_stream_counts_from_its_beginning(seeded):
    path = f"/api/v1/searches/{seeded.id('running')}/events"
    with seeded.http.stream("GET", path) as stream:
        assert stream.status_code == 200
        found = samples(seeded.http.get("/metrics").text)
    route = ("method", "GET"), ("route", "/api/v1/searches/{search_id}/events"), ("status", "200")
    assert found[(COUNT, *route)] >= 1


def test_totals_are_counted_once_for_all_who_ask(tmp_path):
    class Counting(InMemoryStore):
        num_counts = 0

        def totals(self):
            self.num_counts += 1
            return super().totals()

    store, seconds = Counting(), [0.0]
    service = SearchService(store, artifact_root=tmp_path)
    told = metrics.Metrics(service, clock=lambda: seconds[0])
    for _ in range(5):
        told.exposition("")
    assert store.num_counts == 1
    service.create(demo_spec())
    seconds[0] = metrics.FRESH_SECONDS
    assert numbers(samples(told.exposition("")[0].decode()), "nas_searches")["QUEUED"] == 1
    assert store.num_counts == 2


def test_while_the_database_is_away_the_rest_is_told(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path}/gone/nas.db")
    with serving(create_app(SearchService(store, artifact_root=tmp_path))) as address:
        httpx.get(f"{address}/api/v1/searches")
        answer = httpx.get(f"{address}/metrics")
    found = samples(answer.text)
    assert answer.status_code == 200
    assert found["nas_database_up",] == 0
    assert numbers(found, "nas_searches") == {}
    assert any(key[0] == COUNT and ("status", "503") in key for key in found)


def test_other_sites_and_methods(fresh):
    assert fresh.http.get("/metrics", headers={"Host": "evil.example"}).status_code == 421
    assert fresh.http.post("/metrics").status_code == 405
