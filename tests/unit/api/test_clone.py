"""Clones: a search like another, changed by a merge patch, over real HTTP."""

import pytest

from nas.patch import patched_spec
from nas.spec import spec_to_json
from tests.unit.api.answers import problem_in
from tests.unit.api.seeded import demo_spec

PATCH = {"Content-Type": "application/merge-patch+json"}


def clone(seeded, search_id, patch=None, **headers):
    address = f"/api/v1/searches/{search_id}:clone"
    if patch is None:
        return seeded.http.post(address, headers=headers)
    return seeded.http.post(address, json=patch, headers=PATCH | headers)


@pytest.fixture
def source(fresh):
    """A search that has ended."""
    made = fresh.service.create(demo_spec(name="first", seed=3))
    return fresh.service.control.cancel(made.id)


def test_without_a_body_the_same_is_searched_again(fresh, source):
    answer = clone(fresh, source.id)
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"] != source.id
    assert made["spec"] == spec_to_json(source.spec)
    assert (made["state"], made["cloned_from"]) == ("QUEUED", source.id)
    assert fresh.http.get(answer.headers["location"]).json() == made
    assert fresh.http.get(f"/api/v1/searches/{source.id}").json()["cloned_from"] is None


@pytest.mark.parametrize(
    "media_type", ["application/merge-patch+json", "application/json", "application/yaml"]
)
def test_a_patch_changes_what_it_names(fresh, source, media_type):
    patch = {"name": "second", "seed": None, "comparisons": {"random_indices": 2}}
    made = clone(fresh, source.id, patch, **{"Content-Type": media_type}).json()
    assert made["spec"] == spec_to_json(patched_spec(source.spec, patch))
    assert (made["spec"]["name"], made["spec"]["seed"]) == ("second", 0)
    assert made["spec"]["comparisons"]["random_indices"] == 2


def test_what_a_clone_asks_is_checked_as_every_spec_is(fresh, source):
    empty = problem_in(
        clone(fresh, source.id, {"budget": {"max_parameters": 10, "min_parameters": 0}}), 422, "empty_space"
    )
    assert empty["errors"][0]["field"] == "budget"
    for patch, field in (
        ({"sead": 1}, "sead"),
        ({"parent": "/none"}, "parent"),
        ([1], "spec"),
        ("x", "spec"),
    ):
        problem = problem_in(clone(fresh, source.id, patch), 422, "invalid_spec")
        assert problem["errors"][0]["field"] == field
    assert len(fresh.store.list_searches()) == 1


def test_bodies_that_are_no_patch(fresh, source):
    address = f"/api/v1/searches/{source.id}:clone"
    problem_in(fresh.http.post(address, content=b"{}"), 415, "unsupported_media_type")
    problem_in(fresh.http.post(address, content=b"{[", headers=PATCH), 422, "invalid_spec")
    problem_in(fresh.http.post(address, content=b"\xff", headers=PATCH), 400, "malformed_body")
    problem_in(
        fresh.http.post(address, content=b" " * (1 << 20) + b" ", headers=PATCH), 413, "body_too_large"
    )


def test_unknown_search(fresh):
    problem_in(clone(fresh, "nope", {}), 404, "not_found")


def test_a_key_makes_one_clone_of_one_search(fresh, source):
    other = fresh.service.create(demo_spec())
    first = clone(fresh, source.id, {"seed": 1}, **{"Idempotency-Key": "one"}).json()
    assert clone(fresh, source.id, {"seed": 1}, **{"Idempotency-Key": "one"}).json() == first
    for search_id, patch in ((source.id, {"seed": 2}), (source.id, None), (other.id, {"seed": 1})):
        answer = clone(fresh, search_id, patch, **{"Idempotency-Key": "one"})
        problem_in(answer, 422, "idempotency_key_reused")
    assert len(fresh.store.list_searches()) == 3


def test_clones_of_clones_name_what_they_were_made_from(fresh, source):
    first = clone(fresh, source.id).json()
    assert clone(fresh, first["id"]).json()["cloned_from"] == first["id"]
