"""What people say of searches, over real HTTP: said, found by it, and never lost to each other."""

import pytest
import yaml

from api.guard import MAX_BODY_BYTES
from nas.edits import Edit
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import DEMO, demo_spec

SEARCHES = "/api/v1/searches"
YAML = {"Content-Type": "application/yaml"}
PATCH = {"Content-Type": "application/merge-patch+json"}
SAID = {"owner": "Ann", "tags": ["one", "two"], "notes": "# Seen", "archived": True}


def submit(fresh, query="", **headers):
    return fresh.http.post(f"{SEARCHES}{query}", content=DEMO.read_bytes(), headers=YAML | headers)


def edit(fresh, search_id, patch, **headers):
    return fresh.http.patch(f"{SEARCHES}/{search_id}", json=patch, headers=PATCH | headers)


def said(answer):
    """What an answer says of a search, and its version."""
    assert answer.status_code in (200, 201), answer.text
    found = answer.json()
    assert answer.headers["etag"] == f'"{found["version"]}"'
    return {name: found[name] for name in (*SAID, "version")}


def problems(answer, status=422, code="invalid_edit"):
    """The fields that a refusal names, with the reasons."""
    return [(each["field"], each["reason"]) for each in problem_in(answer, status, code)["errors"]]


@pytest.fixture
def search(fresh):
    """A search of which nothing is said."""
    return fresh.service.create(demo_spec(name="plain"))


# At the submission


def test_owner_and_tags_are_said_beside_the_spec(fresh):
    first = submit(fresh, "?owner=Ann%20B&tag=two&tag=one&tag=two")
    assert said(first) == {
        "owner": "Ann B", "tags": ["one", "two"], "notes": "", "archived": False, "version": 0,
    }  # fmt: skip
    assert "owner" not in first.json()["spec"]
    clone = fresh.http.post(f"{SEARCHES}/{first.json()['id']}:clone?owner=Bo&tag=again")
    assert (said(clone)["owner"], said(clone)["tags"]) == ("Bo", ["again"])
    plain = fresh.http.post(f"{SEARCHES}/{first.json()['id']}:clone")
    assert said(plain) == said(submit(fresh))


@pytest.mark.parametrize("query", ["?owner=a%0Ab&tag=a%20b", "?validate_only=true&owner=a%0Ab&tag=a%20b"])
def test_what_cannot_be_said_starts_nothing(fresh, query):
    assert [field for field, _ in problems(submit(fresh, query))] == ["owner", "tags"]
    assert fresh.store.list_searches() == []


def test_a_key_is_for_what_is_said_too(fresh):
    key = {"Idempotency-Key": "one"}
    first = submit(fresh, "?owner=Ann&tag=b&tag=a", **key)
    assert submit(fresh, "?tag=a&owner=Ann&tag=b", **key).json() == first.json()
    for query in ("", "?owner=Ann", "?owner=Bo&tag=a&tag=b"):
        problem_in(submit(fresh, query, **key), 422, "idempotency_key_reused")
    edited = edit(fresh, first.json()["id"], {"owner": "Bo"})
    assert said(submit(fresh, "?owner=Ann&tag=b&tag=a", **key)) == said(edited)


# At any time


def test_a_merge_patch_changes_what_it_names(fresh, search):
    assert said(edit(fresh, search.id, SAID)) == SAID | {"version": 1}
    assert said(edit(fresh, search.id, {"tags": ["three"]})) == SAID | {"tags": ["three"], "version": 2}
    cleared = said(edit(fresh, search.id, {"owner": None, "notes": None, "archived": False}))
    assert cleared == {"owner": "", "tags": ["three"], "notes": "", "archived": False, "version": 3}
    assert said(fresh.http.get(f"{SEARCHES}/{search.id}")) == cleared
    assert said(edit(fresh, search.id, {})) == cleared
    assert said(fresh.http.patch(f"{SEARCHES}/{search.id}")) == cleared
    assert [event.kind for event in fresh.store.events(search_id=search.id)] == ["search", *["edit"] * 3]


def test_an_ended_search_is_edited_too_and_nothing_else_of_it_changes(fresh, search):
    before = fresh.service.control.cancel(search.id)
    edited = edit(fresh, search.id, SAID).json()
    assert (edited["state"], edited["finished_at"]) == (
        "CANCELLED",
        before.finished_at.isoformat().replace("+00:00", "Z"),
    )


def test_the_patch_may_be_yaml(fresh, search):
    answer = fresh.http.patch(f"{SEARCHES}/{search.id}", content="tags: [a]\nnotes: |\n  b\n", headers=YAML)
    assert (said(answer)["tags"], said(answer)["notes"]) == (["a"], "b\n")


def test_what_cannot_be_said_names_field_found_and_allowed(fresh, search):
    found = problems(
        edit(fresh, search.id, {"owner": 1, "tags": ["a b"], "archived": "no", "state": "FAILED"})
    )
    assert found == [
        ("state", "unknown, allowed: owner, tags, notes, archived"),
        ("owner", "found 1, allowed: text"),
        ("archived", 'found "no", allowed: true or false'),
        ("tags", 'found "a b", allowed: words of 1 to 40 characters without spaces and commas'),
    ]
    assert fresh.store.get_search(search.id) == search


def test_bodies_that_are_no_patch(fresh, search):
    address = f"{SEARCHES}/{search.id}"
    assert [field for field, _ in problems(edit(fresh, search.id, [1]))] == ["edit"]
    assert [field for field, _ in problems(fresh.http.patch(address, content=b"{[", headers=PATCH))] == [
        "edit"
    ]
    problem_in(fresh.http.patch(address, content=b"{}"), 415, "unsupported_media_type")
    problem_in(fresh.http.patch(address, content=b"\xff", headers=PATCH), 400, "malformed_body")
    problem_in(
        fresh.http.patch(address, content=b" " * (MAX_BODY_BYTES + 1), headers=PATCH), 413, "body_too_large"
    )
    problem_in(edit(fresh, "nope", {"owner": "Ann"}), 404, "not_found")


# Two people at once


def test_an_edit_of_what_was_edited_meanwhile_is_refused(fresh, search):
    etag = fresh.http.get(f"{SEARCHES}/{search.id}").headers["etag"]
    edit(fresh, search.id, {"owner": "Ann"})
    answer = edit(fresh, search.id, {"owner": "Bo", "notes": "lost?"}, **{"If-Match": etag})
    assert problems(answer, 412, "stale_version") == [
        ("If-Match", "found 0, allowed: 1; it was edited meanwhile")
    ]
    assert search.id in answer.json()["detail"]
    assert said(fresh.http.get(f"{SEARCHES}/{search.id}"))["owner"] == "Ann"
    again = fresh.http.get(f"{SEARCHES}/{search.id}").headers["etag"]
    assert said(edit(fresh, search.id, {"owner": "Bo"}, **{"If-Match": again}))["owner"] == "Bo"


def test_what_workers_write_makes_no_version_stale(fresh, search):
    etag = fresh.http.get(f"{SEARCHES}/{search.id}").headers["etag"]
    fresh.service.control.cancel(search.id)
    assert said(edit(fresh, search.id, {"owner": "Ann"}, **{"If-Match": etag}))["version"] == 1


@pytest.mark.parametrize("header", ["*", '"0"', '"7", "0"', '"x" , "0"', '"0", W/"1"'])
def test_versions_that_match(fresh, search, header):
    assert said(edit(fresh, search.id, {"owner": "Ann"}, **{"If-Match": header}))["owner"] == "Ann"


@pytest.mark.parametrize("header", ['"1"', 'W/"0"', '"x"', '""', '"00"', '"0 "', '"' + "9" * 40 + '"'])
def test_versions_that_do_not(fresh, search, header):
    answer = edit(fresh, search.id, {"owner": "Ann"}, **{"If-Match": header})
    status, code = (422, "invalid_request") if " " in header else (412, "stale_version")
    assert problems(answer, status, code)[0][0] == "If-Match"
    assert fresh.store.get_search(search.id) == search


@pytest.mark.parametrize("header", ["0", '"0', '"0" "1"', "", ","])
def test_what_is_no_etag(fresh, search, header):
    ((field, reason),) = problems(
        edit(fresh, search.id, {"owner": "Ann"}, **{"If-Match": header}), 422, "invalid_request"
    )
    assert field == "If-Match"
    assert f"found {header!r}, allowed: the ETag of the search" in reason


def test_an_edit_that_is_sent_again_after_its_answer_was_lost_is_done(fresh, search):
    first = said(edit(fresh, search.id, SAID, **{"If-Match": '"0"'}))
    assert said(edit(fresh, search.id, SAID, **{"If-Match": '"0"'})) == first


# Found by it


@pytest.fixture
def history(fresh):
    """Searches of which several people have said something."""
    for name, what in {
        "a": Edit(owner="Ann", tags=("llama", "8b")),
        "b": Edit(owner="Ann", tags=("llama",), archived=True),
        "c": Edit(owner="Bo", tags=("8b",), notes="No LLAMA_at all"),
        "d": Edit(),
    }.items():
        fresh.service.create(demo_spec(name=name), said=what)
    return fresh


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "acd"),
        ({"archived": "true"}, "b"),
        ({"archived": "any"}, "abcd"),
        ({"owner": "Ann"}, "a"),
        ({"owner": "Ann", "archived": "any"}, "ab"),
        ({"owner": ""}, "d"),
        ({"tag": "llama", "archived": "any"}, "ab"),
        ({"tag": ["llama", "8b", "llama"], "archived": "any"}, "a"),
        ({"tag": "no such"}, ""),
        ({"text": "llama_AT"}, "c"),
        ({"text": "D"}, "d"),
        ({"text": "%"}, ""),
    ],
)
def test_searches_are_found_by_what_is_said(history, asked, expected):
    for size in (1, 50):
        token, found = None, ""
        while True:
            more = {"page_token": token} if token else {}
            page = history.http.get(
                SEARCHES, params=asked | more | {"order_by": "name", "page_size": size}
            ).json()
            found += "".join(search["spec"]["name"] for search in page["searches"])
            token = page["next_page_token"]
            if token is None:
                break
        assert found == expected


@pytest.mark.parametrize("changed", [{"archived": "false"}, {"owner": "Ann"}, {"tag": "8b"}, {"text": "a"}])
def test_a_page_token_is_for_what_was_asked_only(history, changed):
    token = history.http.get(SEARCHES, params={"page_size": 1, "archived": "any"}).json()["next_page_token"]
    asked = {"archived": "any", "page_token": token} | changed
    problem_in(history.http.get(SEARCHES, params=asked), 422, "invalid_page_token")


@pytest.mark.parametrize(
    "query", ["archived=maybe", "tag=a%00b", f"owner={'x' * 101}", "text=%00", "&".join(["tag=a"] * 21)]
)
def test_what_cannot_be_asked(history, query):
    problem_in(history.http.get(f"{SEARCHES}?{query}"), 422, "invalid_request")


def test_what_is_said_needs_no_spec_that_can_still_run(fresh, tmp_path):
    """A parent that is gone since is no obstacle to a note."""
    text = tmp_path / "text.txt"
    text.write_text("text")
    spec = yaml.safe_load(DEMO.read_text()) | {"data": {"source": str(text)}}
    made = fresh.http.post(SEARCHES, json=spec).json()
    text.unlink()
    assert said(edit(fresh, made["id"], {"notes": "gone"}))["notes"] == "gone"
