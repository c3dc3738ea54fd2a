"""What went wrong keeps its kind, its line and its traceback on the way to the store."""

import errno

import pytest

from minitron.errors import DivergedTraining, InvalidRecipe, OutOfSpace
from nas.trial import FailureKind
from workers.report import failure_of


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DivergedTraining("loss nan"), FailureKind.NON_FINITE, "DivergedTraining: loss nan"),
        (OutOfSpace("/disk: full"), FailureKind.OUT_OF_SPACE, "OutOfSpace: /disk: full"),
        (OSError(errno.ENOSPC, "no space"), FailureKind.OUT_OF_SPACE, "OSError: [Errno 28] no space"),
        (OSError(errno.EACCES, "denied"), FailureKind.ERROR, "PermissionError: [Errno 13] denied"),
        (InvalidRecipe("data.seed", "wrong"), FailureKind.ERROR, "InvalidRecipe: data.seed: wrong"),
        (ValueError("one\ntwo"), FailureKind.ERROR, "ValueError: one"),
        (ValueError(), FailureKind.ERROR, "ValueError"),
    ],
)
def test_failures_of_errors(error, kind, message):
    with pytest.raises(type(error)) as caught:
        raise error
    failure = failure_of(caught.value)
    assert (failure.kind, failure.message) == (kind, message)
    assert "test_report.py" in failure.traceback
