"""Sends the store's events to MLflow, those of all searches in their order, from where it was told up to last.

A process of its own, so that no search waits for MLflow or ends with it. Killed at any moment, it sends
again what it was at, which changes nothing. One at a time sends; others wait to take its place.
"""

import logging
import os
import socket
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path

from nas.clock import utc_now
from nas.outbox import Outbox
from nas.storage.store import SearchStore
from workers.tracking.projection import Projection
from workers.tracking.target import Target

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
EVENTS_AT_ONCE = 1000
TURN_SECONDS = 30.0
CHECK_SECONDS = 60.0
"""How often an MLflow that there is nothing to tell is asked whether it is the same as before."""
MOST_AWAY_SECONDS = 60.0
"""Between two tries, at most."""


class Projector:
    """Sends from ``run`` until it is stopped.

    Args:
        store: Where the events are.
        root: The artifact root, where winners lie.
        uri: Of the MLflow server or database.
        target: What it is known by; see ``nas.outbox.target_of``.
        artifacts: Where artifacts lie when MLflow is on this machine; None leaves that to MLflow.
        owner: Whose turn it is to send; one that takes the place of another that died goes on at once under its name.
    """

    def __init__(
        self,
        store: SearchStore,
        *,
        root: Path,
        uri: str,
        target: str,
        artifacts: Path | None,
        owner: str = "",
    ) -> None:
        self._store = store
        self._root = root
        self._uri = uri
        self._target = target
        self._artifacts = artifacts
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stopping = threading.Event()
        self._outbox: Outbox | None = None
        self._projection: Projection | None = None
        self._connected: Target | None = None
        self._checked_at = self._renewed_at = 0.0
        self._num_away = 0
        """Tries in a row that MLflow or the store did not answer."""

    def stop(self) -> None:
        """Have ``run`` return once all is sent, or cannot be sent now."""
        self._stopping.set()

    def run(self) -> bool:
        """Send until stopped, and return whether all was sent, as far as the store says."""
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(self._pause())
            try:
                while self._round():
                    self._num_away = 0
                self._num_away = 0
            except Exception as error:
                # Whatever MLflow meets is no reason to send nothing any more.
                if not self._num_away:
                    logger.warning("%s is away, to be brought up to date: %s", self._target, error)
                self._num_away += 1
                self._forget()  # what is remembered of MLflow may be wrong now
        if self._outbox is not None:
            self._store.outboxes.release(self._outbox.id, self._owner)
        return self._num_away == 0

    def _pause(self) -> float:
        if self._connected is None and not self._num_away:
            return 0.0
        return min(FLUSH_SECONDS * float(2 ** min(self._num_away, 8)), MOST_AWAY_SECONDS)

    def _round(self) -> bool:
        """Send the next events, and return whether there may be more to send at once."""
        target = self._connected or self._connect()
        if self._outbox is None:
            now = utc_now()
            self._outbox = self._store.outboxes.open(
                target.outbox_id,
                target=self._target,
                experiment_id=target.experiment_id,
                owner=self._owner,
                at=now,
                until=now + timedelta(seconds=TURN_SECONDS),
            )
            if self._outbox is None:
                return False  # another sends
            self._projection = self._projection or Projection(target, self._store, self._root)
            self._renewed_at = time.monotonic()
        events = self._store.events(after=self._outbox.cursor, limit=EVENTS_AT_ONCE)
        if not events:
            self._rest(target, self._outbox)
            return False
        assert self._projection is not None
        sent = self._projection.send(events)
        until = utc_now() + timedelta(seconds=TURN_SECONDS)
        self._outbox = self._store.outboxes.advance(
            self._outbox,
            events[-1].sequence,
            sent.runs,
            sent.versions,
            owner=self._owner,
            until=until,
        )
        self._renewed_at = time.monotonic()
        if self._outbox is None:  # others sent it, or all is to be sent again
            self._projection = None
        return True

    def _rest(self, target: Target, outbox: Outbox) -> None:
        """See to it that there is really nothing to send, and that nobody else begins to."""
        now = time.monotonic()
        if now - self._checked_at > CHECK_SECONDS:
            target.require()
            self._checked_at = now
        is_old = now - self._renewed_at > TURN_SECONDS / 3
        if is_old or self._store.outboxes.at(self._target) != outbox:
            self._outbox = None  # opened anew in the next round

    def _connect(self) -> Target:
        self._connected = Target(self._uri, self._artifacts)
        self._checked_at = time.monotonic()
        logger.info("%s is told of searches", self._target)
        return self._connected

    def _forget(self) -> None:
        self._connected = self._projection = None
        self._outbox = None


def is_sent(store: SearchStore, target: str, sequence: int) -> bool:
    """Return whether all events up to one were sent to a target."""
    outbox = store.outboxes.at(target)
    return outbox is not None and outbox.cursor >= sequence
