"""Weighs the axes of a search while it runs, beside its trials and never in their way.

In a thread of its own: the model of trials takes part of a second, and what it says changes slowly, so it is asked
again when a tenth more trials have completed, and at the end.
"""

import logging
import threading

from nas.axis_importance import axis_importance
from nas.frontier import trained_architectures
from nas.search import LEAST_TO_WEIGH
from nas.storage.store import Lease, SearchStore

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
GROWTH = 1.1
"""Times as many trials as before are worth another look."""
EVENTS_AT_ONCE = 1000


class AxisWeigher:
    """Keeps the importance of the axes of one search up to date from ``start`` to ``close``.

    Args:
        store: Where the trials are, and the importance goes.
        lease: On the search that this process runs.
    """

    def __init__(self, store: SearchStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._num_trials = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="axes", daemon=True)

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Weigh what has completed since, for at most so many seconds."""
        self._closing.set()
        self._thread.join(seconds)

    def weigh(self, *, least: int = LEAST_TO_WEIGH) -> None:
        """Weigh the axes anew where at least ``least`` trials have completed, and more than the last time."""
        trials = self._store.trials(self._lease.search_id)
        count = len(trained_architectures(trials))
        if count < max(least, LEAST_TO_WEIGH) or count == self._num_trials:
            return
        search = self._store.get_search(self._lease.search_id)
        importance = axis_importance(search, trials, self._store.points(self._lease.search_id))
        self._num_trials = count
        if importance is not None:
            self._store.save_importance(importance, self._lease)

    def _run(self) -> None:
        cursor = 0
        while not self._closing.wait(LOOK_SECONDS):
            try:
                events = self._store.events(
                    after=cursor, search_id=self._lease.search_id, limit=EVENTS_AT_ONCE
                )
                if events:
                    cursor = events[-1].sequence
                    self.weigh(least=round(self._num_trials * GROWTH))
            except Exception as error:
                logger.warning("the importance of the axes falls behind: %s", error)
        try:
            self.weigh()
        except Exception as error:
            logger.warning("the importance of the axes is not of the last trials: %s", error)
