"""The best students of a search are retrained for longer, and one of them wins: at its end, or ordered when it is over."""

import shutil
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from nas.clock import utc_now
from nas.orders import Cancel
from nas.promotion import Promotion
from nas.resources import Resources
from nas.search import SearchState
from nas.trial import FailureKind, TrialRole, TrialState
from tests.home import LEASE_SECONDS, new_home, once
from tests.micro import LABELS, LONGER, STEP_TOKENS

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

PROMOTION = Promotion(training=LONGER, distillation=LABELS, top_k=2, num_points=2, num_shards=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


@pytest.fixture(scope="module")
def promoted(home):
    """Return the id of a search that promoted its two best."""
    search_id = home.create(promotion=PROMOTION)
    assert home.run(search_id) == 0
    return search_id


@pytest.fixture(scope="module")
def plain(home):
    """Return the id of a search that promoted none."""
    search_id = home.create()
    assert home.run(search_id) == 0
    return search_id


def test_the_best_go_on_from_their_students_and_one_of_them_wins(home, promoted):
    search, trials = home.store.get_search(promoted), home.store.trials(promoted)
    assert search.state is SearchState.SUCCEEDED
    made = home.promotions(promoted)
    searched = [trial for trial in trials if trial.role is TrialRole.SEARCH and trial.measurement]
    best = sorted(searched, key=lambda trial: trial.measurement.loss)[:2]
    assert [trial.promoted_from for trial in made] == [trial.number for trial in best]
    for trial, source in zip(made, best, strict=True):
        points = [each.point for each in home.store.points(promoted, [trial.number])]
        assert [point.num_tokens for point in points] == [0, 8 * STEP_TOKENS, 16 * STEP_TOKENS]
        assert points[0].loss == pytest.approx(source.measurement.loss, rel=1e-6)
        measured = trial.measurement
        assert measured.loss_before_retraining == points[0].loss
        assert len(measured.shard_losses) == 4
        assert sum(measured.shard_losses) / 4 == pytest.approx(measured.loss, rel=1e-6)
        assert trial.kept_layers == source.kept_layers
    assert all(trial.measurement.loss < trial.measurement.loss_before_retraining for trial in made)
    assert search.choice.winner == search.winner.trial_number == search.choice.trial_number
    assert {rival.trial_number for rival in search.choice.rivals} == {trial.number for trial in made}


def test_the_card_says_both_recipes_and_all_losses(home, promoted):
    search, trials = home.store.get_search(promoted), home.store.trials(promoted)
    winner = trials[search.winner.trial_number]
    card = (home.settings.artifact_root / search.winner.path / "README.md").read_text(encoding="utf-8")
    assert "## Recipe: training" in card
    assert "## Recipe: promotion, training" in card
    assert f"| {16 * STEP_TOKENS:,} |" in card.split("## Recipe: promotion, training")[1].split("##")[0]
    assert f"| student | {winner.measurement.loss:.4f} |" in card
    source = trials[winner.promoted_from]
    assert f"| student of trial {source.number} | {source.measurement.loss:.4f} |" in card
    assert f"| student before retraining | {source.measurement.loss_before_retraining:.4f} |" in card


def test_killed_while_it_promotes_it_comes_to_the_same_bits(home, promoted):
    search_id = home.create(promotion=PROMOTION)
    process = home.start(search_id)
    once(lambda: any(each.num_attempts for each in home.promotions(search_id)), process)
    process.kill()
    process.wait()
    time.sleep(LEASE_SECONDS)
    assert home.run(search_id) == 0
    assert home.results(search_id) == home.results(promoted)
    left, right = home.weights(search_id), home.weights(promoted)
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert all(attempt.ended_at for attempt in home.store.attempts(search_id))


def test_students_of_a_search_that_is_over_are_promoted_by_order(home, plain):
    before, trials = home.store.get_search(plain), home.store.trials(plain)
    number = before.winner.trial_number
    queued = home.promote(plain, number, PROMOTION)
    assert queued.state is SearchState.QUEUED
    assert queued.winner == before.winner
    assert home.promote(plain, number, PROMOTION) == queued
    assert home.run(plain) == 0
    search = home.store.get_search(plain)
    (promotion,) = home.promotions(plain)
    assert search.state is SearchState.SUCCEEDED
    assert search.winner.trial_number == promotion.number
    assert home.store.trials(plain)[: len(trials)] == trials
    assert home.promote(plain, number, PROMOTION) == search, "it is done"


def test_a_promotion_that_fails_leaves_all_as_it_was_and_may_be_ordered_again(home, plain):
    before = home.store.get_search(plain)
    (first, *_) = home.promotions(plain)
    too_long = replace(PROMOTION, training=replace(LONGER, num_tokens=10**6))
    home.promote(plain, first.promoted_from, too_long)
    assert home.run(plain) == 0
    search = home.store.get_search(plain)
    (failed,) = [trial for trial in home.promotions(plain) if trial.promotion == too_long]
    assert failed.state is TrialState.FAILED
    assert failed.failure.kind is FailureKind.ERROR
    assert "training.num_tokens" in failed.failure.message
    assert (search.state, search.winner, search.choice) == (before.state, before.winner, before.choice)
    assert home.promote(plain, first.promoted_from, too_long).state is SearchState.QUEUED
    home.store.give_order(plain, Cancel(), at=utc_now())
    assert home.store.get_search(plain).state is SearchState.SUCCEEDED
    assert home.store.get_search(plain).winner == before.winner


def test_a_student_that_is_gone_is_made_again_and_promoted_by_any_recipe(home, promoted):
    """Two orders in one run: from the student as before, and pruned anew."""
    trials, first = home.store.trials(promoted), home.promotions(promoted)[0]
    number = first.promoted_from
    student = home.settings.artifact_root / trials[number].checkpoint
    weights = load_file(student / "model.safetensors")
    shutil.rmtree(student)
    again = replace(PROMOTION, num_points=1)
    anew = replace(PROMOTION, start="pruned")
    for promotion in (again, anew):
        home.promote(promoted, number, promotion)
    assert home.run(promoted) == 0
    found = load_file(student / "model.safetensors")
    assert all(torch.equal(weights[name], found[name]) for name in weights)
    made = {trial.promotion: trial for trial in home.promotions(promoted)}
    assert made[again].measurement.loss == first.measurement.loss
    before = trials[number].measurement.loss_before_retraining
    assert made[anew].measurement.loss_before_retraining == pytest.approx(before, rel=1e-6)
    assert made[anew].kept_layers == trials[number].kept_layers


def test_two_processes_promote_what_one_process_searched(home, promoted):
    first = home.promotions(promoted)[0]
    home.promote(promoted, first.promoted_from, replace(PROMOTION, resources=Resources(processes=2)))
    assert home.run(promoted) == 0
    together = home.promotions(promoted)[-1].measurement
    assert together.loss == pytest.approx(first.measurement.loss, rel=1e-4)
    assert together.shard_losses == pytest.approx(first.measurement.shard_losses, rel=1e-4)


def test_a_cancelled_search_ends_cancelled_again_with_a_winner(home):
    search_id = home.create(num_trials=6)
    process = home.start(search_id)

    def completed():
        return [each for each in home.store.trials(search_id) if each.state is TrialState.COMPLETED]

    once(completed, process)
    home.store.give_order(search_id, Cancel(), at=utc_now())
    assert process.wait(60) == 0
    assert home.store.get_search(search_id).state is SearchState.CANCELLED
    number = completed()[0].number
    home.promote(search_id, number, PROMOTION)
    assert home.run(search_id) == 0
    search = home.store.get_search(search_id)
    assert search.state is SearchState.CANCELLED
    assert search.winner.trial_number == home.promotions(search_id)[0].number
