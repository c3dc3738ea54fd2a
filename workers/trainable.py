"""The class that Ray Tune runs in a worker process: one trial after another, in the same process.

An exception never leaves it: Tune would retry what cannot succeed, and the traceback would be lost. It
comes back as a report like any other; only the death of the process is Tune's to notice.
"""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from ray import tune

from nas.trial import Trial
from workers.nodes import UnfitNode
from workers.report import Began, Evaluate, Refused, Report, TrialReport, failure_of

TRIAL = "trial"
REPORT = "report"


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Steps through the reports of one trial; Tune resets it for the next."""

    def setup(self, config: dict[str, Any], make_evaluate: Callable[[], Evaluate] | None = None) -> None:
        """Take up the first trial; what its ``Evaluate`` loads stays for the trials after it."""
        assert make_evaluate is not None
        self._make_evaluate = make_evaluate
        self._evaluate: Evaluate | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the next report of the trial."""
        return {REPORT: self._next_report()}

    def _begin(self, config: dict[str, Any]) -> None:
        self._trial: Trial = config[TRIAL]
        self._has_begun = False
        self._reports: Iterator[TrialReport] | None = None

    def _next_report(self) -> Report:
        if not self._has_begun:
            # Said before the slow part, so that the trial shows as running while it loads.
            self._has_begun = True
            return Began(worker=f"{socket.gethostname()}:{os.getpid()}")
        try:
            if self._evaluate is None:
                self._evaluate = self._make_evaluate()
            if self._reports is None:
                self._reports = self._evaluate(self._trial)
            return next(self._reports)
        except UnfitNode as error:
            return Refused(node_id=error.node_id, reason=error.reason)
        except Exception as error:
            return failure_of(error)

    def cleanup(self) -> None:
        """Let go of the trial when the process is no longer needed."""
        self._reports = None
