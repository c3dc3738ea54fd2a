"""Axes say which sizes are tried, and refuse what makes no sense."""

import pytest

from minitron.parents import parent_architecture
from nas.axes import AXIS_NAMES, Axes, Multiples, Range
from nas.errors import InvalidSpec

TINY = parent_architecture("builtin:tiny")


def test_an_axis_left_out_keeps_the_parents_size():
    for name in AXIS_NAMES:
        assert Axes().sizes(name, TINY, hidden_size=128) == (getattr(TINY, name),)


@pytest.mark.parametrize(
    ("choices", "sizes"),
    [
        ((6, 4, 5, 4), (4, 5, 6)),
        (Range(start=2, stop=6, step=2), (2, 4, 6)),
        (Range(start=2, stop=7, step=2), (2, 4, 6)),
        (Range(start=3, stop=3), (3,)),
    ],
)
def test_sizes_are_ascending_and_distinct(choices, sizes):
    assert Axes(num_layers=choices).sizes("num_layers", TINY, hidden_size=128) == sizes


@pytest.mark.parametrize(("stop", "last"), [(6, 6), (7, 6), (8, 8)])
def test_the_last_size_of_a_range_is_one_that_a_step_lands_on(stop, last):
    assert Range(start=2, stop=stop, step=2).last == last


def test_multiples_of_hidden_are_rounded_to_whole_neurons():
    axes = Axes(intermediate_size=Multiples(of_hidden=(4, 2.5, 2.5)))
    assert axes.sizes("intermediate_size", TINY, hidden_size=4608) == (11520, 18432)
    assert axes.sizes("intermediate_size", TINY, hidden_size=81) == (202, 324)


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"num_layers": ()}, "axes.num_layers"),
        ({"intermediate_size": Multiples(of_hidden=())}, "axes.intermediate_size"),
        ({"hidden_size": Multiples(of_hidden=(1.0,))}, "axes.hidden_size"),
    ],
)
def test_an_axis_without_choices_or_of_the_wrong_kind_is_refused(choices, field):
    with pytest.raises(InvalidSpec) as caught:
        Axes(**choices)
    assert [name for name, _ in caught.value.problems] == [field]


@pytest.mark.parametrize(("start", "stop", "step"), [(3, 2, 1), (1, 2, 0), (1, 2, -1)])
def test_a_range_that_goes_nowhere_is_refused(start, stop, step):
    with pytest.raises(InvalidSpec, match="start <= stop and step >= 1"):
        Range(start=start, stop=stop, step=step)
