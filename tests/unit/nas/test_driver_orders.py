# ruff: noqa: F811 - a test that takes a fixture shadows its import
"""The driver obeys what people order while it runs, and a paused search ends as one that never was."""

from datetime import timedelta

import pytest

from nas.errors import LostLease
from nas.frontier import best_trial
from nas.orders import Cancel, Enqueue, Extend, Kill, Pause, Resume, StopTrial
from nas.search import Comparisons, Rungs, SearchState
from nas.trial import FailureKind, TrialRole, TrialState
from nas.verdicts import Next, Verdict
from tests.fakes import Fuse, RunnerKilled
from tests.unit.nas.test_driver import Bench, begin, bench, finish, point, states  # noqa: F401 - a fixture


class Ordering(Fuse):
    """Gives an order at a step, and kills the runner at a later one, if at all."""

    def __init__(self, store, order, at, **options):
        super().__init__(**options)
        self._store = store
        self._order = order
        self._at = at

    def burn(self):
        super().burn()
        if self.num_burnt == self._at:
            self._store.give_order("s1", self._order, at=self._store._clock())


def give(bench, order):
    """Give an order, and let the time pass until it is looked for."""
    search = bench.store.give_order("s1", order, at=bench.clock(), by="ann")
    bench.clock.advance(1)
    return search


def eager(directory, **changes):
    """Return a bench on which every call of the driver looks for orders."""
    made = Bench(directory, **changes)
    made.clock.step = timedelta(seconds=1)
    return made


def paused(bench):
    """Do what a runner does once its driver is paused, and check what it leaves."""
    assert all(attempt.ended_at for attempt in bench.attempts)
    assert TrialState.RUNNING not in {trial.state for trial in bench.trials}
    now, search = bench.clock(), bench.store.get_search("s1")
    if search.state is not SearchState.PAUSED:
        bench.store.save_search(search.moved(SearchState.PAUSED, now), bench.lease)
    assert bench.store.unclaimed(now) == []
    assert bench.store.give_order("s1", Resume(), at=now).state is SearchState.QUEUED
    bench.take_over("runner 2")


# Pause


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_a_search_that_is_paused_at_any_step_ends_as_if_it_never_had_been(tmp_path, max_parallel):
    changes = {
        "num_trials": 4,
        "max_parallel": max_parallel,
        "num_points": 2,
        "comparisons": Comparisons(random_architectures=1, random_indices=1),
    }
    undisturbed, fuse = eager(tmp_path / "undisturbed", **changes), Fuse()
    undisturbed.run(fuse)
    num_paused = 0
    for steps in range(1, fuse.num_burnt, 3):
        search = eager(tmp_path / str(steps), **changes)
        driver, _ = search.run(Ordering(search.store, Pause(), steps))
        num_paused += driver.is_paused
        if driver.is_paused:
            assert all(attempt.failure is None for attempt in search.attempts)
            paused(search)
            search.run()
        assert search.decisions() == undisturbed.decisions()
        assert search.simulation.trained() == undisturbed.simulation.trained()
        assert search.store.get_search("s1").state is SearchState.COMPLETING
    assert num_paused > 20


def test_a_runner_killed_while_it_pauses_changes_nothing_either(tmp_path):
    changes = {"num_trials": 4, "num_points": 2}
    undisturbed, fuse = eager(tmp_path / "undisturbed", **changes), Fuse()
    undisturbed.run(fuse)
    num_killed = 0
    for steps in range(1, fuse.num_burnt - 5, 6):
        for later in range(1, 5):
            search = eager(tmp_path / f"{steps}-{later}", **changes)
            try:
                search.run(Ordering(search.store, Pause(), steps, steps=steps + later))
            except RunnerKilled:
                num_killed += 1
                search.take_over("runner 2")
                driver, _ = search.run()
                assert driver.is_paused
            paused(search)
            search.run()
            assert search.decisions() == undisturbed.decisions()
            assert search.simulation.trained() == undisturbed.simulation.trained()
    assert num_killed > 15


def test_a_paused_search_hands_out_nothing_and_tells_what_runs_to_end(bench):
    bench = bench(max_parallel=3)
    driver = bench.driver()
    waiting, running = begin(driver), begin(driver)
    driver.on_point(waiting, point(40), "a")
    give(bench, Pause())
    assert driver.on_tokens(running, 8) is Verdict.WAIT_AT_RUNG
    assert driver.is_paused
    assert driver.next_trial() is Next.DONE
    assert states(bench) == ["WAITING", "PROPOSED"]
    assert all(attempt.ended_at and attempt.failure is None for attempt in bench.attempts)
    late = driver.on_point(running, point(40), "b")
    assert late is Verdict.WAIT_AT_RUNG
    assert [each.point.num_tokens for each in bench.store.points("s1")] == [40]


def test_a_trial_that_was_measured_before_its_runner_was_lost_and_then_paused_is_compared(bench):
    """Not trained on: the point at its rung is stored, what follows from it is not."""
    bench = bench(num_trials=4)
    number = begin(bench.driver())
    trial = bench.trials[number].saved("a")
    bench.store.save_trial(trial, bench.lease)
    driver = bench.driver()
    driver._ledger.add_point(number, point(40))
    bench.store.save_trial(trial.interrupted(), bench.lease)
    bench.take_over("runner 2")
    assert bench.driver().next_trial().number != number
    assert bench.trials[number].state is TrialState.WAITING


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_a_search_that_is_paused_after_its_runner_was_lost_ends_as_if_nothing_had_been(
    tmp_path, max_parallel
):
    changes = {"num_trials": 4, "num_points": 2, "max_parallel": max_parallel}
    undisturbed, fuse = eager(tmp_path / "undisturbed", **changes), Fuse()
    undisturbed.run(fuse)
    num_running = 0
    for steps in range(1, fuse.num_burnt, 3):
        search = eager(tmp_path / str(steps), **changes)
        with pytest.raises(RunnerKilled):
            search.run(Fuse(steps=steps))
        num_running += TrialState.RUNNING in {trial.state for trial in search.trials}
        search.store.release(search.lease)
        search.store.give_order("s1", Pause(), at=search.clock())
        paused(search)
        search.run()
        assert search.decisions() == undisturbed.decisions()
        assert search.simulation.trained() == undisturbed.simulation.trained()
    assert num_running > 20


# Kill


def test_a_killed_search_ends_its_driver_at_once(bench):
    bench = bench()
    driver = bench.driver()
    number = begin(driver)
    give(bench, Kill())
    with pytest.raises(LostLease, match="is CANCELLED, ended by somebody else"):
        driver.on_tokens(number, 8)
    assert states(bench) == ["CANCELLED"]


# Limits


def test_a_search_may_be_given_more_trials_and_proposes_first_what_it_would_have(tmp_path):
    undisturbed, extended = Bench(tmp_path / "4", num_trials=4), eager(tmp_path / "7", num_trials=4)
    undisturbed.run()
    give(extended, Extend(num_trials=7))
    driver, _ = extended.run()
    assert driver.failure is None
    assert len(extended.trials) == 7
    same = slice(None, 4)
    assert [t.architecture for t in extended.trials[same]] == [t.architecture for t in undisturbed.trials]
    assert extended.store.get_search("s1").spec.num_trials == 4


def test_a_search_may_be_given_fewer_trials(bench):
    bench = bench(num_trials=50)
    begin(bench.driver())
    give(bench, Extend(num_trials=3))
    bench.take_over("runner 2")
    bench.run()
    assert len(bench.trials) == 3


def test_a_search_may_be_given_more_tokens_and_proposes_first_what_it_would_have(tmp_path):
    fixed = {"num_trials": 50, "max_parallel": 1, "rungs": Rungs(fractions=())}
    undisturbed, extended = (
        Bench(tmp_path / "1", **fixed, max_tokens=3 * 80 + 79),
        eager(tmp_path / "2", **fixed, max_tokens=80),
    )
    undisturbed.run()
    assert states(undisturbed) == ["COMPLETED"] * 3
    begin(extended.driver())
    give(extended, Extend(max_tokens=5 * 80))
    extended.take_over("runner 2")
    extended.run()
    assert states(extended) == ["COMPLETED"] * 5
    same = slice(None, 3)
    assert [t.architecture for t in extended.trials[same]] == [t.architecture for t in undisturbed.trials]


def test_a_search_that_is_given_fewer_tokens_settles_what_waits(bench):
    bench = bench(num_trials=50, max_parallel=3)
    driver = bench.driver()
    numbers = [begin(driver) for _ in range(3)]
    for number, loss in zip(numbers, (2.0, 3.0, 2.5), strict=True):
        assert driver.on_point(number, point(40, loss), "a") is Verdict.WAIT_AT_RUNG
    give(bench, Extend(max_tokens=3 * 40 + 79))
    assert driver.next_trial().number == numbers[0]
    assert states(bench) == ["WAITING", "STOPPED", "STOPPED"]


@pytest.mark.parametrize("step", [1, 10, 20, 30, 40, 50, 60])
def test_trials_that_are_added_at_any_step_are_tried_or_refused(tmp_path, step):
    """An order that was accepted is never lost, however near the end it comes."""
    search = eager(tmp_path / "bench", num_trials=2, num_points=2, rungs=Rungs(fractions=()))
    search.run(Ordering(search.store, Extend(num_trials=4), step))
    accepted = search.store.get_search("s1").orders.num_trials == 4
    assert len(search.trials) == (4 if accepted else 2)
    assert all(trial.state is TrialState.COMPLETED for trial in search.trials)


def test_an_order_between_the_last_decision_and_its_write_is_obeyed(bench):
    bench = bench(num_trials=1, rungs=Rungs(fractions=()))
    driver = bench.driver()
    finish(driver, begin(driver), 2.0)
    save = bench.store.save_search

    def order_first(search, lease):
        bench.store.save_search = save
        bench.store.give_order("s1", Extend(num_trials=2), at=bench.clock())
        save(search, lease)

    bench.clock.step = timedelta(0)  # no progress is stored in between
    bench.store.save_search = order_first
    assert driver.next_trial().number == 1
    assert bench.store.get_search("s1").state is SearchState.RUNNING


def test_more_trials_run_at_once_as_soon_as_that_is_wanted(bench):
    bench = bench(max_parallel=1)
    driver = bench.driver()
    begin(driver)
    assert driver.next_trial() is Next.WAIT
    give(bench, Extend(max_parallel=2))
    assert driver.next_trial().number == 1
    give(bench, Extend(max_parallel=1))
    assert driver.next_trial() is Next.WAIT


# Enqueued architectures


def untried(driver, *, beside=()):
    return next(each for each in reversed(driver.space.architectures) if each not in beside)


def test_an_enqueued_architecture_is_tried_before_the_next_proposal_in_the_place_of_one(bench):
    bench = bench(num_trials=4, max_parallel=1)
    driver = bench.driver()
    number = begin(driver)
    wanted = untried(driver)
    bench.store.give_order("s1", Enqueue(architecture=wanted), at=bench.clock(), by="ann")
    assert driver.on_point(number, point(40), "a") is Verdict.WAIT_AT_RUNG
    trial = driver.next_trial()
    assert (trial.architecture, trial.role, trial.enqueued_by) == (wanted, TrialRole.SEARCH, "ann")
    bench.take_over("runner 2")
    bench.run()
    assert len(bench.trials) == 4
    assert [trial.enqueued_by for trial in bench.trials] == [None, "ann", None, None]
    assert len({trial.architecture for trial in bench.trials}) == 4


def test_after_the_last_proposal_an_enqueued_architecture_is_one_more(bench):
    bench = bench(num_trials=2, max_parallel=3)
    driver = bench.driver()
    first, second = begin(driver), begin(driver)
    assert driver.next_trial() is Next.WAIT
    give(bench, Enqueue(architecture=untried(driver, beside={trial.architecture for trial in bench.trials})))
    third = begin(driver)
    for number, loss in ((first, 3.0), (second, 2.5), (third, 2.0)):
        finish(driver, number, loss)
    while (trial := driver.next_trial()) not in Next:
        driver.on_attempt(trial.number, "again")
        finish(driver, trial.number, 2.0)
    assert best_trial(bench.trials).number == third


def test_what_is_enqueued_is_told_to_the_sampler_like_any_other(bench):
    """The proposal after it differs from the one there would have been, and is repeatable."""

    def proposed(wanted):
        made = bench(num_trials=12, max_parallel=1, rungs=Rungs(fractions=()))
        driver = made.driver()
        for _ in range(7):
            finish(driver, begin(driver), 2.0)
        if wanted:
            give(made, Enqueue(architecture=untried(driver, beside={t.architecture for t in made.trials})))
            finish(driver, begin(driver), 0.1)
        return [driver.next_trial().architecture, made.trials[6].architecture]

    assert proposed(wanted=True)[1] == proposed(wanted=False)[1]
    assert proposed(wanted=True) == proposed(wanted=True)
    assert proposed(wanted=True)[0] != proposed(wanted=False)[0]


# One trial


def test_one_trial_is_stopped_wherever_it_stands_and_the_search_goes_on(bench):
    bench = bench(num_trials=5, max_parallel=3)
    driver = bench.driver()
    waiting, running = begin(driver), begin(driver)
    driver.on_point(waiting, point(40), "a")
    proposed = driver.next_trial().number
    for number in (waiting, running, proposed):
        give(bench, StopTrial(trial_number=number))
    assert driver.on_tokens(running, 8) is Verdict.STOP
    assert states(bench) == ["CANCELLED"] * 3
    assert all(attempt.ended_at and attempt.failure is None for attempt in bench.attempts)
    bench.run()
    assert states(bench)[:3] == ["CANCELLED"] * 3
    assert states(bench).count("COMPLETED") >= 1
    assert len(bench.trials) == 5


def test_the_next_advances_where_all_that_had_were_stopped_by_hand(bench):
    bench = bench(num_trials=2, max_parallel=2)
    driver = bench.driver()
    first, second = begin(driver), begin(driver)
    driver.on_point(first, point(40, 3.0), "a")
    assert driver.on_point(second, point(40, 2.0), "b") is Verdict.CONTINUE
    give(bench, StopTrial(trial_number=second))
    driver.on_tokens(second, 48)
    assert states(bench) == ["WAITING", "CANCELLED"]
    assert driver.next_trial().number == first


def test_a_search_all_of_whose_trials_were_stopped_by_hand_says_so(bench):
    bench = bench(num_trials=2)
    driver = bench.driver()
    for number in (begin(driver), begin(driver)):
        give(bench, StopTrial(trial_number=number))
    assert driver.next_trial() is Next.DONE
    assert driver.failure.message == "no trial completed: all 2 were stopped by hand"
    assert driver.failure.kind is FailureKind.ERROR


def test_a_draw_that_people_stopped_is_trained_as_a_baseline_from_its_beginning(tmp_path):
    search = eager(
        tmp_path / "bench", num_trials=300, max_parallel=1, comparisons=Comparisons(random_architectures=1)
    )
    from nas.comparisons import random_draws

    (drawn,) = random_draws(search.spec, search.driver().space)
    give(search, Enqueue(architecture=drawn))
    driver = search.driver()
    number = begin(driver)
    driver.on_point(number, point(40), "a")
    give(search, StopTrial(trial_number=number))
    give(search, Extend(num_trials=2))
    search.take_over("runner 2")
    search.run()
    (baseline,) = [trial for trial in search.trials if trial.role is TrialRole.RANDOM_ARCHITECTURE]
    assert (baseline.architecture, baseline.state) == (drawn, TrialState.COMPLETED)
    assert search.trials[number].state is TrialState.CANCELLED


def test_a_cancel_counts_more_than_a_pause(bench):
    bench = bench()
    driver = bench.driver()
    begin(driver)
    give(bench, Pause())
    give(bench, Cancel())
    assert driver.next_trial() is Next.DONE
    assert driver.is_cancelled
    assert states(bench) == ["CANCELLED"]


def test_a_trial_waits_for_a_place_and_the_progress_says_so(bench):
    bench = bench()
    driver = bench.driver()
    driver.next_trial()
    driver.hindrance = "waiting for room"
    bench.clock.advance(1)
    driver.next_trial()
    assert bench.store.get_search("s1").progress.stage == "waiting for room"
