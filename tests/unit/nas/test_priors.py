"""What a search may name to begin from, and that beginning from it helps."""

from dataclasses import replace
from statistics import median

import pytest

from minitron.loss_version import LOSS_VERSION
from minitron.parents import parent_architecture
from nas.accounts import Principal, Role
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.errors import InvalidSpec
from nas.scoped import scoped
from nas.search import Rungs
from nas.service import SearchService
from nas.spec import dump, parse_spec
from nas.storage.memory import InMemoryStore
from tests.contracts.test_reuse import MADE_FROM, Bench
from tests.fakes import small_spec
from tests.micro import micro_parent, micro_spec
from tests.searches import make_search, make_spec

MINE = {"ann": Principal(name="ann", roles={"default": Role.CONTRIBUTOR}, token_id="t")}


@pytest.fixture
def service(tmp_path):
    """A service with a search of the tiny parent, one of another, and one of another workspace."""
    store = InMemoryStore()
    service = SearchService(store, artifact_root=tmp_path)
    service.people.add_workspace("vision")
    size = parent_architecture("builtin:tiny").parameter_count
    store.add_search(make_search("earlier", parent_parameters=size))
    store.add_search(make_search("of-another", spec=make_spec(parent="builtin:smollm2-135m")))
    store.add_search(make_search("hidden", workspace="vision", parent_parameters=size))
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


@pytest.fixture
def moved(service, tmp_path):
    """A parent in a directory of its own, as a search of it is stored, and how to store more."""
    directory = micro_parent(tmp_path / "parent")

    def add(search_id, *, parent=directory, weights="w1", **changes):
        spec = make_spec(parent=str(parent))
        made_from = replace(MADE_FROM, parent=weights, **changes) if weights else None
        size = parent_architecture(str(directory)).parameter_count
        service._store.add_search(
            make_search(search_id, spec=spec, made_from=made_from, parent_parameters=size)
        )

    spec = micro_spec(tmp_path / "micro", parent=str(directory), sampler="tpe")
    return add, lambda *ids: service.plan(replace(spec, history=HistoryUse(warm_start_from=ids)))


def test_the_same_weights_elsewhere_may_be_named_and_other_weights_of_the_same_name_may_not(moved):
    """As workers read them; of what none has read the name tells."""
    add, plan = moved
    add("unread", weights=None)
    add("elsewhere", parent="/gone/parent", weights="w2")
    plan("unread")
    with pytest.raises(
        InvalidSpec, match="found elsewhere, a search of /gone/parent, allowed: searches of the"
    ):
        plan("elsewhere")
    add("before", weights="w1")
    plan("before", "unread")
    add("now", weights="w2")
    plan("now", "elsewhere")
    with pytest.raises(InvalidSpec) as refused:
        plan("now", "before")
    ((field, reason),) = refused.value.problems
    assert field == "history.warm_start_from"
    assert "found before, a search of" in reason
    assert "as it was with other weights, allowed: searches of the same parent" in reason


def test_a_search_of_a_directory_that_held_another_shape_may_not_be_named(moved, service):
    add, plan = moved
    add("unread", weights=None)
    stored = service._store.get_search("unread")
    service._store.add_search(replace(stored, id="other", parent_parameters=stored.parent_parameters + 1))
    with pytest.raises(
        InvalidSpec, match=r"found other, a search of .* as it was with another shape, allowed"
    ):
        plan("other")


def test_what_another_version_of_the_loss_measured_may_not_be_named(moved):
    add, plan = moved
    add("older", loss_version=LOSS_VERSION + 1)
    told = "measured by version 2 of the held-out loss, allowed: searches measured by version 1, as this one will be"
    with pytest.raises(InvalidSpec) as refused:
        plan("older")
    assert refused.value.problems == (
        (
            "history.warm_start_from",
            f"found older, {told}",
        ),
    )


def test_what_another_version_of_the_loss_measured_is_neither_begun_from_nor_reused(tmp_path):
    bench = Bench(InMemoryStore(), tmp_path)
    other = replace(MADE_FROM, loss_version=LOSS_VERSION + 1)
    few = {"num_trials": 5, "rungs": Rungs(fractions=()), "sampler": "random"}
    bench.run("by the other", **few, made_from=other)
    assert not any(trial.reused_from for trial in bench.run("by ours", **few))
    assert all(trial.reused_from for trial in bench.run("by the other again", **few, made_from=other))
    bench.run("warm", num_trials=5, seed=1)
    assert {prior.source.search_id for prior in bench.store.priors("warm")} == {"by ours"}


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
