"""Latency as what a search weighs against the loss: asked for, refused, and read from what was measured."""

from dataclasses import replace

import pytest

from nas.driver import Driver
from nas.errors import InvalidSpec
from nas.frontier import pareto_front
from nas.latency_admission import timed_space
from nas.latency_costs import latency_of
from nas.ranking import by_loss
from nas.report import search_report
from nas.rungs import schedule
from nas.sampling import Objective, shared
from nas.search import Rungs
from nas.service import SearchService
from nas.space import search_space
from nas.spec import parse_spec, spec_to_json
from nas.storage.memory import InMemoryStore
from nas.study import study_trials
from nas.trial import TrialState
from nas.wording import budget as in_words
from nas.wording import fitting
from tests.fakes import FakeExecutor, ManualClock, Simulation, running_search, small_spec
from tests.latencies import latency, table_of
from tests.searches import make_search

LATENCY = Objective(cost="latency")
TIMED = replace(small_spec().budget, latency=latency(max_ms=None))
"""Bounds parameters, and says how a latency is measured that it does not bound."""
SPEC = small_spec(budget=TIMED, sampler="nsga2", objective=LATENCY, num_trials=40)
TABLE = table_of(SPEC, lambda hidden, neurons, heads, kv_heads: 10**6 - 5000 * hidden)
"""Of a machine on which the wider student is the faster, so that this front is none of parameters."""


def nanoseconds(trial):
    return latency_of(TABLE, trial.architecture)


# Asked for


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        (
            {"budget": {"max_parameters": 640_000}},
            "objective.cost",
            "found latency, allowed without budget.latency: parameters, memory or flops; budget.latency says",
        ),
        (
            {"objective": {"cost": "flops"}},
            "budget.latency.max_ms",
            "missing, allowed: milliseconds, or instead of it min_tokens_per_second; or neither with objective",
        ),
        ({"objective": None, "sampler": "tpe"}, "budget.latency.max_ms", "missing"),
        (
            {"budget": {"latency": {"context": 64}}},
            "budget.max_parameters",
            "instead of it memory, work or latency, which here has no max_ms",
        ),
        (
            {"objective": {"cost": "latency", "context": 8192}},
            "objective.context",
            "found 8192, allowed with cost latency: none; budget.latency says",
        ),
        ({"objective": {"cost": "latency", "dtype": "float32"}}, "objective.dtype", "found float32"),
        ({"sampler": "tpe"}, "objective", "found {cost: latency}, allowed with sampler tpe: none"),
    ],
)
def test_what_nothing_can_be_timed_for_is_refused_with_field_and_reason(asked, field, reason):
    with pytest.raises(InvalidSpec) as refused:
        parse_spec({**spec_to_json(SPEC), **asked})
    ((found, told),) = refused.value.problems
    assert found == field
    assert reason in told


@pytest.mark.parametrize("limit", [{}, {"max_ms": 3.0}, {"min_tokens_per_second": 400.0, "phase": "prefill"}])
def test_a_spec_that_weighs_latency_reads_as_it_was_written_with_a_limit_and_without(limit):
    spec = replace(SPEC, budget=replace(TIMED, latency=latency(**{"max_ms": None} | limit)))
    assert parse_spec(spec_to_json(spec)) == spec


def test_a_latency_without_a_limit_leaves_the_space_as_it_is_and_is_told_of_each_student(tmp_path):
    space, measured = search_space(SPEC), search_space(replace(SPEC, budget=TIMED.measured(TABLE)))
    assert list(measured.architectures) == list(space.architectures)
    assert measured.reasons == space.reasons
    assert measured.budget.costs(space.at(3)) == {"latency_nanoseconds": latency_of(TABLE, space.at(3))}
    assert timed_space(SPEC, tmp_path)[1] == ["budget.latency: blocks are timed when the search starts"]
    search = make_search(spec=SPEC)
    assert fitting(search) == f"{search.num_feasible:,} architectures fit", "before it is measured too"
    assert in_words(TIMED).endswith("parameters, any time to decode (float32, batch 1, context 64)")


def test_a_latency_with_a_limit_is_weighed_within_it():
    bounded = replace(TIMED, latency=latency(max_ms=1.7))
    space = search_space(replace(SPEC, budget=bounded.measured(TABLE)))
    assert 0 < len(space) < len(search_space(SPEC))
    assert all(latency_of(TABLE, each) <= 1_700_000 for each in space.architectures)
    assert replace(SPEC, budget=bounded.measured(TABLE)).weighed.of(space.at(0)) <= 1_700_000


def test_before_anything_is_timed_there_is_what_to_say_and_nothing_to_weigh():
    assert SPEC.weighed.words == "nanoseconds to decode, 1 x 64 tokens in float32"
    assert pareto_front([], SPEC.weighed) == ()
    prefill = replace(SPEC, budget=replace(TIMED, latency=latency(max_ms=None, phase="prefill", batch=4)))
    assert prefill.weighed.words == "nanoseconds to prefill, 4 x 64 tokens in float32"


# Searched, with a table that was measured and is in no spec


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The store of a search whose trials were compared at a rung, and its driver's."""
    store, clock = InMemoryStore(), ManualClock()
    spec = replace(SPEC, rungs=Rungs(fractions=(0.25,), keep=0.5, adaptive=False))
    search, lease = running_search(store, spec, clock, latencies=TABLE)
    directory = tmp_path_factory.mktemp("trials")
    FakeExecutor(Simulation(directory=directory, spec=spec)).run(Driver(search, store, lease, clock))
    return store


def test_what_is_served_told_and_reported_is_the_front_of_what_was_measured(searched, tmp_path):
    trials, search = searched.trials("s1"), searched.get_search("s1")
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    placed = {trial.number: (nanoseconds(trial), trial.measurement.loss) for trial in completed}
    front = sorted(
        number
        for number, (time, loss) in placed.items()
        if not any(each != (time, loss) and each[0] <= time and each[1] <= loss for each in placed.values())
    )
    service = SearchService(searched, artifact_root=tmp_path)
    assert sorted(trial.number for trial in service.front("s1")) == front
    assert front != sorted(trial.number for trial in pareto_front(trials)), "parameters would be another"
    report = search_report(service.get("s1"), service.trials("s1"), None, ManualClock()())
    assert sorted(trial.number for trial in report.front) == front
    assert {each.number: each.cost for each in report.trials} == {
        trial.number: nanoseconds(trial) for trial in trials
    }
    assert report.cost == "nanoseconds to decode, 1 x 64 tokens in float32"
    (beside,) = service.compare(["s1"]).searches
    assert sorted(trial.number for trial in beside.front) == front
    assert list(beside.costs) == [nanoseconds(trial) for trial in beside.front]
    told = study_trials(search, trials, searched.points("s1"))
    assert {each.user_attrs["number"]: tuple(reversed(each.values)) for each in told if each.values} == placed


def test_what_is_fast_is_not_stopped_for_its_loss(searched):
    trials, rung = searched.trials("s1"), schedule(searched.get_search("s1").spec).rungs[0]
    at_the_rung = {
        each.trial_number: each.point.loss for each in searched.points("s1") if each.point.num_tokens == rung
    }
    assert at_the_rung.keys() == {trial.number for trial in trials}
    fastest = min(trials, key=lambda trial: (nanoseconds(trial), at_the_rung[trial.number]))
    assert fastest.state is TrialState.COMPLETED
    assert by_loss(at_the_rung).index(fastest.number) >= len(trials) / 2, "by loss alone it were stopped"


# Beside others


def test_fronts_are_compared_where_the_same_was_timed_on_the_same_machine():
    """By a table of its own each: their spaces may hold other sizes."""
    here = make_search(spec=SPEC, latencies=TABLE).measured_spec
    narrower = replace(SPEC, axes=replace(SPEC.axes, num_attention_heads=(4,)))
    also_here = make_search(spec=narrower, latencies=table_of(narrower)).measured_spec
    there = replace(TABLE, machine=replace(TABLE.machine, device="another"))
    elsewhere = make_search(spec=SPEC, latencies=there).measured_spec
    assert shared([here.weighed, also_here.weighed]) is not None
    assert shared([here.weighed, elsewhere.weighed]) is None
    assert shared([here.weighed, SPEC.weighed]) is None, "not known yet to be the same machine"
    architecture = search_space(narrower).at(0)
    assert here.weighed.of(architecture) != also_here.weighed.of(architecture)
