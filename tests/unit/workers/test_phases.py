"""What a search has its cluster do, and where: Ray is started for all that it comes to ask for."""

from dataclasses import replace

import pytest

from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.budget import Budget, LatencyBudget
from nas.clock import utc_now
from nas.orders import Orders
from nas.promotion import Promoted, Promotion
from nas.resources import Resources
from nas.storage.memory import InMemoryStore
from tests.fakes import running_search, small_spec
from tests.searches import make_search, make_spec
from tests.unit.nas.test_latency import table_of
from workers import nodes
from workers.phases import cpus_at_once
from workers.runner import _Run

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=4_000_000))
WIDE = replace(PROMOTION, resources=Resources(cpus=2, processes=2))


def asked(*ordered, **changes):
    spec = make_spec(max_parallel=3, resources=Resources(cpus=2), **changes)
    promoted = tuple(Promoted(trial_number=0, promotion=each) for each in ordered)
    return cpus_at_once(make_search(spec=spec, orders=Orders(promoted=promoted)))


@pytest.mark.parametrize(
    ("ordered", "changes", "expected"),
    [
        ([], {}, 6),
        ([PROMOTION], {}, 6),  # takes the room of trials, which are done by then
        ([WIDE], {}, 12),
        ([], {"promotion": WIDE}, 12),
        ([], {"correction": CorrectionRecipe(mode="alongside")}, 8),
        ([PROMOTION], {"correction": CorrectionRecipe(mode="alongside")}, 8),
    ],
)
def test_trials_and_promotions_come_one_after_the_other(ordered, changes, expected):
    assert asked(*ordered, **changes) == expected


def test_more_at_a_time_is_counted_as_it_was_ordered():
    spec = make_spec(max_parallel=3, resources=Resources(cpus=2))
    assert cpus_at_once(make_search(spec=spec, orders=Orders(max_parallel=5))) == 10


def test_blocks_are_timed_where_the_parent_that_was_named_is_seen(tmp_path, monkeypatch):
    latency = LatencyBudget(max_ms=1.0, context=64)
    spec = small_spec(budget=Budget(max_parameters=640_000, latency=latency))
    store = InMemoryStore()
    search, lease = running_search(store, spec, utc_now)
    monkeypatch.setattr(nodes, "here", lambda resources, refused: {"node": "this"})
    asked = []

    class Timing(_Run):
        def __init__(self):
            self._store, self._lease, self._root, self._refused = store, lease, tmp_path, {}

        def _work(self, spec, work, *, where=None, processes=1):
            asked.append(where)
            return table_of(spec, lambda *_: 1, dtype="bfloat16")

    assert Timing()._timed(search, is_shared=True).budget.latency.table is not None
    assert asked == [{"node": "this"}]
