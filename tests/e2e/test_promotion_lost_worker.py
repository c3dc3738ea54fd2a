"""The worker of a promotion dies: it goes on from its latest state to the same bits, and nothing counts twice."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from minitron.recipe import TrainingRecipe
from nas.layout import states_directory, student_directory
from nas.log_ranges import LogRanges
from nas.promotion import Promotion
from nas.search import Comparisons, Rungs, SearchState
from nas.service import SearchService
from nas.trial import FailureKind
from tests.home import new_home, once
from tests.micro import LABELS, SEQUENCE_LENGTH, STEP_TOKENS

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

LONG = Promotion(
    training=TrainingRecipe(
        num_tokens=1_900 * SEQUENCE_LENGTH, batch_tokens=SEQUENCE_LENGTH, precision="float32"
    ),
    distillation=LABELS,
    top_k=1,
    num_points=1,
    num_shards=2,
)
"""Seconds of training, so that there are states on the way."""


@pytest.fixture
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


def test_killed_it_goes_on_from_its_state_to_what_an_undisturbed_one_comes_to(home):
    search_id = home.create(
        num_trials=1, rungs=Rungs(fractions=()), comparisons=Comparisons(), promotion=LONG, checkpoint_seconds=0.1
    )  # fmt: skip
    process = home.start(search_id)
    once(lambda: home.promotions(search_id), process)
    (promotion,) = home.promotions(search_id)
    states = states_directory(home.settings.artifact_root, promotion)
    once(lambda: list(states.glob("[0-9]*")), process)
    (attempt,) = home.store.attempts(search_id, [promotion.number])
    os.kill(int(attempt.worker.rpartition(":")[2]), signal.SIGKILL)
    assert process.wait(300) == 0, home.log

    assert home.store.get_search(search_id).state is SearchState.SUCCEEDED
    lost, whole = home.store.attempts(search_id, [promotion.number])
    assert lost.failure.kind is FailureKind.WORKER_LOST
    assert whole.failure is None
    assert lost.worker != whole.worker
    logs = LogRanges(home.store, artifact_root=home.settings.artifact_root, logs=home.settings.log_directory)
    assert f"goes on from {states}/" in logs.of_attempt(search_id, promotion.number, whole.number).text
    require_tokens(home, search_id, 1)

    home.promote(search_id, promotion.promoted_from, replace(LONG, num_shards=4))
    assert home.run(search_id) == 0
    disturbed, undisturbed = home.promotions(search_id)
    assert len(home.store.attempts(search_id, [undisturbed.number])) == 1
    assert points_of(home, disturbed) == points_of(home, undisturbed)
    left, right = weights_of(home, disturbed), weights_of(home, undisturbed)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in right)
    require_tokens(home, search_id, 2)


def points_of(home, trial):
    """Return all that an interruption must not change of what was measured on the way."""
    points = [each.point for each in home.store.points(trial.search_id, [trial.number])]
    assert [point.num_tokens for point in points] == [0, LONG.training.num_tokens]
    train_losses = [point.train_loss and pytest.approx(point.train_loss, rel=1e-9) for point in points]
    return [point.loss for point in points], train_losses


def weights_of(home, trial):
    return load_file(student_directory(home.settings.artifact_root, trial) / "model.safetensors")


def require_tokens(home, search_id, num_promotions):
    """Require that all who count tokens count those of a trial and so many promotions."""
    tokens = 8 * STEP_TOKENS + num_promotions * LONG.training.num_tokens
    service = SearchService(home.store, artifact_root=home.settings.artifact_root)
    assert service.get(search_id).tokens_done == tokens
    assert service.report(search_id).spending.num_tokens == tokens
    assert home.store.totals().trained_tokens == tokens
