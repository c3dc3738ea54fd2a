"""The promoted student that wins is a version in MLflow's model registry, and its champion moves with the choice alone."""

from dataclasses import replace

import pytest
from mlflow.tracking import MlflowClient

from nas.promotion import Promotion
from nas.search import Comparisons, Rungs
from tests.home import new_home, tell_mlflow
from tests.micro import LABELS, LONGER
from workers.tracking.registry import CHAMPION, model_name

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

PROMOTION = Promotion(training=LONGER, distillation=LABELS, top_k=1, num_points=1, num_shards=4)
SIZES = {"nas.workspace", "nas.architecture", "nas.parameters"}


@pytest.fixture
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


def test_the_champion_is_the_promoted_student_that_is_chosen(home):
    search_id = home.create(
        num_trials=2, rungs=Rungs(fractions=()), comparisons=Comparisons(), promotion=PROMOTION
    )
    assert home.run(search_id) == 0
    first, champion = champion_of(home, search_id)
    (promotion,) = home.promotions(search_id)
    search = home.store.get_search(search_id)
    assert promotion.number == search.winner.trial_number
    assert first == [champion]
    assert lineage_of(champion) == {
        "nas.search_id": search_id,
        "nas.trial": str(promotion.number),
        "nas.parent": search.spec.parent,
        "nas.parent_fingerprint": search.made_from.parent,
        "nas.parent_loss": str(search.parent_loss),
        "nas.promoted_from": str(promotion.promoted_from),
        "nas.loss": str(promotion.measurement.loss),
        "nas.tokens": str(LONGER.num_tokens),
        "nas.path": search.winner.path,
    }

    (other,) = {0, 1} - {promotion.promoted_from}
    worse = replace(PROMOTION, training=replace(LONGER, peak_learning_rate=1e-9))
    home.promote(search_id, other, worse)
    assert home.run(search_id) == 0
    assert home.store.get_search(search_id).winner == search.winner
    assert champion_of(home, search_id) == (first, champion)

    better = replace(PROMOTION, training=replace(LONGER, num_tokens=4 * LONGER.num_tokens))
    home.promote(search_id, other, better)
    assert home.run(search_id) == 0
    chosen = home.promotions(search_id)[-1]
    assert chosen.promotion == better
    assert home.store.get_search(search_id).winner.trial_number == chosen.number
    versions, champion = champion_of(home, search_id)
    assert versions == [*first, champion]
    assert lineage_of(champion)["nas.trial"] == str(chosen.number)
    assert lineage_of(champion)["nas.promoted_from"] == str(other)


def champion_of(home, search_id):
    """Tell MLflow all, and return the versions of a search, without their aliases, and which is the champion."""
    tell_mlflow(home.settings)
    client = MlflowClient(tracking_uri=home.settings.tracking_uri)
    found = sorted(
        client.search_model_versions(f"tags.`nas.search_id` = '{search_id}'"),
        key=lambda version: int(version.version),
    )
    name = model_name(home.store.get_search(search_id))
    champion = client.get_model_version_by_alias(name, CHAMPION).version
    for version in found:
        files = {file.path for file in client.list_artifacts(version.run_id, "winner")}
        assert {"winner/README.md", "winner/model.safetensors"} <= files
    versions = [(int(version.version), version.tags) for version in found]
    (chosen,) = (version for version in versions if version[0] == int(champion))
    return versions, chosen


def lineage_of(version):
    """Return what a version says of where it comes from, without its sizes."""
    _, tags = version
    return {name: value for name, value in tags.items() if name not in SIZES}
