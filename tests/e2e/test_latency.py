"""A search under a limit of measured latency: timed once, obeyed by every trial, and refused where nothing is fast enough.

And one that weighs latency against the loss.
"""

import shutil
import time
from dataclasses import replace
from statistics import median

import pytest

from nas.axes import Axes
from nas.budget import Budget, LatencyBudget
from nas.errors import EmptySpace
from nas.frontier import best_trial
from nas.latency_costs import latency_of
from nas.layout import latencies_directory
from nas.sampling import Objective
from nas.search import Comparisons, Rungs, SearchState
from nas.service import SearchService
from nas.space import search_space
from nas.trial import TrialState
from tests.home import LEASE_SECONDS, new_home, once
from workers.latencies import STAGE

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

SMALL = {
    "axes": Axes(num_layers=(1, 2), hidden_size=(24, 48), intermediate_size=(16, 24)),
    "rungs": Rungs(fractions=()),
    "num_trials": 8,
    "sampler": "random",
    "comparisons": Comparisons(),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


def budget(max_ms, **changes):
    return Budget(latency=timed(max_ms=max_ms, **changes))


def timed(**changes):
    return LatencyBudget(context=16, dtype="float32", **changes)


@pytest.fixture(scope="module")
def unlimited(home):
    """A search that all architectures are fast enough for, and that measures."""
    search_id = home.create(**SMALL | {"budget": budget(10_000.0), "num_trials": 1})
    assert home.run(search_id) == 0
    return home.store.get_search(search_id)


def timings_of(home, search_id):
    """Return what was told of the timing of blocks."""
    told = [
        event.data["progress"] for event in home.store.events(search_id=search_id) if event.kind == "search"
    ]
    return [each for each in told if each and each["stage"] == STAGE]


def test_what_was_measured_is_stored_with_the_search(home, unlimited):
    assert unlimited.latencies.machine.threads == 1
    assert unlimited.latencies.neurons == (16, 24)
    assert unlimited.num_feasible == 8
    assert any(not told["is_cached"] for told in timings_of(home, unlimited.id))


def test_every_trial_of_a_limited_search_obeys_what_was_measured_once(home, unlimited):
    everything = search_space(unlimited.measured_spec).architectures
    times = {each: latency_of(unlimited.latencies, each) for each in everything}
    limit = median(times.values())
    search_id = home.create(**SMALL | {"budget": budget(limit / 1e6)})
    assert home.store.get_search(search_id).latencies is None
    assert home.run(search_id) == 0
    search, trials = home.store.get_search(search_id), home.store.trials(search_id)
    assert search.latencies == unlimited.latencies
    fast = {each for each, time in times.items() if time <= int(limit)}
    assert {trial.architecture for trial in trials if trial.state is TrialState.COMPLETED} == fast
    assert search.num_feasible == len(fast) < len(everything)


def test_where_nothing_is_known_to_be_fast_enough_the_search_is_refused(home, unlimited):
    with pytest.raises(
        EmptySpace, match=r"budget: found no architecture with 0 to 0\.0001 ms to decode .* measured on"
    ):
        home.create(**SMALL | {"budget": budget(0.0001)})


def test_where_nothing_turns_out_to_be_fast_enough_the_search_says_what_is_nearest(home, unlimited):
    search_id = home.create(**SMALL | {"budget": budget(0.0001, batch=2)})
    assert home.run(search_id) == 1
    search = home.store.get_search(search_id)
    assert search.state is SearchState.FAILED
    assert "the nearest is L1-" in search.failure.message
    assert home.store.trials(search_id) == []


def test_a_table_that_a_spec_brings_is_taken_as_it_is(home, unlimited):
    brought = budget(10_000.0).measured(
        replace(
            unlimited.latencies,
            machine=replace(unlimited.latencies.machine, device="another one"),
            rows=tuple(replace(row, nanoseconds=(10**6, 10**11)) for row in unlimited.latencies.rows),
        )
    )
    search_id = home.create(**SMALL | {"budget": brought})
    assert home.run(search_id) == 0
    assert {trial.architecture.intermediate_size for trial in home.store.trials(search_id)} == {16}
    assert home.store.get_search(search_id).latencies is None


def test_a_search_that_weighs_latency_finds_the_front_of_what_was_measured(home, unlimited):
    """At a rung too, and without a limit: what is slow stays in its space."""
    search_id = home.create(
        **SMALL
        | {
            "budget": Budget(max_parameters=10**6, latency=timed()),
            "rungs": Rungs(fractions=(0.0,), keep=0.5, adaptive=False),
            "sampler": "nsga2",
            "objective": Objective(cost="latency"),
        }
    )
    assert home.run(search_id) == 0
    search, trials = home.store.get_search(search_id), home.store.trials(search_id)
    assert search.latencies == unlimited.latencies
    assert search.num_feasible == len(trials) == 8
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    assert 0 < len(completed) < len(trials)
    placed = [
        (latency_of(search.latencies, trial.architecture), trial.measurement.loss) for trial in completed
    ]
    on_the_front = {
        trial.number
        for trial, (time, loss) in zip(completed, placed, strict=True)
        if not any(other != (time, loss) and other[0] <= time and other[1] <= loss for other in placed)
    }
    service = SearchService(home.store, artifact_root=home.settings.artifact_root)
    assert {trial.number for trial in service.front(search_id)} == on_the_front
    fastest = min(latency_of(search.latencies, trial.architecture) for trial in trials)
    assert fastest in {time for time, _ in placed}, "the lowest cost of a rung is not stopped for its loss"
    assert search.winner.trial_number == best_trial(trials).number


def test_killed_before_its_first_trial_it_goes_by_what_it_had_measured(home, unlimited):
    """All that lies beside the store is gone, so that whoever asks for the latencies again measures others."""
    everything = search_space(unlimited.measured_spec).architectures
    limit = median(latency_of(unlimited.latencies, each) for each in everything) / 1e6
    search_id = home.create(**SMALL | {"budget": budget(limit, batch=3), "sampler": "exhaustive"})
    process = home.start(search_id)
    once(lambda: home.store.get_search(search_id).latencies, process)
    process.kill()
    process.wait()
    measured, told = home.store.get_search(search_id), timings_of(home, search_id)
    assert home.store.trials(search_id) == []
    assert told
    shutil.rmtree(latencies_directory(home.settings.artifact_root))
    time.sleep(LEASE_SECONDS)
    assert home.run(search_id) == 0
    search = home.store.get_search(search_id)
    assert timings_of(home, search_id) == told
    assert (search.latencies, search.num_feasible) == (measured.latencies, measured.num_feasible)
    feasible = set(search_space(measured.measured_spec).architectures)
    assert {trial.architecture for trial in home.store.trials(search_id)} == feasible
    assert 0 < len(feasible) < len(everything)
