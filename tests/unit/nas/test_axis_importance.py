"""What matters is found to matter, once there is enough to tell from."""

from dataclasses import replace

import pytest

from nas.axis_importance import axis_importance
from nas.search import LEAST_TO_WEIGH, Search
from nas.trial import TrialRole, TrialState
from tests.fakes import EPOCH, small_spec
from tests.searches import MEASUREMENT, make_trial


@pytest.fixture
def search():
    return Search(id="s1", spec=small_spec(), num_feasible=9, parent_parameters=10, created_at=EPOCH)


def completed(number, *, loss, **changes):
    shape = replace(
        make_trial().architecture,
        num_layers=4 + number % 3,
        hidden_size=80 + 8 * (number * 5 % 7),
        intermediate_size=96 + 16 * (number * 3 % 11),
        num_attention_heads=(4, 8)[number % 2],
        num_key_value_heads=4,
    )
    return make_trial(
        number,
        architecture=shape,
        state=TrialState.COMPLETED,
        finished_at=EPOCH,
        measurement=replace(MEASUREMENT, loss=loss(shape)),
        **changes,
    )


def by_width(shape):
    return 3.0 - shape.hidden_size / 100


def test_the_axis_that_decides_has_the_largest_share(search):
    trials = [completed(number, loss=by_width) for number in range(20)]
    found = axis_importance(search, trials, [])
    assert found.num_trials == 20
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-4)
    assert found.shares["hidden_size"] > 0.8
    assert found.shares.keys() == {
        "num_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
    }
    assert found == axis_importance(search, trials, []), "the same trials give the same"


def test_what_says_too_little_says_nothing(search):
    enough = [completed(number, loss=by_width) for number in range(LEAST_TO_WEIGH)]
    assert axis_importance(search, enough, []) is not None
    assert axis_importance(search, enough[1:], []) is None
    assert axis_importance(search, [replace(each, measurement=MEASUREMENT) for each in enough], []) is None
    others = [replace(enough[0], role=TrialRole.RANDOM_INDICES), make_trial(50, state=TrialState.STOPPED)]
    assert axis_importance(search, [*enough[1:], *others], []) is None
