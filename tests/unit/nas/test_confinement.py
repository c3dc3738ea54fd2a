"""Which local paths specs of other people may name: by where they really lead."""

from dataclasses import replace

import pytest

from minitron.recipe import DataRecipe, DataSource
from nas.admission import resolved
from nas.confinement import EVERYWHERE, NOWHERE, Confinement
from nas.errors import InvalidSpec
from nas.finals import Evaluation
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.searches import make_spec


@pytest.fixture
def places(tmp_path):
    """A directory that may be read, one that may not, and links from the one into the other."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in (inside, outside):
        (place / "texts").mkdir(parents=True)
        (place / "texts" / "a.txt").write_text("words")
    (inside / "sly").mkdir()
    (inside / "sly" / "b.txt").symlink_to(outside / "texts" / "a.txt")
    (inside / "way").symlink_to(outside)
    (inside / "own").symlink_to(inside / "texts")
    return inside


def refused(confinement, **changes):
    """Return the fields that a spec is refused for."""
    try:
        confinement.require(resolved(make_spec(**changes)))
    except InvalidSpec as error:
        return [field for field, _ in error.problems]
    return []


def data(*sources, **changes):
    """Return a recipe of one source, or of a blend."""
    blend = tuple(DataSource(source=str(each)) for each in sources)
    return DataRecipe(source=blend if len(blend) > 1 else str(sources[0]), **changes)


def test_what_is_no_path_is_admitted_anywhere():
    for confinement in (EVERYWHERE, NOWHERE):
        assert refused(confinement) == []
        assert refused(confinement, parent="hub:org/name", data=data("hub:org/data")) == []


@pytest.mark.parametrize(
    "path", ["texts", "texts/a.txt", "texts/*.txt", "*/a.txt", "sly/../texts", "own", "."]
)
def test_what_lies_below_a_root_is_admitted(places, path):
    (places / "sly" / "b.txt").unlink()
    (places / "way").unlink()
    assert refused(Confinement(roots=(places,)), data=data(places / path)) == []


@pytest.mark.parametrize(
    "path",
    [
        "../outside/texts", "way/texts", "way", "sly/b.txt", "sly", "sly/*", "wa*/texts/*", "way/*/a.txt",
        "texts/../../outside", "/etc/passwd", "/", "*/../../outside/texts/a.txt", "none/../../outside", "nowhere/../..",
        "~root/x.txt",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(places, path):
    path = path if path.startswith("~") else places / path
    assert refused(Confinement(roots=(places,)), data=data(path)) == ["data.source"]


def test_whether_a_path_elsewhere_is_there_is_not_told(places):
    told = set()
    for name in ("texts", "nothing"):
        path = places.parent / "outside" / name
        with pytest.raises(InvalidSpec) as error:
            Confinement(roots=(places,)).require(make_spec(data=data(path)))
        told.add(str(error.value).replace(str(path), ""))
    assert len(told) == 1


def test_every_path_of_a_spec_is_looked_at(places):
    elsewhere = str(places.parent / "outside")
    evaluation = Evaluation(tasks=("x",), task_path=elsewhere)
    found = refused(
        NOWHERE,
        parent=elsewhere,
        data=data(elsewhere, places, validation=elsewhere),
        evaluation=evaluation,
    )
    assert set(found) == {
        "parent", "data.validation", "data.source.0", "data.source.1", "evaluation.task_path",
    }  # fmt: skip


def test_a_parent_whose_files_are_elsewhere_is_refused(places):
    model = places / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert refused(Confinement(roots=(places,)), parent=str(model)) == []
    (model / "model.safetensors").symlink_to(places.parent / "outside" / "texts" / "a.txt")
    assert refused(Confinement(roots=(places,)), parent=str(model)) == ["parent"]


def test_nothing_is_looked_at_before(places, monkeypatch):
    """Plan and submission alike; what is refused is not even asked whether it is there."""
    monkeypatch.setattr("nas.service.admitted", None)
    monkeypatch.setattr("nas.service.planned", None)
    service = SearchService(InMemoryStore(), artifact_root=places, confinement=lambda: NOWHERE)
    spec = replace(make_spec(), parent=str(places))
    for use in (service.create, service.plan):
        with pytest.raises(
            InvalidSpec, match=r"parent: found .*inside, allowed: names that begin with builtin:"
        ):
            use(spec)


def test_a_path_that_none_can_have(places):
    assert refused(Confinement(roots=(places,)), parent=f"{places}/a\0b") == ["parent"]
