"""What was measured, by REST: lists, comparisons, fronts, curves and tables."""

import csv
import io
import json
from dataclasses import asdict

import pytest

from api.app import create_app
from nas.edits import Edit
from nas.exports import HISTORY_COLUMNS, POINT_COLUMNS, TRIAL_COLUMNS
from nas.search import Artifacts, SearchState
from nas.service import SearchService
from nas.side_by_side import MOST_SEARCHES
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import Played, demo_spec

HISTORY = "/api/v1/history"
ORDERS = ["at", "-at", "loss", "-loss", "num_parameters", "-num_parameters"]


def listed(http, **asked):
    """Read the history to its end."""
    token, found = None, []
    while True:
        page = http.get(HISTORY, params=asked | ({"page_token": token} if token else {})).json()
        found += page["measurements"]
        token = page["next_page_token"]
        if token is None:
            return found


def places(found):
    return [(each["search_id"], each["trial_number"]) for each in found]


@pytest.mark.parametrize("order", ORDERS)
def test_pages_of_any_size_hold_every_measurement_in_order(seeded, order):
    whole = listed(seeded.http, order_by=order, page_size=500)
    assert len(whole) == len(set(places(whole))) > 20
    field = order.removeprefix("-")
    values = [each[field] for each in whole]
    assert values == sorted(values, reverse=order.startswith("-"))
    for size in (1, 7):
        assert listed(seeded.http, order_by=order, page_size=size) == whole


def test_every_final_trial_that_was_trained_is_listed(seeded):
    expected = {
        (played.id, record.trial.number)
        for played in seeded.played.values()
        for record in seeded.service.trials(played.id)
        if record.trial.state.is_final and record.points[-1].num_tokens
    }
    assert set(places(listed(seeded.http))) == expected


def test_measurements_are_filtered(seeded):
    whole = listed(seeded.http)
    succeeded = seeded.id("succeeded")
    for asked, holds in (
        ({"search": succeeded}, lambda each: each["search_id"] == succeeded),
        ({"name": "FAIL"}, lambda each: each["search_name"] == "failed"),
        ({"partial": "true"}, lambda each: each["is_partial"]),
        ({"partial": "false", "max_loss": 2.6}, lambda each: not each["is_partial"] and each["loss"] <= 2.6),
        ({"min_parameters": 560_000}, lambda each: each["num_parameters"] >= 560_000),
        (
            {"axis": ["num_layers:5..", "hidden_size:..96"]},
            lambda each: each["architecture"]["num_layers"] >= 5 and each["architecture"]["hidden_size"] <= 96,
        ),
        ({"parent_key": whole[0]["parent_key"]}, lambda each: True),
        ({"data_key": "0" * 32}, lambda each: False),
        ({"owner": "Nobody"}, lambda each: False),
        ({"architecture": whole[0]["architecture"]["name"]}, lambda each: each["architecture"] == whole[0]["architecture"]),
        ({"measured_after": whole[3]["at"]}, lambda each: each["at"] >= whole[3]["at"]),
        ({"measured_before": whole[3]["at"]}, lambda each: each["at"] < whole[3]["at"]),
    ):  # fmt: skip
        assert listed(seeded.http, **asked) == list(filter(holds, whole)), asked


@pytest.mark.parametrize(
    "query",
    ["order_by=best", "parent_key=x", "axis=depth:1..2", "axis=num_layers:1", "axis=num_layers:-1..", "max_loss=nan",
     "max_loss=inf", "min_parameters=-1", f"max_parameters={2**63}", "partial=maybe", "search=%00", "architecture=%00",
     "measured_after=2026", "page_token=x"],
)  # fmt: skip
def test_what_cannot_be_asked_of_the_history(seeded, query):
    problem = seeded.http.get(f"{HISTORY}?{query}")
    assert problem.status_code == 422
    assert problem.json()["errors"][0]["field"].split(".")[0] == query.split("=")[0]


def test_a_token_is_for_its_list_only(seeded):
    token = seeded.http.get(HISTORY, params={"page_size": 1}).json()["next_page_token"]
    for asked in ({"order_by": "loss"}, {"partial": "true"}, {"archived": "any"}):
        answer = seeded.http.get(HISTORY, params=asked | {"page_token": token})
        problem_in(answer, 422, "invalid_page_token")


def test_archived_searches_are_left_out_unless_asked_for(fresh):
    clock = ManualClock()
    search = fresh.service.create(demo_spec(num_trials=2))
    Played(fresh.store, clock, search.id).train()
    number = len(listed(fresh.http))
    assert number
    assert fresh.http.get(f"{HISTORY}/parents").json()["parents"][0]["num_measurements"] == number
    fresh.store.edit_search(search.id, Edit(archived=True))
    assert listed(fresh.http) == []
    assert fresh.http.get(f"{HISTORY}/parents").json() == {"parents": [], "is_whole": True}
    assert len(listed(fresh.http, archived="any")) == number


def test_parents_are_added_up(seeded):
    (parent,) = seeded.http.get(f"{HISTORY}/parents").json()["parents"]
    whole = listed(seeded.http)
    assert parent["num_measurements"] == len(whole)
    assert parent["num_searches"] == len({each["search_id"] for each in whole})
    assert parent["num_tokens"] == sum(each["num_tokens"] for each in whole)
    assert parent["best_loss"] == min(each["loss"] for each in whole if not each["is_partial"])
    assert parent["parent"] == "builtin:tiny"


# Fronts and curves


def test_the_front_holds_what_no_smaller_one_beats(seeded):
    answer = seeded.http.get(f"/api/v1/searches/{seeded.id('succeeded')}/front").json()
    sizes = [trial["measurement"]["num_parameters"] for trial in answer["trials"]]
    losses = [trial["measurement"]["loss"] for trial in answer["trials"]]
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert answer["num_tokens"] == 98_304
    best = seeded.service.get(seeded.id("succeeded")).best_loss
    assert losses[-1] == best
    empty = seeded.http.get(f"/api/v1/searches/{seeded.id('preparing')}/front").json()
    assert (empty["trials"], empty["num_tokens"]) == ([], None)


def series(seeded, name="succeeded", **asked):
    return seeded.http.get(f"/api/v1/searches/{seeded.id(name)}/series", params=asked)


def test_curves_are_whole_where_there_is_room(seeded):
    records = seeded.service.trials(seeded.id("succeeded"))
    answer = series(seeded).json()
    assert answer["num_trials"] == len(records)
    for curve, record in zip(answer["curves"], records, strict=True):
        assert curve["trial_number"] == record.trial.number
        assert [point["loss"] for point in curve["points"]] == [point.loss for point in record.points]


def test_curves_are_bounded_in_points_and_in_trials(seeded):
    records = seeded.service.trials(seeded.id("succeeded"))
    answer = series(seeded, max_points=4, max_trials=3).json()
    assert [len(curve["points"]) for curve in answer["curves"]] == [4, 4, 4]
    assert {curve["num_points"] for curve in answer["curves"]} == {5}
    best = sorted(
        (record.trial for record in records if record.trial.measurement), key=lambda t: t.measurement.loss
    )
    assert {curve["trial_number"] for curve in answer["curves"]} == {trial.number for trial in best[:3]}


def test_curves_of_chosen_trials(seeded):
    answer = series(seeded, trial=[3, 1, 3]).json()
    assert [curve["trial_number"] for curve in answer["curves"]] == [1, 3]
    problem = problem_in(series(seeded, trial=[1, 999]), 404, "not_found")
    assert "trial 999" in problem["detail"]
    for asked in ({"max_points": 3}, {"max_trials": 0}, {"trial": -1}, {"trial": list(range(201))}):
        problem_in(series(seeded, **asked), 422, "invalid_request")


# Side by side


def test_searches_are_compared_in_the_order_asked_for(seeded):
    names = ("running", "succeeded", "preparing")
    ids = [seeded.id(name) for name in names]
    answer = seeded.http.get("/api/v1/compare", params={"search": [*ids, ids[0]]}).json()
    assert [each["search"]["id"] for each in answer["searches"]] == ids
    assert answer["incomparable"] == []
    assert [each["field"] for each in answer["differences"]] == [
        "comparisons.random_architectures", "comparisons.random_indices",
    ]  # fmt: skip
    running, succeeded, preparing = answer["searches"]
    assert succeeded["search"]["best_loss"] == succeeded["front"][-1]["measurement"]["loss"]
    assert succeeded["curve"][-1]["loss"] == succeeded["search"]["best_loss"]
    assert succeeded["compute_seconds"] > running["compute_seconds"] > 0
    assert (preparing["front"], preparing["curve"], preparing["compute_seconds"]) == ([], [], 0)


def test_what_cannot_be_compared(seeded):
    for ids in ([], ["\x00"], [f"s{number}" for number in range(MOST_SEARCHES + 1)]):
        problem = problem_in(
            seeded.http.get("/api/v1/compare", params={"search": ids}), 422, "invalid_request"
        )
        assert problem["errors"][0]["field"].startswith("search")
    problem_in(seeded.http.get("/api/v1/compare", params={"search": "none"}), 404, "not_found")


# Tables


def rows_of(answer):
    if answer.headers["content-type"].startswith("text/csv"):
        return list(csv.DictReader(io.StringIO(answer.text, newline="")))
    return [json.loads(line) for line in answer.text.splitlines()]


def export(seeded, path, **asked):
    answer = seeded.http.get(f"/api/v1/{path}/export", params=asked)
    assert answer.status_code == 200
    return answer


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tables_hold_every_trial_point_and_measurement(seeded, form):
    search = seeded.id("succeeded")
    records = seeded.service.trials(search)
    answer = export(seeded, f"searches/{search}", format=form)
    assert answer.headers["content-disposition"] == f'attachment; filename="trials-{search}.{form}"'
    trials = rows_of(answer)
    assert [int(row["trial"]) for row in trials] == [record.trial.number for record in records]
    assert list(trials[0]) == list(TRIAL_COLUMNS)
    assert [float(row["loss"]) for row in trials] == [record.points[-1].loss for record in records]
    points = rows_of(export(seeded, f"searches/{search}", rows="points", format=form))
    assert list(points[0]) == list(POINT_COLUMNS)
    assert [float(row["loss"]) for row in points] == [
        point.loss for record in records for point in record.points
    ]
    history = rows_of(export(seeded, "history", format=form, search=search))
    assert list(history[0]) == list(HISTORY_COLUMNS)
    expected = {place for place in places(listed(seeded.http)) if place[0] == search}
    assert {(row["search_id"], int(row["trial"])) for row in history} == expected


def test_a_table_of_a_search_without_trials_is_its_heading(seeded):
    answer = export(seeded, f"searches/{seeded.id('preparing')}")
    assert answer.text == ",".join(f'"{name}"' for name in TRIAL_COLUMNS) + "\r\n"
    assert export(seeded, f"searches/{seeded.id('preparing')}", rows="points", format="jsonl").text == ""


def test_what_cannot_be_exported(seeded):
    problem_in(seeded.http.get("/api/v1/searches/none/export"), 404, "not_found")
    problem_in(seeded.http.get("/api/v1/searches/none/export", params={"rows": "points"}), 404, "not_found")
    for path in (
        f"/api/v1/searches/{seeded.id('failed')}/export?format=xlsx",
        f"{HISTORY}/export?format=xml",
    ):
        problem_in(seeded.http.get(path), 422, "invalid_request")


def test_columns_are_described_in_the_document(tmp_path):
    document = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path)).openapi()
    for path, columns in (
        ("/api/v1/searches/{search_id}/export", {**TRIAL_COLUMNS, **POINT_COLUMNS}),
        ("/api/v1/history/export", HISTORY_COLUMNS),
    ):
        description = document["paths"][path]["get"]["description"]
        assert all(f"- `{name}`: " in description for name in columns)


def test_a_table_is_read_page_by_page_and_never_held(fresh, monkeypatch):
    """Each page is asked for once what was before it has been taken."""
    clock = ManualClock()
    search = fresh.service.create(demo_spec(num_trials=12))
    Played(fresh.store, clock, search.id).train()
    monkeypatch.setattr("nas.retrospect.ROWS_PER_READ", 4)
    monkeypatch.setattr("nas.retrospect.TRIALS_PER_READ", 4)
    for store, name, rows in (
        (fresh.store, "list_trials", fresh.service.trial_rows(search.id)),
        (fresh.store.history, "points_after", fresh.service.point_rows(search.id)),
        (fresh.store.history, "measurements", fresh.service.history_rows()),
    ):
        asked, read = [], getattr(store, name)
        monkeypatch.setattr(store, name, lambda *args, _read=read, _asked=asked, **kwargs: _asked.append(kwargs["limit"]) or _read(*args, **kwargs))  # fmt: skip
        taken = 0
        for _ in rows:
            taken += 1
            assert len(asked) <= taken // 4 + 1
        assert taken >= 8
        assert set(asked) == {4}


def test_what_is_said_to_be_a_formula_is_text_in_a_table(fresh):
    search = fresh.service.create(demo_spec(num_trials=1, name="=HYPERLINK(1)"), said=Edit(owner="@me"))
    Played(fresh.store, ManualClock(), search.id).train()
    row = rows_of(export(fresh, "history"))[0]
    assert (row["search"], row["owner"]) == ("'=HYPERLINK(1)", "'@me")


def test_searches_say_what_their_trials_are_made_from(fresh):
    search = fresh.service.create(demo_spec())
    address = f"/api/v1/searches/{search.id}"
    assert fresh.http.get(address).json()["made_from"] is None
    made_from = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
    Played(fresh.store, ManualClock(), search.id).move(SearchState.PREPARING, made_from=made_from)
    assert fresh.http.get(address).json()["made_from"] == asdict(made_from)
