"""One worker process for each active search: started, restarted with back-off, and ended with us.

Knows nothing of workers but their command line; which searches need one, the store says. A process
that finds its search held by another, or the database closed to it, says so by its exit code, and that is no
crash. A search whose workers crash again and again without storing a new point is marked FAILED with the end
of their log.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from minitron import extras
from minitron.errors import MissingExtra
from nas.clock import utc_now
from nas.errors import SearchError
from nas.ledger import Ledger
from nas.logs import log_path, tail_for_failure
from nas.private import make_private
from nas.search import Search, SearchSpec, SearchState
from nas.storage.store import SearchStore
from nas.trial import Failure, FailureKind
from nas.waiting import hindrance_in

logger = logging.getLogger(__name__)

NOT_OURS = 3
"""Exit code of a worker that finds its search held by another process: no crash."""
STORE_AWAY, STORE_FULL, NOT_NOW = 4, 5, 6
"""Exit codes of a worker that something outside hinders: no crash, and nothing of its search is lost."""
OBSTACLES = {
    STORE_AWAY: "database: does not answer",
    STORE_FULL: "database: no space left on the disk that holds it",
    NOT_NOW: "what the search needs is not to be had now",
}
MAX_CRASHES = 3
"""Crashes in a row without a new point before a search is given up."""
MAX_DOUBLINGS = 5
"""Of the pause before a worker is started again."""

Command = Callable[[str], Sequence[str]]
"""The command line of the worker process of a search id."""


def worker_command(search_id: str) -> Sequence[str]:
    """Return the command that runs one search in this Python.

    ``-P``, because a folder of the user's may be called workers too.
    """
    return (sys.executable, "-P", "-m", "workers", "--search", search_id)


def require_worker_extra(spec: SearchSpec | None = None) -> None:
    """Raise MissingExtra when this Python could start no worker, or not one for all that a spec asks."""
    lacking = extras.missing(extras.WORKER)
    if lacking:
        raise MissingExtra(
            f"running a search needs {', '.join(lacking)}, which this Python lacks: "
            f"pip install '{extras.EXTRA}'"
        )
    if spec is not None and spec.evaluation is not None:
        extras.require(extras.EVAL, extras.EXTRA_EVAL, field="evaluation.tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    process: subprocess.Popen[bytes]
    num_points: int
    """Points of its search when it was started: more at its end is progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the past says about starting a search again."""

    num_crashes: int = 0
    """In a row, without a new point."""
    num_away: int = 0
    """Workers in a row that something outside hindered."""
    not_before: float = 0.0
    """On the monotonic clock."""


class Supervisor:
    """Keeps one child process on each search that needs one, from ``start`` to ``stop``.

    Args:
        store: Says which searches are unclaimed.
        logs: Directory of one log file for each search.
        environment: Variables of the children beside those that they inherit.
        max_searches: Children at a time; further searches stay QUEUED.
        only: The one search to run; None runs all.
    """

    def __init__(
        self,
        store: SearchStore,
        *,
        logs: Path,
        environment: Mapping[str, str],
        max_searches: int = 1,
        only: str | None = None,
        command: Command = worker_command,
        poll_seconds: float = 1.0,
        back_off_seconds: float = 2.0,
        grace_seconds: float = 30.0,
    ) -> None:
        self._store = store
        self._logs = logs
        self._environment = dict(environment)
        self._max_searches = max_searches
        self._only = only
        self._command = command
        self._poll_seconds = poll_seconds
        self._back_off_seconds = back_off_seconds
        self._grace_seconds = grace_seconds
        self.obstacle: str | None = None
        """Why no worker gets on, once something outside hindered several in a row."""
        self._trouble = ""
        self._owner = f"supervisor-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._children: dict[str, _Child] = {}
        self._records: dict[str, _Record] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread."""
        make_private(self._logs)
        self._thread.start()

    def stop(self) -> None:
        """Ask the children to end, wait for them, and kill those that outstay their grace.

        A worker that is asked leaves its search resumable. An interrupt while waiting kills at once.
        """
        self._stopping.set()
        self._thread.join()
        children = [child.process for child in self._children.values()]
        try:
            for process in children:
                process.terminate()
            deadline = time.monotonic() + self._grace_seconds
            for process in children:
                _wait(process, deadline - time.monotonic())
        finally:
            for process in children:
                if process.poll() is None:
                    logger.warning("worker %d does not end and is killed", process.pid)
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self._children.clear()

    def log_path(self, search_id: str) -> Path:
        """Return where the workers of a search write what they print."""
        return log_path(self._logs, search_id)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._reap()
                for search in self._store.unclaimed(utc_now()):
                    self._tend(search)
                self._trouble = ""
            except SearchError as error:
                if str(error) != self._trouble:  # said once, tried again in every round
                    logger.warning("the supervisor tries again: %s", error)
                self._trouble = str(error)
            except Exception:
                # Whatever happens to one round must not leave later searches without workers.
                logger.exception("a round of the supervisor failed")
            self._stopping.wait(self._poll_seconds)

    def _reap(self) -> None:
        for search_id, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            state = self._store.get_search(search_id).state
            has_progress = self._store.num_points(search_id) > child.num_points
            del self._children[search_id]
            if state.is_final or state is SearchState.PAUSED:
                self._records.pop(search_id, None)
                continue
            before = _Record() if has_progress else self._records.get(search_id, _Record())
            crashes = before.num_crashes + (code not in (0, NOT_OURS, *OBSTACLES))
            away = before.num_away + 1 if code in OBSTACLES else 0
            delay = self._back_off_seconds * 2 ** min(max(0, crashes + away - 1), MAX_DOUBLINGS)
            self._records[search_id] = _Record(
                num_crashes=crashes, num_away=away, not_before=time.monotonic() + delay
            )
            if away >= MAX_CRASHES:
                log = self.log_path(search_id)
                self.obstacle = f"{self._why(search_id, code)}, say {away} workers in a row; their log: {log}"
            else:
                self.obstacle = None
            about = {"search_id": search_id}
            logger.warning(
                "the worker of search %s ended before its search, %s", search_id, _how(code), extra=about
            )

    def _tend(self, search: Search) -> None:
        record = self._records.get(search.id, _Record())
        is_ours = self._only in (None, search.id) and search.id not in self._children
        is_due = time.monotonic() >= record.not_before
        if is_ours and record.num_crashes >= MAX_CRASHES:
            self._give_up(search)
        elif is_ours and is_due and len(self._children) < self._max_searches:
            self._launch(search.id)

    def _launch(self, search_id: str) -> None:
        num_points = self._store.num_points(search_id)
        with self.log_path(search_id).open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we ask the children.
            process = subprocess.Popen(  # noqa: S603 - the command is ours
                self._command(search_id),
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[search_id] = _Child(process=process, num_points=num_points)
        logger.info("worker %d runs search %s", process.pid, search_id, extra={"search_id": search_id})

    def _why(self, search_id: str, code: int) -> str:
        """Return what hinders a worker; what a search waits for, it has said itself."""
        at = self._store.get_search(search_id).progress if code == NOT_NOW else None
        found = hindrance_in(at.stage) if at else None
        return f"{OBSTACLES[code]}: {found.text}" if found else OBSTACLES[code]

    def _give_up(self, search: Search) -> None:
        now = utc_now()
        lease = self._store.claim(search.id, self._owner, at=now, until=now + timedelta(seconds=60))
        if lease is None:
            return
        Ledger(self._store, lease).cancel(now)
        log = self.log_path(search.id)
        tail = tail_for_failure(log)
        failure = Failure(
            kind=FailureKind.WORKER_LOST,
            message=f"the worker process ended early {MAX_CRASHES} times without progress: {_last(tail)}; "
            f"its log: {log}",
            log_tail=tail,
        )
        self._store.save_search(search.moved(search.ending(SearchState.FAILED), now, failure=failure), lease)
        self._store.release(lease)
        self._records.pop(search.id, None)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        logger.debug("worker %d outstays its grace", process.pid)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last(tail: str | None) -> str:
    return ((tail or "").splitlines() or ["it says nothing"])[-1]
