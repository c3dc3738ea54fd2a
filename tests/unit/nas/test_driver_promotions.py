"""Promotions are driven as promised, whenever a runner is killed, and cost a search nothing when they fail."""

from dataclasses import replace

import pytest

from minitron.recipe import DataRecipe, TrainingRecipe
from nas.agenda import fail_promotions
from nas.driver import Driver
from nas.ledger import Ledger
from nas.orders import Cancel, Promote
from nas.promoting import left_to_promote
from nas.promotion import Promotion
from nas.search import Rungs, SearchState
from nas.trial import Failure, FailureKind, TrialRole, TrialState
from nas.verdicts import Verdict
from tests.fakes import FakeExecutor, Fuse, FusedStore, RunnerKilled
from tests.unit.nas.test_driver import Bench, begin, finish, point

PROMOTION = Promotion(
    training=TrainingRecipe(num_tokens=160, batch_tokens=8), top_k=2, num_points=2, num_shards=2
)
OTHER = replace(PROMOTION, num_points=1)
ERROR = Failure(kind=FailureKind.ERROR, message="no room")


class Promoting(Bench):
    """A bench whose search is done but for its promotions."""

    def __init__(self, directory, **changes):
        data = DataRecipe(sequence_length=8, validation_tokens=16)
        options = {
            "promotion": PROMOTION,
            "num_trials": 3,
            "num_points": 1,
            "rungs": Rungs(fractions=()),
            "data": data,
        }
        super().__init__(directory, **{**options, **changes})
        self.run()

    def promoter(self, fuse=None, promotion=PROMOTION):
        store = FusedStore(self.store, fuse or Fuse())
        return Driver(self.search, store, self.lease, self.clock, promotion=promotion)

    def promote(self, fuse=None, promotion=PROMOTION):
        driver = self.promoter(fuse, promotion)
        FakeExecutor(replace(self.simulation, spec=driver.spec), fuse=fuse).run(driver)
        return driver

    @property
    def promotions(self):
        return [trial for trial in self.trials if trial.role is TrialRole.PROMOTION]

    @property
    def left(self):
        return left_to_promote(self.store.get_search("s1"), self.trials)


@pytest.fixture
def bench(tmp_path):
    return Promoting(tmp_path / "bench")


def test_a_runner_killed_at_any_step_changes_nothing(tmp_path):
    undisturbed, fuse = Promoting(tmp_path / "undisturbed"), Fuse()
    undisturbed.promote(fuse)
    assert undisturbed.left == []
    assert fuse.num_burnt > 30
    for steps in range(fuse.num_burnt):
        killed = Promoting(tmp_path / str(steps))
        with pytest.raises(RunnerKilled):
            killed.promote(Fuse(steps))
        killed.take_over("runner 2")
        killed.run()  # what is left of its trials: nothing
        killed.promote()
        assert killed.decisions() == undisturbed.decisions()
        assert killed.simulation.trained() == undisturbed.simulation.trained()
        assert all(attempt.ended_at for attempt in killed.attempts)
        assert killed.store.get_search("s1").state is SearchState.COMPLETING


def test_promotions_by_several_recipes_do_not_meet(bench):
    bench.store.give_order("s1", Promote(trial_number=0, promotion=OTHER), at=bench.clock())
    assert bench.left == [PROMOTION, OTHER]
    driver = bench.promoter(promotion=OTHER)
    number = begin(driver)
    bench.take_over("runner 2")
    assert bench.left == [OTHER, PROMOTION]
    bench.promote()
    assert bench.trials[number].state is TrialState.RUNNING
    bench.promote(promotion=OTHER)
    assert bench.left == []
    assert bench.trials[number].measurement.num_tokens == 160
    assert [trial.promotion for trial in bench.promotions] == [OTHER, PROMOTION, PROMOTION]


def test_what_is_ordered_while_they_run_is_run_too(bench):
    driver = bench.promoter()
    begin(driver), begin(driver)
    (worst,) = {0, 1, 2} - {each.promoted_from for each in bench.promotions}
    bench.store.give_order("s1", Promote(trial_number=worst), at=bench.clock())
    for number in [trial.number for trial in bench.promotions]:
        finish(driver, number, 1.0)
    assert driver.next_trial().promoted_from == worst
    assert bench.left == [PROMOTION]


def test_a_cancelled_search_ends_its_promotions_and_keeps_all_else(bench):
    before = bench.trials
    driver = bench.promoter()
    number = begin(driver)
    bench.store.give_order("s1", Cancel(), at=bench.clock())
    bench.clock.advance(1)
    assert driver.on_tokens(number, 8) is Verdict.STOP
    assert driver.is_cancelled
    assert bench.trials[: len(before)] == before
    assert {trial.state for trial in bench.promotions} == {TrialState.CANCELLED}


def test_those_that_cannot_be_run_fail_with_the_reason_and_no_other(bench):
    bench.store.give_order("s1", Promote(trial_number=0, promotion=OTHER), at=bench.clock())
    driver = bench.promoter()
    begin(driver)
    before = [trial for trial in bench.trials if trial.role is TrialRole.SEARCH]

    def fail(promotion=None):
        search, ledger = bench.store.get_search("s1"), Ledger(bench.store, bench.lease)
        fail_promotions(search, bench.store, ledger, bench.clock, failure=ERROR, promotion=promotion)

    fail(PROMOTION)
    assert bench.left == [OTHER]
    assert [trial.failure for trial in bench.promotions] == [ERROR, ERROR]
    assert all(attempt.ended_at for attempt in bench.attempts)
    fail()
    assert bench.left == []
    assert [trial for trial in bench.trials if trial.role is TrialRole.SEARCH] == before


def test_progress_counts_the_tokens_of_promotions_alone(bench):
    driver = bench.promoter()
    number = begin(driver)
    driver.on_point(number, point(80), None)
    bench.clock.advance(1)
    driver.beat()
    progress = bench.store.get_search("s1").progress
    assert (progress.stage, progress.done, progress.total) == ("promotions", 80, 320)
