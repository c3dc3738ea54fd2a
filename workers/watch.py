"""Keeps a search's lease, and knows when this process must end: told to, orphaned, or no longer owner.

Knows nothing of what the process does meanwhile.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from types import FrameType, TracebackType
from typing import Self

from nas.clock import utc_now
from nas.storage.store import Lease, SearchStore

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RENEWALS = 6
"""Of the lease, within its term."""
STUCK_SECONDS = 25.0
"""A main thread that has not ended so long after it should have is not waited for."""


class Reason(Enum):
    """Why the process must end before its search has."""

    TERMINATED = "asked to end"
    ORPHANED = "the process that started this one is gone"
    LOST_LEASE = "another process has taken the search over"
    KILLED = "the search was killed"


class Watch:
    """A thread that renews the lease from entry to exit; enter it in the main thread.

    Args:
        store: Holds the lease.
        lease: Held at entry; released at exit unless it was lost.
        lease_seconds: For how long each renewal is good.
        at_renewal: Called in the thread at every renewal.
    """

    def __init__(
        self, store: SearchStore, lease: Lease, *, lease_seconds: float, at_renewal: Callable[[], None]
    ) -> None:
        self.reason: Reason | None = None
        """Set once, when the process must end."""
        self._store = store
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._at_renewal = at_renewal
        self._parent_pid = os.getppid()
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def must_stop(self) -> bool:
        """Return whether the process must end."""
        return self.reason is not None

    def catch_signals(self) -> None:
        """End in order at SIGTERM and SIGINT; to be called again after whatever replaces handlers."""
        for number in self._handlers:
            signal.signal(number, self._on_signal)

    def __enter__(self) -> Self:
        self.catch_signals()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended.set()
        self._thread.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.reason is not Reason.LOST_LEASE:
            self._store.release(self._lease)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        logger.info("%s: the search is left to be taken up again", signal.Signals(number).name)
        self.reason = self.reason or Reason.TERMINATED

    def _run(self) -> None:
        renewed_at = time.monotonic()
        ended_at: float | None = None
        while not self._has_ended.wait(POLL_SECONDS):
            if os.getppid() != self._parent_pid:
                self.reason = self.reason or Reason.ORPHANED
            if self.reason is not None:
                ended_at = ended_at or time.monotonic()
                if time.monotonic() - ended_at > STUCK_SECONDS:
                    logger.error("%s, but the process is stuck; it ends now", self.reason.value)
                    os._exit(1)
            is_due = time.monotonic() - renewed_at >= self._lease_seconds / RENEWALS
            if is_due and self.reason is not Reason.LOST_LEASE:
                renewed_at = self._renewed(renewed_at)
                self._keep_house()

    def _renewed(self, renewed_at: float) -> float:
        """Renew the lease and return when it was last renewed."""
        until = utc_now() + timedelta(seconds=self._lease_seconds)
        try:
            is_held = self._store.renew(self._lease, until=until)
            search = self._store.get_search(self._lease.search_id)
            is_lost = not is_held and not search.state.is_final
            if search.orders.is_killed:
                self.reason = self.reason or Reason.KILLED
        except Exception as error:
            # Whatever it is, a thread that dies here would lose the lease with nobody the wiser.
            logger.warning("the lease cannot be renewed: %s", error)
            is_lost = time.monotonic() - renewed_at > self._lease_seconds
        else:
            renewed_at = time.monotonic()
        if is_lost:
            self.reason = self.reason or Reason.LOST_LEASE
        return renewed_at

    def _keep_house(self) -> None:
        try:
            self._at_renewal()
        except Exception as error:
            logger.warning("what belongs to finished trials cannot be swept: %s", error)
