"""Work on the cluster beside other work. Knows no trial and no search."""

import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

from minitron.progress import Progress, Report
from nas import wording
from nas.resources import Resources
from nas.trial import FailureKind
from workers.cluster import WorkFailed, run_task

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.5


class Background(Generic[T]):
    """Runs ``work`` in a worker process from entry to exit, once; what it still does at exit is ended.

    Args:
        work: Picklable; given a ``Report`` to call.
        resources: What it gets from Ray.
        report: Called in a thread for each report of the work.
        should_stop: Asked about twice a second; ends the work.
        where: A label selector for nodes; None takes any.
    """

    def __init__(
        self,
        work: Callable[[Report], T],
        *,
        resources: Resources,
        report: Report,
        should_stop: Callable[[], bool],
        where: Mapping[str, str] | None,
    ) -> None:
        self._work = work
        self._resources = resources
        self._report = report
        self._should_stop = should_stop
        self._where = where
        self._has_begun = threading.Event()
        self._must_end = threading.Event()
        self._has_ended = False
        self._error: Exception | None = None
        self._value: T | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or self.has_failed:
            self._must_end.set()
        self._thread.join()

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result."""
        return self._has_ended and self._value is None

    @property
    def is_lost(self) -> bool:
        """Whether its process died, so that another attempt may succeed."""
        error = self._error
        return isinstance(error, WorkFailed) and error.failure.kind is FailureKind.WORKER_LOST

    def wait_until_begun(self) -> None:
        """Return once the work has its place and has told of itself, or is to stop."""
        while not self._has_begun.wait(POLL_SECONDS) and self._thread.is_alive() and not self._should_stop():
            pass

    def result(self) -> T | None:
        """Return what the work returned, None where it was ended.

        Raises:
            WorkFailed: It raised, or its process died.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        def told(progress: Progress) -> None:
            self._has_begun.set()
            self._report(progress)

        try:
            self._value = run_task(
                self._work,
                resources=self._resources,
                max_attempts=1,
                report=told,
                should_stop=lambda: self._must_end.is_set() or self._should_stop(),
                where=self._where,
            )
        except Exception as error:
            self._error = error
        finally:
            self._has_ended = True


class Log:
    """Writes into the log what work beside the trials tells: each stage, and of each every tenth."""

    def __init__(self, search_id: str) -> None:
        self._search_id = search_id
        self._told: tuple[str, int] | None = None

    def __call__(self, progress: Progress) -> None:
        """Write it, unless that much has been told."""
        tenth = 10 * progress.done // progress.total if progress.total else 0
        if (progress.stage, tenth) != self._told:
            self._told = (progress.stage, tenth)
            logger.info("search %s: beside the trials: %s", self._search_id, wording.progress(progress))
