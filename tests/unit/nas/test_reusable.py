"""What a plan says was measured before is what the search then takes over."""

from dataclasses import replace

import pytest

from minitron.recipe import CalibrationRecipe, DataRecipe
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.estimate import estimate
from nas.estimate_rows import estimate_rows
from nas.reusable import Reusable, reusable
from nas.search import Comparisons, Rungs
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from tests.contracts.test_reuse import MADE_FROM, Bench
from tests.fakes import small_spec

FEW = {"num_trials": 5, "rungs": Rungs(fractions=()), "sampler": "random"}
SPEC = small_spec(**FEW)


@pytest.fixture
def bench(tmp_path):
    made = Bench(InMemoryStore(), tmp_path)
    made.run("s1", **FEW, comparisons=Comparisons(random_indices=1))
    return made


def known(bench, *, workspaces=None, **changes):
    spec = replace(SPEC, **changes)
    return reusable(spec, search_space(spec), bench.store, workspaces)


def test_what_is_told_is_what_is_saved_by_the_same_search(bench):
    found = known(bench)
    assert found == Reusable(num_known=5, most_tokens=5 * 80)
    again = bench.run("s2", **FEW)
    assert sum(trial.saved_tokens for trial in again) == found.most_tokens
    assert known(bench) == found, "what is reused is no measurement of its own"


@pytest.mark.parametrize(
    ("changes", "num_known", "most_tokens"),
    [
        ({"num_trials": 2}, 5, 2 * 80),
        ({"num_trials": 50, "max_tokens": 3 * 80}, 5, 3 * 80),
        ({"num_trials": 50, "seed": 3, "sampler": "tpe", "budget": Budget(max_parameters=10**6)}, 5, 5 * 80),
        ({"training": replace(SPEC.training, peak_learning_rate=1e-4)}, 0, 0),
        ({"data": DataRecipe(sequence_length=8, validation_tokens=16)}, 0, 0),
        ({"calibration": CalibrationRecipe(num_tokens=4096)}, 0, 0),
        ({"num_points": 9}, 0, 0),
        ({"budget": Budget(max_parameters=500_000)}, 0, 0),
        ({"workspaces": ("another",)}, 0, 0),
    ],
    ids=str,
)
def test_only_what_would_stand_for_a_trial_is_counted(bench, changes, num_known, most_tokens):
    assert known(bench, **changes) == Reusable(num_known=num_known, most_tokens=most_tokens)


def test_nothing_is_told_where_everything_is_trained_or_nothing_was_read_yet(bench):
    assert known(bench, history=HistoryUse(reuse=False)) is None
    unread = Bench(InMemoryStore(), bench.directory)
    unread.run("s9", **FEW, made_from=None)
    assert known(unread) == Reusable(num_known=0, most_tokens=0)


def test_the_latest_search_says_what_a_parent_holds_and_each_workspace_knows_its_own(bench):
    bench.run("there", **FEW | {"num_trials": 8}, workspace="another")
    assert known(bench).num_known == 8
    assert known(bench, workspaces=("default",)).num_known == 5
    bench.clock.advance(60)
    bench.run("anew", **FEW | {"num_trials": 3}, made_from=replace(MADE_FROM, parent="other weights"))
    assert known(bench, workspaces=("default",)).num_known == 3


def test_a_plan_tells_it(bench):
    service = SearchService(bench.store, artifact_root=bench.directory)
    planned = service.plan(SPEC)
    assert planned.reusable == Reusable(num_known=5, most_tokens=400)
    rows = dict(estimate_rows(planned))
    assert rows["search: measured before"] == (
        "5 of the architectures that fit, each saves 80 tokens if it is proposed: at most 400, "
        "while parent and data are as they were"
    )
    other = service.plan(replace(SPEC, training=replace(SPEC.training, seed=9)))
    assert dict(estimate_rows(other))["search: measured before"] == "none of the architectures that fit"
    assert "search: measured before" not in dict(estimate_rows(estimate(SPEC, search_space(SPEC))))
