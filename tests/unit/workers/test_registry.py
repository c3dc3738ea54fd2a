"""Winners become versions in MLflow's model registry, once each, whatever is killed, refused or said again."""

import logging
from dataclasses import replace

import mlflow as mlflow_package
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from nas.outbox import RegisteredVersion
from nas.search import SearchState, Winner
from nas.trial import Failure, FailureKind
from tests.searches import make_search
from tests.unit.workers.mlflow_bench import DATABASE
from tests.unit.workers.test_tracking import WORDS, bench, mlflow  # noqa: F401 -- fixtures
from workers.tracking.registry import CHAMPION, WORKSPACE, model_name
from workers.tracking.target import client_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated"  # MLflow's own models, on the SQLAlchemy that we use
)


@pytest.fixture
def named(bench, request):  # noqa: F811
    """Make searches whose registered model is this test's own."""
    return lambda **changes: bench(**{"name": request.node.name} | changes)


def test_a_winner_is_a_version_that_says_where_it_comes_from(named, tmp_path):
    search = named()
    winner = search.succeed()
    assert search.project()
    (version,) = search.versions()
    stored = search.store.get_search(search.search_id)
    run = next(run for run in search.runs("attempt") if run.data.tags["nas.trial"] == str(winner.number))
    assert version.name == f"tiny-{search.spec.name}"
    assert version.run_id == run.info.run_id
    assert version.tags == {
        "nas.search_id": search.search_id,
        "nas.trial": str(winner.number),
        "nas.workspace": "default",
        "nas.parent": "builtin:tiny",
        "nas.parent_fingerprint": "p1",
        "nas.architecture": winner.architecture.name,
        "nas.parameters": str(winner.architecture.parameter_count),
        "nas.loss": str(winner.measurement.loss),
        "nas.parent_loss": "1.0",
        "nas.tokens": str(winner.measurement.num_tokens),
        "nas.path": stored.winner.path,
    }
    assert winner.architecture.name in version.description
    assert f"{winner.measurement.loss:.4f}" in version.description
    assert search.champion() == search.search_id
    outbox = search.store.outboxes.at("here")
    assert search.store.outboxes.versions(outbox.id, search.search_id) == [
        RegisteredVersion(
            search_id=search.search_id,
            trial_number=winner.number,
            name=version.name,
            version=int(version.version),
        )
    ]
    mlflow_package.set_tracking_uri(search.uri)
    try:
        taken = mlflow_package.artifacts.download_artifacts(
            f"models:/{version.name}@{CHAMPION}", dst_path=str(tmp_path)
        )
    finally:
        mlflow_package.set_tracking_uri(None)
    card = search.directory / stored.winner.path / "README.md"
    assert (tmp_path / "README.md").read_bytes() == card.read_bytes(), taken


def test_searches_of_a_name_share_a_model_whose_champion_is_the_newest(named):
    first = named()
    first.succeed()
    first.project()
    second = first.another(f"{first.search_id}-2")
    second.succeed()
    second.project()
    (old,), (new,) = first.versions(), second.versions()
    assert old.name == new.name
    assert int(new.version) == int(old.version) + 1
    assert second.champion() == second.search_id
    first.rewind()
    assert first.project()
    assert (first.versions()[0].version, second.versions()[0].version) == (old.version, new.version)
    assert second.champion() == second.search_id


def test_what_people_decided_about_a_version_stays_when_all_is_sent_again(named):
    first = named()
    first.succeed()
    second = first.another(f"{first.search_id}-2")
    second.succeed()
    first.project()
    name, kept = first.versions()[0].name, first.versions()[0].version
    first.client.set_registered_model_alias(name, CHAMPION, kept)
    first.client.delete_model_version(name, second.versions()[0].version)
    first.rewind()
    assert first.project()
    assert second.versions() == []
    assert first.client.get_model_version_by_alias(name, CHAMPION).version == kept


def test_a_later_winner_of_a_search_is_a_version_beside_the_earlier_one(named):
    """As of a trial that was promoted after the search's end."""
    search = named()
    first = search.succeed()
    search.project()
    other = _succeeded(search, first)
    for _ in range(2):
        assert search.project()
        old, new = search.versions()
        assert (old.tags["nas.trial"], new.tags["nas.trial"]) == (str(first.number), str(other.number))
        assert search.client.get_model_version_by_alias(new.name, CHAMPION).version == new.version
        assert search.parent().data.tags["nas.winner"] == str(other.number)
        files = [search.client.list_artifacts(each.run_id, "winner") for each in (old, new)]
        assert [[file.file_size for file in each] for each in files] == [[6], [14]]
        search.rewind()


def test_both_winners_are_told_to_an_mlflow_that_was_away_meanwhile(named):
    search = named()
    first = search.succeed()
    other = _succeeded(search, first)
    assert search.project()
    old, new = search.versions()
    assert (old.tags["nas.trial"], new.tags["nas.trial"]) == (str(first.number), str(other.number))
    assert (old.tags["nas.path"], new.tags["nas.path"]) == (f"winner-{search.search_id}", "promoted")
    assert search.client.get_model_version_by_alias(new.name, CHAMPION).version == new.version


def _succeeded(search, first):
    """Have another trial win a search that has ended, as one that was promoted, and return that."""
    trials = search.store.trials(search.search_id)
    other = next(each for each in trials if each.measurement and each.number != first.number)
    directory = search.directory / "promoted"
    directory.mkdir()
    (directory / "README.md").write_text("# another card", encoding="utf-8")
    stored = search.store.get_search(search.search_id)
    again = replace(stored, winner=Winner(trial_number=other.number, path=directory.name))
    search.store._put_search(search.store._records[search.search_id], again)
    return other


def test_why_no_student_could_be_promoted_later_is_told_of_the_search_and_its_version_stays(named):
    search = named()
    search.succeed()
    projector = search.projector()
    while projector._round():
        pass
    (version,) = search.versions()
    stored = search.store.get_search(search.search_id)
    failure = Failure(kind=FailureKind.ERROR, message="the disk burnt")
    search.store._put_search(search.store._records[search.search_id], replace(stored, failure=failure))
    while projector._round():
        pass
    assert search.parent().data.tags["nas.failure"] == "the disk burnt"
    assert search.parent().info.status == "FINISHED"
    assert [each.version for each in search.versions()] == [version.version]


def test_a_search_without_a_winner_is_no_model(named):
    search = named()
    search.run()
    search.end(SearchState.CANCELLED)
    assert search.project()
    with pytest.raises(MlflowException, match="not found"):
        search.client.get_registered_model(model_name(search.search))


def test_a_winner_whose_files_are_gone_is_no_version(named):
    search = named()
    search.succeed()
    (search.directory / f"winner-{search.search_id}").rename(search.directory / "moved")
    assert search.project()
    assert search.versions() == []
    assert search.parent().info.status == "FINISHED"


def test_a_model_of_somebody_else_stays_theirs(named, caplog):
    search = named()
    search.project()
    name = model_name(search.search)
    search.client.create_registered_model(name)
    search.succeed()
    assert search.project()
    assert search.versions() == []
    assert search.client.get_registered_model(name).aliases == {}
    assert search.parent().info.status == "FINISHED"
    (said,) = [record.message for record in caplog.records if "never gets all" in record.message]
    assert f"registering its winner as {name}: it is there already" in said


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "FEATURE_DISABLED", "ENDPOINT_NOT_FOUND"])
def test_a_registry_that_is_closed_holds_nothing_up_and_is_asked_again_when_told_to(
    named, caplog, monkeypatch, code
):
    search = named(name=f"closed {code}")
    search.succeed()

    def closed(*_, **__):
        raise MlflowException("no", error_code=_number(code))

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_registered_model", closed)
        with caplog.at_level(logging.WARNING):
            assert search.project()
    assert search.parent().info.status == "FINISHED"
    assert "registering its winner as tiny-closed" in caplog.text
    search.rewind()
    assert search.project()
    assert len(search.versions()) == 1


def _number(code):
    from mlflow.protos.databricks_pb2 import ErrorCode

    return ErrorCode.Value(code)


def test_a_winner_whose_files_lie_with_its_search_is_registered_from_there(named, monkeypatch):
    """Earlier versions of this put them there, and registered nothing."""
    search = named()
    winner = search.succeed()
    with monkeypatch.context() as patch:
        patch.setattr("workers.tracking.projection._Runs.at", lambda *_: None)
        patch.setattr("workers.tracking.projection._Runs._register", lambda *_: None)
        search.project()
    assert search.versions() == []
    search.rewind()
    assert search.project()
    (version,) = search.versions()
    assert version.run_id == search.parent().info.run_id
    assert version.tags["nas.trial"] == str(winner.number)


@pytest.mark.parametrize(
    ("parent", "name", "workspace", "expected"),
    [
        ("builtin:tiny", "half", "default", "tiny-half"),
        ("hub:ORG/Model-3.1@" + "a" * 40, "a/b: c", "default", "Model-3.1-a-b-c"),
        ("hub:ORG/NAME@main#sub/Model.Q4.gguf", "x", "default", "Model.Q4-x"),
        ("/home/me/llama/", "..", "default", "llama-search-1"),
        ("./", "", "team", "team-search-1"),
        ("../m.gguf", "größer", "team", "team-m-größer"),
        ("builtin:tiny", "n" * 200, "w" * 64, "w" * 64 + "-tiny-" + "n" * 171 + "-33e9f172"),
        ("/home/me/" + "p" * 240, "n" * 200, "default", "p" * 240 + "-3a78e36d"),
    ],
)
def test_a_model_is_named_after_parent_and_search(mlflow, parent, name, workspace, expected):  # noqa: F811
    search = make_search("search-1", workspace=workspace)
    object.__setattr__(search.spec, "parent", parent)
    object.__setattr__(search.spec, "name", name)
    assert model_name(search) == expected
    client = client_of(DATABASE.format(mlflow), mlflow / "artifacts")
    client.create_registered_model(expected, tags={WORKSPACE: workspace})
    assert client.get_registered_model(expected).name == expected


def test_every_word_that_changes_mlflow_is_one_that_may_be_the_last(named, monkeypatch):
    """The test of killed projectors knows them all."""
    spoken = set()
    for name in dir(MlflowClient):
        if name.startswith(("create_", "set_", "log_", "delete_", "update_", "rename_")):
            said = getattr(MlflowClient, name)
            monkeypatch.setattr(
                MlflowClient,
                name,
                lambda *given, said=said, name=name, **options: spoken.add(name) or said(*given, **options),
            )
    search = named()
    search.succeed()
    search.project()
    assert spoken <= {*WORDS, "create_experiment", "set_experiment_tag"}
    assert {"create_model_version", "set_registered_model_alias"} <= spoken
