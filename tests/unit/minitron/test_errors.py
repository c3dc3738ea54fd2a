"""The tree of errors: drawn as it is, one base, messages that travel between processes."""

import inspect
import pickle
import re

import pytest

from minitron import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value)]


def test_the_drawing_is_the_tree():
    drawn = re.findall(r"^[│ ]*[├└]── (\w+)", errors.__doc__, flags=re.MULTILINE)
    assert sorted(["MinitronError", *drawn]) == sorted(error.__name__ for error in CLASSES)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_has_the_base_and_survives_pickling(error):
    """Workers raise them in other processes."""
    parts = ("field", "reason") if issubclass(error, errors.FieldError) else ("field: reason",)
    raised = error(*parts)
    arrived = pickle.loads(pickle.dumps(raised))
    assert isinstance(arrived, errors.MinitronError)
    assert type(arrived) is error
    assert str(arrived) == "field: reason"
