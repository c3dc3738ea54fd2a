"""The interface of what was measured over all searches, and of the points of one search a page at a time.

What is listed was written in the transaction in which its trial became final. Pages go on from the last item, so that
what is added meanwhile moves nothing; none of these reads more than it gives, but for ``parents``, which reads one
row for each search.
"""

from typing import Protocol

from nas.history import EVERYTHING, Entry, HistoryFilter, HistoryOrder, ParentSummary, Place
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.storage.store import TrialPoint


class HistoryStore(Protocol):
    """Measurements and points to be read in pages. Unknown ids raise NotFound."""

    def measurements(
        self,
        which: HistoryFilter = EVERYTHING,
        *,
        order: HistoryOrder = HistoryOrder.NEWEST,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Return measurements in order, from the one that comes after that of a trial."""
        ...

    def parents(self, which: SearchFilter = EVERY_SEARCH, *, limit: int = 100) -> list[ParentSummary]:
        """Return what was measured of each parent by such searches, that of the latest measurement first."""
        ...

    def points_after(
        self, search_id: str, place: tuple[int, int] | None = None, *, limit: int = 1000
    ) -> list[TrialPoint]:
        """Return the points of a search by trial and tokens, from the one after such a pair."""
        ...
