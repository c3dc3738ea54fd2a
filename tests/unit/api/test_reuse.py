"""What searches took from earlier ones, by REST, on the page and in a terminal."""

import io

import pytest
from rich.console import Console

from nas import display
from nas.client import Client
from nas.search import Rungs
from nas.service import SearchService
from tests.contracts.test_reuse import EVERY, Bench
from tests.contracts.test_warm_start import OTHER_RECIPE
from tests.unit.api.server import running


def test_rest_tells_what_was_reused_and_where_proposals_began(fresh, tmp_path):
    bench = Bench(fresh.store, tmp_path)
    first = bench.run("s1", **EVERY)
    second = bench.run("s2", **EVERY)
    bench.run("s3", num_trials=3, rungs=Rungs(fractions=()), **OTHER_RECIPE)
    view = fresh.http.get("/api/v1/searches/s2").json()
    assert (view["tokens_done"], view["tokens_saved"]) == (0, 80 * len(second))
    trials = fresh.http.get("/api/v1/searches/s2/trials").json()["trials"]
    assert {trial["reused_from"]["search_id"] for trial in trials} == {"s1"}
    assert all(trial["points"] and not trial["attempts"] for trial in trials)
    own = fresh.http.get("/api/v1/searches/s1/trials").json()["trials"]
    assert {trial["reused_from"] for trial in own} == {None}
    priors = fresh.http.get("/api/v1/searches/s3/priors").json()["priors"]
    assert len(priors) == fresh.http.get("/api/v1/searches/s3").json()["num_priors"] == 3
    by_number = {trial.number: trial for trial in first}
    for prior in priors:
        assert prior["source"]["search_id"] == "s1"
        measured = by_number[prior["source"]["trial_number"]]
        assert prior["architecture"]["name"] == measured.architecture.name
        assert prior["loss"] == measured.measurement.loss
    with Client(str(fresh.http.base_url)) as client:
        assert client.get_priors("s3").told == fresh.service.priors("s3")
        assert client.list_trials("s2").trials[0].record.trial == second[0]
    assert fresh.http.get("/api/v1/searches/s1/priors").json() == {"search_id": "s1", "priors": []}
    assert fresh.http.get("/api/v1/searches/nothing/priors").status_code == 404


def test_an_export_tells_whose_measurement_it_is(fresh, tmp_path):
    bench = Bench(fresh.store, tmp_path)
    bench.run("s1", **EVERY)
    (trial, *_) = bench.run("s2", **EVERY)
    (row, *_) = fresh.service.trial_rows("s2")
    assert (row["reused_from_search"], row["reused_from_trial"]) == ("s1", trial.reused_from.trial_number)
    (row, *_) = fresh.service.trial_rows("s1")
    assert (row["reused_from_search"], row["reused_from_trial"]) == (None, None)


def test_a_terminal_says_what_was_taken(fresh, tmp_path):
    bench = Bench(fresh.store, tmp_path)
    bench.run("s1", **EVERY)
    bench.run("s2", **EVERY | {"sampler": "tpe"})
    console = Console(file=io.StringIO(), width=200)
    display.report(console, fresh.service.get("s2"), fresh.service.trials("s2"), None)
    told = console.file.getvalue()
    assert "proposals began from 10 earlier measurements" in told
    assert "800 tokens saved by reusing earlier trials" in told
    assert told.count("completed, reused") == 10


@pytest.mark.browser
def test_the_page_labels_what_was_not_run_and_leads_to_where_it_was(tmp_path, browser):
    with running(tmp_path / "home", filled=False) as server:
        bench = Bench(server.store, tmp_path)
        bench.run("s1", **EVERY)
        bench.run("s2", **EVERY)
        best = SearchService(server.store, artifact_root=server.artifact_root).get("s2").best
        browser.open(f"{server.address}/searches/s2?trial={best.number}")
        browser.wait_for("800 tokens saved by reusing earlier trials", "completed, reused, rank 1")
        browser.wait_for("Not run here: measured before by", str(best.reused_from))
        links = browser.evaluate("[...document.querySelectorAll('a')].map(each => each.getAttribute('href'))")
        assert "/searches/s1" in links
