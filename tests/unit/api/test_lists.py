"""Lists: what is asked for, in the order asked for, page by page; and tokens that are no others'."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api.paging import place_in, token_of
from nas.errors import InvalidPageToken
from nas.trial import TrialRole, TrialState
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import demo_spec

SEARCHES = "/api/v1/searches"


def pages(http, address, key, **parameters):
    """Read a list to its end; the ids or numbers on each page."""
    token, found = None, []
    while True:
        asked = parameters | ({"page_token": token} if token else {})
        page = http.get(address, params=asked).json()
        found.append([each[key] for each in page[address.rpartition("/")[2]]])
        token = page["next_page_token"]
        if token is None:
            return found


# Searches


@pytest.mark.parametrize("order", ["created_at", "-created_at", "name", "-name"])
def test_pages_of_any_size_hold_the_same_in_the_same_order(seeded, order):
    (whole,) = pages(seeded.http, SEARCHES, "id", order_by=order)
    assert len(whole) == 6
    for size in (1, 4, 6):
        found = pages(seeded.http, SEARCHES, "id", order_by=order, page_size=size)
        assert [each for page in found for each in page] == whole
        assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
        assert found[-1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"name": "ED"}, ["cancelled", "failed", "queued", "succeeded"]),
        ({"name": "%"}, []),
        ({"parent": "TINY", "state": ["FAILED", "QUEUED"]}, ["failed", "queued"]),
        ({"parent": "llama"}, []),
        ({"created_after": "2025-06-01T11:59Z"}, ["preparing", "queued"]),
        ({"created_before": "2025-06-01 07:00"}, ["succeeded"]),
        (
            {"created_after": "2025-06-01", "created_before": "2025-06-01T11:58:30+02:00"},
            ["cancelled", "failed"],
        ),
        ({"created_after": "2025-06-01T09:00:00-09:00"}, []),
    ],
)
def test_searches_are_filtered(seeded, asked, expected):
    answer = seeded.http.get(SEARCHES, params=asked | {"order_by": "name"}).json()
    assert [search["spec"]["name"] for search in answer["searches"]] == expected


@pytest.mark.parametrize("time", ["2026", "0.5", "1e9", "-1", "nan"])
def test_a_bare_number_is_no_time(seeded, time):
    """It would be seconds since 1970."""
    answer = seeded.http.get(SEARCHES, params={"created_after": time})
    problem = problem_in(answer, 422, "invalid_request")
    assert problem["errors"][0]["field"] == "created_after"
    assert "as 2026-01-31" in problem["detail"]


def test_a_page_after_searches_were_added_goes_on_where_the_last_ended(fresh):
    made = [fresh.service.create(demo_spec(name=str(number))).id for number in range(5)]
    first = fresh.http.get(SEARCHES, params={"page_size": 2}).json()
    for number in range(3):
        fresh.service.create(demo_spec(name=f"late {number}"))
    rest = fresh.http.get(SEARCHES, params={"page_token": first["next_page_token"]}).json()
    assert [search["id"] for search in first["searches"] + rest["searches"]] == made[::-1]
    assert rest["next_page_token"] is None


def test_sizes_too_large_are_cut_and_may_change_between_pages(fresh):
    for _ in range(3):
        fresh.service.create(demo_spec())
    page = fresh.http.get(SEARCHES, params={"page_size": 10**40}).json()
    assert len(page["searches"]) == 3
    token = fresh.http.get(SEARCHES, params={"page_size": 1}).json()["next_page_token"]
    page = fresh.http.get(SEARCHES, params={"page_size": 7, "page_token": token}).json()
    assert len(page["searches"]) == 2


@pytest.mark.parametrize(
    "changed", [{"state": "FAILED"}, {"order_by": "name"}, {"name": "a"}, {"created_after": "2025-01-01"}]
)
def test_a_token_is_for_what_was_asked_only(seeded, changed):
    token = seeded.http.get(SEARCHES, params={"page_size": 1, "name": "d"}).json()["next_page_token"]
    answer = seeded.http.get(SEARCHES, params={"name": "d", "page_token": token} | changed)
    problem = problem_in(answer, 422, "invalid_page_token")
    assert "other filters or order" in problem["detail"]
    assert problem["errors"][0]["field"] == "page_token"


def test_the_same_filter_in_other_words_is_the_same(seeded):
    first = {"page_size": 1, "state": ["FAILED", "QUEUED"], "created_after": "2025-01-01T00:00:00Z"}
    token = seeded.http.get(SEARCHES, params=first).json()["next_page_token"]
    again = {"state": ["QUEUED", "FAILED", "QUEUED"], "created_after": "2025-01-01T02:00:00+02:00"}
    assert seeded.http.get(SEARCHES, params=again | {"page_token": token}).status_code == 200


def test_a_token_of_another_list_is_refused(seeded):
    first, second = (f"{SEARCHES}/{seeded.id(name)}/trials" for name in ("succeeded", "running"))
    token = seeded.http.get(first, params={"page_size": 1}).json()["next_page_token"]
    for address in (second, SEARCHES):
        problem_in(seeded.http.get(address, params={"page_token": token}), 422, "invalid_page_token")


def forged(place) -> str:
    return base64.urlsafe_b64encode(json.dumps(["0" * 16, place]).encode()).decode()


@pytest.mark.parametrize(
    "token",
    ["x", "0", "\x00", "\u00fc", "====", "e30", "bnVsbA", "WzEsMl0", "W1tbW1tb", "a" * 1024, forged("nope"),
     forged(None), forged([1]), forged("a\x00b"), forged([float("nan"), 2])],
)  # fmt: skip
def test_what_was_never_given_out_is_refused(seeded, token):
    for address in (SEARCHES, f"{SEARCHES}/{seeded.id('running')}/trials"):
        problem_in(seeded.http.get(address, params={"page_token": token}), 422, "invalid_page_token")


@pytest.mark.parametrize(
    "place", [[None, 2**63], [None, 2**31], [None, -1], [float("nan"), 0], [float("inf"), 0], [10**400, 0]]
)
@pytest.mark.parametrize("order", ["number", "-number", "loss", "-loss"])
def test_no_place_is_believed_where_no_trial_can_stand(seeded, order, place):
    """Its digest is right: the token is one that was given out, with another place in it."""
    address = f"{SEARCHES}/{seeded.id('succeeded')}/trials"
    asked = {"page_size": 1, "order_by": order}
    given_out = seeded.http.get(address, params=asked).json()["next_page_token"]
    digest, _ = json.loads(base64.urlsafe_b64decode(given_out + "=" * (-len(given_out) % 4)))
    token = base64.urlsafe_b64encode(json.dumps([digest, place]).encode()).rstrip(b"=").decode()
    answer = seeded.http.get(address, params=asked | {"page_token": token})
    problem_in(answer, 422, "invalid_page_token")


@given(
    place=st.tuples(st.none() | st.floats(allow_nan=False), st.integers()),
    asked=st.dictionaries(st.text(), st.text()),
)
def test_a_token_gives_back_its_place_for_the_same_question_only(place, asked):
    places = TypeAdapter(tuple[float | None, int])
    token = token_of(place, asked)
    assert place_in(token, asked, places) == place
    assert place_in(token, asked | {"unsaid": None}, places) == place
    with pytest.raises(InvalidPageToken):
        place_in(token, asked | {"more": "1", "even": "2"}, places)


# Trials


def trial_pages(seeded, name="succeeded", **parameters):
    found = pages(seeded.http, f"{SEARCHES}/{seeded.id(name)}/trials", "number", **parameters)
    return [number for page in found for number in page]


def test_trials_are_filtered_by_state_and_role(seeded):
    trials = seeded.store.trials(seeded.id("succeeded"))
    for state in TrialState:
        expected = [trial.number for trial in trials if trial.state is state]
        assert trial_pages(seeded, state=state.value, page_size=2) == expected
    for roles in ([TrialRole.SEARCH], [TrialRole.RANDOM_INDICES, TrialRole.RANDOM_ARCHITECTURE]):
        expected = [trial.number for trial in trials if trial.role in roles]
        assert trial_pages(seeded, role=[role.value for role in roles]) == expected
    assert trial_pages(seeded, role="RANDOM_INDICES", state="FAILED") == []


@pytest.mark.parametrize("name", ["succeeded", "running"])
@pytest.mark.parametrize("page_size", [1, 5, 100])
def test_trials_are_ordered_by_number_and_by_loss_those_without_last(seeded, name, page_size):
    trials = seeded.store.trials(seeded.id(name))
    numbers = [trial.number for trial in trials]
    measured = sorted((t for t in trials if t.measurement), key=lambda t: t.measurement.loss)
    others = [trial.number for trial in trials if not trial.measurement]
    best_first = [trial.number for trial in measured]
    assert measured
    assert others
    listed = {
        order: trial_pages(seeded, name, order_by=order, page_size=page_size)
        for order in ("number", "-number", "loss", "-loss")
    }
    assert listed == {
        "number": numbers, "-number": numbers[::-1], "loss": best_first + others, "-loss": best_first[::-1] + others,
    }  # fmt: skip


def test_trials_on_a_page_come_with_all_that_is_theirs(seeded):
    records = seeded.service.trials(seeded.id("succeeded"))
    address = f"{SEARCHES}/{seeded.id('succeeded')}/trials"
    token = seeded.http.get(address, params={"page_size": 4}).json()["next_page_token"]
    found = seeded.http.get(address, params={"page_size": 4, "page_token": token}).json()["trials"]
    for trial, record in zip(found, records[4:8], strict=True):
        assert trial["number"] == record.trial.number
        assert [point["loss"] for point in trial["points"]] == [point.loss for point in record.points]
        assert len(trial["attempts"]) == len(record.attempts)


@pytest.mark.parametrize("query", ["order_by=rank", "state=QUEUED", "role=WINNER", "page_size=-1"])
def test_what_cannot_be_asked_of_trials(seeded, query):
    answer = seeded.http.get(f"{SEARCHES}/{seeded.id('running')}/trials?{query}")
    problem_in(answer, 422, "invalid_request")
