"""The class that Ray Tune runs in a worker process: one trial after another, in the same process.

An exception never leaves it: Tune would retry what cannot succeed, and the traceback would be lost. It
comes back as a report like any other; only the death of the process is Tune's to notice.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune

from nas.layout import attempt_log
from nas.settings import environment_secrets
from nas.trial import Failure, Trial
from workers.attempt_log import AttemptLog
from workers.nodes import UnfitNode
from workers.report import Began, Evaluate, Refused, Report, TrialReport, failure_of

logger = logging.getLogger(__name__)

TRIAL = "trial"
REPORT = "report"


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Steps through the reports of one trial; Tune resets it for the next."""

    def setup(
        self,
        config: dict[str, Any],
        make_evaluate: Callable[[], Evaluate] | None = None,
        root: Path | None = None,
    ) -> None:
        """Take up the first trial; what its ``Evaluate`` loads stays for the trials after it."""
        assert make_evaluate is not None
        self._make_evaluate = make_evaluate
        self._evaluate: Evaluate | None = None
        self._root = root
        self._log: AttemptLog | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the next report of the trial."""
        report = self._next_report()
        self._tell(report)
        return {REPORT: report}

    def _begin(self, config: dict[str, Any]) -> None:
        self._close_log()
        self._trial: Trial = config[TRIAL]
        if self._root is not None:
            # The attempt that the runner opens as soon as it hears that this one has begun.
            number = self._trial.num_attempts + 1
            path = attempt_log(self._root, self._trial.search_id, self._trial.number, number)
            self._log = AttemptLog(path, secrets=environment_secrets())
            self._log.open()
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

    def _tell(self, report: Report) -> None:
        """Log what is reported, which of the attempt's log makes a story."""
        number = self._trial.number
        if isinstance(report, Began):
            name = self._trial.architecture.name
            logger.info(
                "trial %d: attempt %d, %s on worker %s",
                number,
                self._trial.num_attempts + 1,
                name,
                report.worker,
            )
        elif isinstance(report, Refused):
            logger.error("trial %d: this node is not used: %s", number, report.reason)
        elif isinstance(report, Failure):
            logger.error("trial %d: %s\n%s", number, report.message, report.traceback or "")
        elif report.point is not None:
            at = f", to go on from {report.checkpoint}" if report.checkpoint and not report.finished else ""
            logger.info(
                "trial %d: loss %.4f at %d tokens%s", number, report.point.loss, report.num_tokens, at
            )
            if report.finished is not None:
                logger.info("trial %d: finished, its student is %s", number, report.checkpoint)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def cleanup(self) -> None:
        """Let go of the trial when the process is no longer needed."""
        self._reports = None
        self._close_log()
