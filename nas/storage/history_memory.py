"""What was measured over all searches, in memory: the reference that the database is held to."""

from collections.abc import Callable
from threading import RLock

from nas.errors import NotFound
from nas.history import (
    EVERYTHING,
    Entry,
    HistoryFilter,
    HistoryOrder,
    Measured,
    ParentSummary,
    Place,
    SearchSum,
    measured,
    sum_of,
    summaries,
)
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.search import Search
from nas.storage.store import TrialPoint
from nas.trial import Trial


class MemoryHistory:
    """A HistoryStore beside the searches and points that the functions give."""

    def __init__(
        self,
        lock: RLock,
        search: Callable[[str], Search],
        points: Callable[[str], list[TrialPoint]],
    ) -> None:
        self._lock = lock
        self._search = search
        self._points = points
        self._measured: dict[Place, Measured] = {}
        self._sums: dict[tuple[str, str], SearchSum] = {}

    def add(self, search: Search, trial: Trial) -> None:
        """List a trial that has become final."""
        points = [each.point for each in self._points(search.id) if each.trial_number == trial.number]
        found = measured(search.spec, search.made_from, trial, points)
        if found is not None:
            self._measured[found.place] = found
            key = (found.parent_key, search.id)
            self._sums[key] = self._sums.get(key, sum_of(found)).plus(found)

    def measurements(
        self,
        which: HistoryFilter = EVERYTHING,
        *,
        order: HistoryOrder = HistoryOrder.NEWEST,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """See HistoryStore."""
        with self._lock:
            ordered = sorted(self._measured.values(), key=order.key, reverse=order.is_descending)
            begin = ordered.index(self._found(after)) + 1 if after else 0
            entries = [(each, self._search(each.search_id)) for each in ordered[begin:]]
        return [Entry.of(each, search) for each, search in entries if which.admits(each, search)][:limit]

    def parents(self, which: SearchFilter = EVERY_SEARCH, *, limit: int = 100) -> list[ParentSummary]:
        """See HistoryStore."""
        with self._lock:
            sums = [each for each in self._sums.values() if which.admits(self._search(each.search_id))]
        return summaries(sums)[:limit]

    def points_after(
        self, search_id: str, place: tuple[int, int] | None = None, *, limit: int = 1000
    ) -> list[TrialPoint]:
        """See HistoryStore."""
        points = self._points(search_id)
        later = (
            each for each in points if place is None or (each.trial_number, each.point.num_tokens) > place
        )
        return list(later)[:limit]

    def _found(self, place: Place) -> Measured:
        if place not in self._measured:
            raise NotFound(f"search {place[0]}: trial {place[1]}: no measurement")
        return self._measured[place]
