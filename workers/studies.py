"""Shows a search as an Optuna study while it runs, beside MLflow's record of it.

In a thread of its own; nothing it meets slows or stops a search. It looks for events of trials and then has
the whole study brought up to date, so that whatever was missed while the storage or this process was away
comes with the next.
"""

import logging
import threading

from nas.clock import utc_now
from nas.errors import NotFound
from nas.storage.store import SearchStore
from nas.study_storage import StudyStorage, shown

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
AWAY_SECONDS = 10.0
"""How long a storage that is away is left alone."""
EVENTS_AT_ONCE = 1000
SETTLED_SECONDS = 600.0
"""After its end, the process of a search has long stopped telling its study."""


class StudyKeeper:
    """Keeps the study of one search up to date from ``start`` to ``close``.

    Args:
        store: Where the search is read.
        search_id: Of the search that this process runs.
        url: Of the Optuna storage.
    """

    def __init__(self, store: SearchStore, search_id: str, *, url: str) -> None:
        self._store = store
        self._search_id = search_id
        self._url = url
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="study", daemon=True)

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Write what is left, for at most so many seconds."""
        self._closing.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning(
                "%s did not take everything in %.0f s; %s", shown(self._url), seconds, self._remedy
            )

    @property
    def _remedy(self) -> str:
        return f"later complete it with: nas study {self._search_id}"

    def _run(self) -> None:
        is_away = False
        while True:
            try:
                with StudyStorage(self._url) as storage:
                    self._keep(storage)
                return
            except Exception as error:
                if not is_away:
                    logger.warning("the Optuna study falls behind: %s; %s", error, self._remedy)
            is_away = True
            if self._closing.is_set():
                return
            self._closing.wait(AWAY_SECONDS)

    def _keep(self, storage: StudyStorage) -> None:
        """Write until told to close, and once more then."""
        cursor = self._store.last_sequence()
        storage.write(self._store, self._search_id)
        self._settle(storage)
        while not self._closing.wait(FLUSH_SECONDS):
            events = self._store.events(after=cursor, search_id=self._search_id, limit=EVENTS_AT_ONCE)
            if events:
                cursor = events[-1].sequence
            if any(event.kind in {"trial", "point"} for event in events):
                storage.write(self._store, self._search_id)
        storage.write(self._store, self._search_id)

    def _settle(self, storage: StudyStorage) -> None:
        """Complete the studies of searches whose processes were killed after the store had seen their end."""
        for search_id in storage.unfinished():
            try:
                search = self._store.get_search(search_id)
            except NotFound:
                continue  # of another database
            ended = search.finished_at
            if ended is not None and (utc_now() - ended).total_seconds() > SETTLED_SECONDS:
                storage.write(self._store, search_id)
