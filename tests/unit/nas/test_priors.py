"""What a search may name to begin from, and that beginning from it helps."""

from dataclasses import replace
from statistics import median

import pytest

from nas.accounts import Principal, Role
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.errors import InvalidSpec
from nas.scoped import scoped
from nas.search import Rungs
from nas.service import SearchService
from nas.spec import dump, parse_spec
from nas.storage.memory import InMemoryStore
from tests.contracts.test_reuse import Bench
from tests.fakes import small_spec
from tests.searches import make_search, make_spec

MINE = {"ann": Principal(name="ann", roles={"default": Role.CONTRIBUTOR}, token_id="t")}


@pytest.fixture
def service(tmp_path):
    """A service with a search of the tiny parent, one of another, and one of another workspace."""
    store = InMemoryStore()
    service = SearchService(store, artifact_root=tmp_path)
    service.people.add_workspace("vision")
    store.add_search(make_search("earlier"))
    store.add_search(make_search("of-another", spec=make_spec(parent="builtin:smollm2-135m")))
    store.add_search(make_search("hidden", workspace="vision"))
    return service


def beginning_from(*search_ids):
    return make_spec(history=HistoryUse(warm_start_from=search_ids))


def test_searches_of_the_same_parent_may_be_named(service):
    assert service.create(beginning_from("earlier")).spec.history.warm_start_from == ("earlier",)
    assert service.create(beginning_from("hidden"), workspace="vision")
    service.plan(beginning_from("earlier"))


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("nothing", "found nothing, allowed: searches of the same workspace"),
        ("hidden", "found hidden, allowed: searches of the same workspace"),
        (
            "of-another",
            "found of-another, a search of builtin:smollm2-135m, allowed: searches of the same parent, builtin:tiny",
        ),
    ],
)
def test_what_can_tell_nothing_is_refused_with_field_and_reason(service, named, reason):
    ours = scoped(service, lambda: MINE["ann"])
    for submit in (service.create, ours.create, ours.plan):
        with pytest.raises(InvalidSpec) as refused:
            submit(beginning_from("earlier", named))
        assert refused.value.problems == (("history.warm_start_from", reason),)


def test_a_sampler_that_begins_from_nothing_is_given_nothing(service):
    with pytest.raises(InvalidSpec) as refused:
        service.create(replace(beginning_from("earlier"), sampler="random"))
    reason = "found searches, allowed with sampler: random, which begins from none: none"
    assert refused.value.problems == (("history.warm_start_from", reason),)


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        (
            {"warm_start": False, "warm_start_from": ["a"]},
            ("history.warm_start_from", "found 1 searches, allowed with warm_start: false: none"),
        ),
        (
            {"warm_start_from": ["a"] * 101},
            ("history.warm_start_from", "found 101 searches, allowed: at most 100"),
        ),
        ({"reuse": "no"}, ("history.reuse", 'found "no", allowed: true or false')),
        ({"reused": True}, ("history.reused", "unknown, allowed: reuse, warm_start, warm_start_from")),
    ],
)
def test_a_history_that_cannot_be_used_is_refused_in_words(history, problem):
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(dump(make_spec()) | {"history": history})
    assert refused.value.problems == (problem,)


@pytest.mark.parametrize(
    "changes",
    [
        {"training": replace(small_spec().training, peak_learning_rate=1e-4)},
        {"budget": Budget(min_parameters=450_000, max_parameters=560_000)},
    ],
    ids=["recipe", "budget"],
)
def test_a_search_that_begins_from_another_finds_good_architectures_sooner(tmp_path, changes):
    """By the formula that simulated trials follow, in the median over seeds, after four trials of which none is reused."""
    best = {True: [], False: []}
    for seed in range(6):
        for warm_start in (True, False):
            directory = tmp_path / f"{seed}-{warm_start}"
            directory.mkdir()
            bench = Bench(InMemoryStore(), directory)
            bench.run("s1", num_trials=16, rungs=Rungs(fractions=()), seed=100 + seed, sampler="random")
            history = HistoryUse(reuse=False, warm_start=warm_start)
            trials = bench.run(
                "s2",
                num_trials=4,
                max_parallel=1,
                rungs=Rungs(fractions=()),
                seed=seed,
                history=history,
                **changes,
            )
            best[warm_start].append(min(trial.measurement.loss for trial in trials))
    assert median(best[True]) < median(best[False])
