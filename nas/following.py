"""A search as it stands by now: read whole once, and from then on only as far as something has happened.

Events hold the changed objects, so they bring what was read up to date; while nothing happens, a look costs one
query that finds nothing. Several may follow one search together. Knows no HTTP and no page.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from threading import Lock

from nas.search import Event, Search
from nas.service import SearchService
from nas.spec import load
from nas.standing import TrialRecord
from nas.trial import Attempt, Point, Trial

EVENTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A search at one time."""

    search: Search
    records: tuple[TrialRecord, ...]
    """By number; why trials wait is not told."""
    orders: tuple[Event, ...]
    """What was ordered, in order."""
    sequence: int
    """Of the last event that is in it: with the same one, everything is the same."""


class Following:
    """Follows one search, for several threads.

    Args:
        service: Where the search is read.
        search_id: Of the search.
    """

    def __init__(self, service: SearchService, search_id: str) -> None:
        self._service = service
        self._id = search_id
        self._lock = Lock()
        self._search: Search | None = None
        self._is_changed = False
        """Whether the search itself is to be read again."""
        self._cursor = 0
        self._trials: dict[int, Trial] = {}
        self._points: dict[int, dict[int, Point]] = defaultdict(dict)
        self._attempts: dict[int, dict[int, Attempt]] = defaultdict(dict)
        self._records: dict[int, TrialRecord] = {}
        self._orders: dict[int, Event] = {}
        """By sequence."""

    def now(self) -> Followed:
        """Return the search as it stands.

        Raises:
            NotFound: There is no such search.
            StoreUnavailable: The store does not answer; what was read before is kept.
        """
        with self._lock:
            self._search = self._read_on(self._search) if self._search else self._read_whole()
            return self._followed(self._search)

    def _followed(self, search: Search) -> Followed:
        records = tuple(self._records[number] for number in sorted(self._records))
        return Followed(
            search=search, records=records, orders=tuple(self._orders.values()), sequence=self._cursor
        )

    def _read_whole(self) -> Search:
        # The cursor first: what happens while the rest is read is heard of again, which changes nothing.
        cursor = self._service.event_cursor(None, "after")
        search, records = self._service.search(self._id), self._service.trials(self._id)
        for record in records:
            number = record.trial.number
            self._trials[number], self._records[number] = record.trial, replace(record, waiting=None)
            self._points[number] = {point.num_tokens: point for point in record.points}
            self._attempts[number] = {attempt.number: attempt for attempt in record.attempts}
        for event in self._service.events(search_id=self._id, kind="order", limit=EVENTS_AT_ONCE):
            self._orders[event.sequence] = event
        self._cursor = cursor
        return search

    def _read_on(self, search: Search) -> Search:
        while events := self._service.events(after=self._cursor, search_id=self._id, limit=EVENTS_AT_ONCE):
            for event in events:
                if event.kind == "order":
                    self._orders[event.sequence] = event
                if event.kind == "order" or event.trial_number is None:
                    self._is_changed = True
                else:
                    self._take(event, event.trial_number)
            self._renew({event.trial_number for event in events if event.trial_number is not None})
            self._cursor = events[-1].sequence
            if len(events) < EVENTS_AT_ONCE:
                break
        if self._is_changed:  # events hold neither spec nor notes
            search = self._service.search(self._id)
            self._is_changed = False
        return search

    def _take(self, event: Event, number: int) -> None:
        match event.kind:
            case "trial":
                self._trials[number] = load(Trial, event.data)
            case "point":
                point = load(Point, event.data)
                self._points[number].setdefault(point.num_tokens, point)
            case "attempt":
                attempt = load(Attempt, event.data)
                self._attempts[number][attempt.number] = attempt

    def _renew(self, numbers: set[int]) -> None:
        for number in numbers:
            self._records[number] = TrialRecord(
                trial=self._trials[number],
                points=tuple(point for _, point in sorted(self._points[number].items())),
                attempts=tuple(attempt for _, attempt in sorted(self._attempts[number].items())),
            )
