"""Students that were retrained for longer on their search's page, and how one more is asked for there."""

import shutil

import pytest

from minitron.recipe import TrainingRecipe
from nas.promotion import Promotion
from nas.search import Rungs, SearchState
from nas.service import SearchService
from nas.trial import TrialRole
from tests.fakes import ManualClock
from tests.unit.api.chromium import chromium
from tests.unit.api.seeded import NOW, Played, demo_spec
from tests.unit.api.server import running
from tests.unit.api.test_control_page import fill, press

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=400_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert CHROMIUM, "no Chromium on the path: install it, or leave these tests out with -m 'not browser'"
    with chromium(CHROMIUM, tmp_path_factory.mktemp("profile"), height=1000) as browser:
        yield browser


def played(server, **changes):
    service = SearchService(server.store, artifact_root=server.artifact_root)
    made = service.create(demo_spec(promotion=PROMOTION, rungs=Rungs(fractions=(0.75,), keep=0.5), **changes))
    return Played(server.store, ManualClock(NOW), made.id).train()


def test_the_promoted_stand_with_their_errors_and_who_wins(server, browser):
    search = played(server, name="promoted").promote().succeed(server.artifact_root).search
    browser.open(f"{server.address}/searches/{search.id}")
    winner = server.store.trials(search.id)[search.winner.trial_number]
    assert winner.role is TrialRole.PROMOTION
    text = browser.wait_for(
        "Promoted students",
        f"Trial {winner.number} is the student of trial {winner.promoted_from}, retrained for 399 k tokens more",
        "wins",
        f"Trial {winner.number}, {winner.architecture.name}, the student of trial {winner.promoted_from} retrained",
        f"{winner.measurement.loss:.4f}\nparent",
        "; before promotion ",
        f"± {search.choice.rivals[1].standard_error:.4f}",
    )
    for rival in search.choice.rivals:
        assert f"{rival.loss:.4f} ±" in text
        assert f"trial {rival.promoted_from}, " in text


def test_what_is_under_way_is_told_as_far_as_it_is(server, browser):
    search = played(server, name="promoting").promote(num_points=2).search
    browser.open(f"{server.address}/searches/{search.id}")
    browser.wait_for("Promoted students", "3 to come or under way", "98.3 k of 399 k", "running")


def test_a_completed_trial_is_promoted_from_its_page_and_a_wrong_recipe_told(server, browser):
    search = played(server, name="by hand").promote().succeed(server.artifact_root).search
    number = next(
        trial.number
        for trial in server.store.trials(search.id)
        if trial.role is TrialRole.RANDOM_ARCHITECTURE and trial.measurement
    )
    browser.open(f"{server.address}/searches/{search.id}?trial={number}")
    press(browser, "Promote")
    browser.wait_for(f"Promote trial {number}")
    fill(browser, "Tokens to train on", 500_000)
    browser.evaluate(
        """(() => {
            const field = document.querySelector('.q-dialog textarea');
            field.focus();
            document.execCommand('insertText', false, 'num_shards: 1');
        })()"""
    )
    press(browser, "Promote", last=True)
    browser.wait_for("promotion.num_shards", "found 1, allowed: 2 to 1000")
    browser.evaluate(
        """(() => {
            const field = document.querySelector('.q-dialog textarea');
            field.focus();
            field.select();
            document.execCommand('insertText', false, 'start: pruned');
        })()"""
    )
    press(browser, "Promote", last=True)
    browser.wait_for("Queued", f"Trial {number} ordered to be promoted")
    stored = server.store.get_search(search.id)
    assert (stored.state, stored.ended_as) == (SearchState.QUEUED, SearchState.SUCCEEDED)
    (promoted,) = stored.orders.promoted
    assert (promoted.trial_number, promoted.promotion.start) == (number, "pruned")
    assert promoted.promotion.training.num_tokens == 500_000
