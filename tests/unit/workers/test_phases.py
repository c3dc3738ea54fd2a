"""A local Ray is started for all that a search comes to ask for, and for nothing less is its process begun anew."""

from dataclasses import replace

import pytest

from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.orders import Orders
from nas.promotion import Promoted, Promotion
from nas.resources import Resources
from tests.searches import make_search, make_spec
from workers.phases import cpus_at_once

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
