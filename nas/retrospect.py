"""What people ask of all that was measured: the history, searches side by side, fronts, curves, tables to take along.

A part of the service: knows a store and how to ask where a search stands; no HTTP, no database. Unknown ids raise
NotFound.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from nas.clock import Clock
from nas.earlier import Prior
from nas.errors import InvalidRequest, NotFound
from nas.exports import Row, history_row, point_row, trial_row
from nas.frontier import pareto_front
from nas.history import EVERYTHING, Entry, HistoryFilter, HistoryOrder, ParentSummary, Place
from nas.leaderboard import comparison_of
from nas.listing import EVERY_SEARCH, SearchFilter, place_of
from nas.report import SearchReport, search_report
from nas.sampling import shared
from nas.series import Series, curve, furthest
from nas.side_by_side import MOST_SEARCHES, SideBySide, beside, side_by_side
from nas.standing import SearchView, TrialRecord, records_of
from nas.storage.store import SearchStore
from nas.trial import Trial

T = TypeVar("T")
ROWS_PER_READ = 500
TRIALS_PER_READ = 50
"""Whose points are read with them."""


class Retrospect(ABC):
    """The use cases that look back."""

    _store: SearchStore
    _clock: Clock

    @abstractmethod
    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""

    @abstractmethod
    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number."""

    def list_measurements(
        self,
        which: HistoryFilter = EVERYTHING,
        *,
        order: HistoryOrder = HistoryOrder.NEWEST,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Return measurements in order, from the one that comes after that of a trial."""
        return self._store.history.measurements(which, order=order, after=after, limit=limit)

    def list_parents(self, which: SearchFilter = EVERY_SEARCH, *, limit: int = 100) -> list[ParentSummary]:
        """Return what was measured of each parent, that of the latest measurement first."""
        return self._store.history.parents(which, limit=limit)

    def compare(self, search_ids: Sequence[str]) -> SideBySide:
        """Return searches beside one another, each once, in this order.

        Raises:
            InvalidRequest: None, or too many.
        """
        distinct = tuple(dict.fromkeys(search_ids))
        if not 1 <= len(distinct) <= MOST_SEARCHES:
            raise InvalidRequest("search", f"found {len(distinct)}, allowed: 1 to {MOST_SEARCHES}")
        views = [self.get(each) for each in distinct]
        objectives = [view.search.measured_spec.weighed for view in views]
        common = shared(objectives)
        found = [
            beside(view, self.trials(view.search.id), common and own)
            for view, own in zip(views, objectives, strict=True)
        ]
        return side_by_side(found, common)

    def front(self, search_id: str) -> tuple[Trial, ...]:
        """Return the completed trials of a search that none of lower or equal cost beats, from low cost to high.

        The cost is what the search weighs against the loss, parameters unless it says otherwise.
        """
        objective = self._store.get_search(search_id).measured_spec.weighed
        return pareto_front(self._store.trials(search_id), objective)

    def priors(self, search_id: str) -> list[Prior]:
        """Return the earlier measurements that the proposals of a search began from; none before that was settled."""
        return self._store.priors(search_id)

    def series(
        self, search_id: str, *, numbers: Sequence[int] | None = None, max_points: int, max_trials: int
    ) -> Series:
        """Return the learning curves of trials by their numbers, or of those that are furthest.

        Raises:
            NotFound: No such trial.
        """
        trials = self._store.trials(search_id)
        if numbers is None:
            chosen = furthest(trials, max_trials)
        else:
            by_number = {trial.number: trial for trial in trials}
            missing = sorted(set(numbers) - by_number.keys())
            if missing:
                raise NotFound(f"search {search_id}: trial {missing[0]}: not found")
            chosen = [by_number[number] for number in sorted(set(numbers))]
        points = self._store.points(search_id, [trial.number for trial in chosen])
        records = records_of(chosen, points, ())
        curves = tuple(curve(record.trial, record.points, max_points) for record in records)
        return Series(search_id=search_id, curves=curves, num_trials=len(trials))

    def report(self, search_id: str) -> SearchReport:
        """Return what a search found, what it cost and what it teaches, as it stands."""
        view = self.get(search_id)
        trials = self._store.trials(search_id)
        records = records_of(trials, self._store.points(search_id), self._store.attempts(search_id))
        return search_report(view, records, comparison_of(view.search, trials), self._clock())

    def trial_rows(self, search_id: str) -> Iterator[Row]:
        """Return the trials of a search as rows of ``TRIAL_COLUMNS``, read page by page; it is there when this returns."""

        def page(after: Trial | None) -> list[Trial]:
            place = place_of(after) if after else None
            return self._store.list_trials(search_id, after=place, limit=TRIALS_PER_READ)

        def rows(trials: Sequence[Trial]) -> Iterator[Row]:
            points = self._store.points(search_id, [trial.number for trial in trials])
            return map(trial_row, records_of(trials, points, ()))

        return (row for trials in _pages(page) for row in rows(trials))

    def point_rows(self, search_id: str) -> Iterator[Row]:
        """Return the points of a search as rows of ``POINT_COLUMNS``; as ``trial_rows``."""
        pages = _pages(
            lambda after: self._store.history.points_after(
                search_id,
                (after.trial_number, after.point.num_tokens) if after else None,
                limit=ROWS_PER_READ,
            )
        )
        return (point_row(search_id, each) for points in pages for each in points)

    def history_rows(
        self, which: HistoryFilter = EVERYTHING, *, order: HistoryOrder = HistoryOrder.OLDEST
    ) -> Iterator[Row]:
        """Return measurements as rows of ``HISTORY_COLUMNS``; as ``trial_rows``."""
        pages = _pages(
            lambda after: self.list_measurements(
                which, order=order, after=after.measured.place if after else None, limit=ROWS_PER_READ
            )
        )
        return (history_row(entry) for entries in pages for entry in entries)


def _pages(read: Callable[[T | None], list[T]]) -> Iterator[list[T]]:
    """Return the pages of a list, the first of which is read at once: what cannot be read is told before it is sent."""
    first = read(None)

    def rest() -> Iterator[list[T]]:
        page = first
        while page:
            yield page
            page = read(page[-1])

    return rest()
