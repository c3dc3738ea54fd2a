"""The specs of the papers' searches: each holds what its paper published, and can be planned for as it stands."""

from dataclasses import replace

import pytest

from nas.estimate_rows import estimate_rows
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from tests.papers import FOLDER, PUBLISHED


def ids(published):
    return published.file


def test_every_spec_is_here():
    assert {path.name for path in FOLDER.glob("*")} == {published.file for published in PUBLISHED}


@pytest.mark.parametrize("published", PUBLISHED, ids=ids)
def test_the_space_holds_the_published_architecture_with_its_size(published):
    space = search_space(published.spec)
    found = replace(space.parent, **published.sizes)
    assert found in space
    assert f"{found.parameter_count / 1e9:.2f}" == published.billions
    assert published.num_feasible in (None, len(space))


@pytest.mark.parametrize("published", PUBLISHED, ids=ids)
def test_a_plan_needs_neither_the_parent_nor_the_network(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    service = SearchService(InMemoryStore(), artifact_root=tmp_path)
    found = service.plan(published.spec, flops_per_second=4e14)
    assert found.num_feasible == len(search_space(published.spec))
    assert found.trial.num_tokens == 1_887_436_800
    assert found.is_teacher_live, "answers to so many tokens fit no cache"
    assert found.hours > 24
    assert round(found.trial.memory_bytes / 1e9) == published.gigabytes
    assert f"at most {published.gigabytes} GB" in (FOLDER / published.file).read_text()
    assert [what.partition(":")[0] for what in found.unchecked] == ["parent", "data.source"]
    assert [row for row in estimate_rows(found) if row[0] == "not checked"]
