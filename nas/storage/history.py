"""The interface of what was measured over all searches, and of what one search holds a page at a time.

What is listed was written in the transaction in which its trial became final. Pages go on from the last item, so that
what is added meanwhile moves nothing; none of these reads more than it gives, but for ``parents``, which reads one
row for each search.
"""

from collections.abc import Collection
from typing import Protocol

from nas.history import EVERYTHING, Entry, HistoryFilter, HistoryOrder, ParentSummary, Place
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.storage.store import TrialPoint
from nas.trial import Trial


class HistoryStore(Protocol):
    """Measurements, trials and points to be read in pages. Unknown ids raise NotFound."""

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

    def trials_after(self, search_id: str, number: int | None = None, *, limit: int = 100) -> list[Trial]:
        """Return the trials of a search by number, from the one after ``number``."""
        ...

    def points_after(
        self, search_id: str, place: tuple[int, int] | None = None, *, limit: int = 1000
    ) -> list[TrialPoint]:
        """Return the points of a search by trial and tokens, from the one after such a pair."""
        ...

    def points_of(self, search_id: str, numbers: Collection[int]) -> list[TrialPoint]:
        """Return the points of some trials of a search by trial and tokens; unknown trials have none."""
        ...
