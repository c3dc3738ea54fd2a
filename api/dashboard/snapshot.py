"""All that the page of a search shows, read at one time and worked out once for everyone who looks at it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from minitron.architecture import Architecture
from minitron.errors import MinitronError
from nas.agreement import Agreement, rank_agreement
from nas.chronicle import Happening, chronicle
from nas.errors import Conflict, NotFound
from nas.following import Followed, Following
from nas.frontier import Comparison
from nas.leaderboard import Line, comparison_of, leaderboard
from nas.parent import architecture_of
from nas.report_promotions import Promotions, promotions
from nas.report_spending import Spending, spending
from nas.report_zones import Zones, zones
from nas.search import Search
from nas.service import SearchService
from nas.standing import SearchView, TrialRecord, with_waits
from nas.storage.store import TrialPoint

logger = logging.getLogger(__name__)

MAX_HAPPENINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A search and what follows from it."""

    view: SearchView
    lines: list[Line]
    """Trials in reading order."""
    comparison: Comparison | None
    agreement: list[Agreement]
    spending: Spending
    zones: Zones
    promotions: Promotions | None
    happened: list[Happening]
    """What happened last, the latest first."""
    parent: Architecture | None
    """None where the parent's config is gone."""
    winner: Path | None
    disk_bytes: int
    sequence: int
    """With the same one, all is the same."""

    @property
    def search(self) -> Search:
        """The search as stored."""
        return self.view.search

    def line(self, trial_number: int | None) -> Line | None:
        """Return a trial by its number."""
        return next((line for line in self.lines if line.record.trial.number == trial_number), None)


class SnapshotReader:
    """Reads the snapshots of one search, for several threads."""

    def __init__(self, service: SearchService, search_id: str) -> None:
        self._service = service
        self._following = Following(service, search_id)
        self._lock = Lock()
        self._last: Snapshot | None = None
        self._records: tuple[TrialRecord, ...] = ()
        """What the last snapshot was made of."""

    def read(self) -> Snapshot:
        """Return the search as it stands; raises NotFound and StoreUnavailable."""
        found = self._following.now()
        with self._lock:
            last = self._last
            if last is None or found.sequence > last.sequence:
                self._last = last = self._made(found)
            return last

    def _made(self, found: Followed) -> Snapshot:
        search, records = found.search, found.records
        # Most of what happens is progress, which leaves the trials as they are.
        is_known = self._last is not None and records == self._records
        self._records = records
        return Snapshot(
            view=replace(self._service.get(search.id), search=search),
            lines=leaderboard(_with_waits(search, records)),
            comparison=comparison_of(search, [record.trial for record in records]),
            agreement=self._last.agreement if is_known and self._last else rank_agreement(records),
            spending=self._last.spending if is_known and self._last else spending(search, records),
            zones=self._last.zones if is_known and self._last else zones(search, records),
            promotions=promotions(search, records),
            happened=chronicle(search, records, found.orders, limit=MAX_HAPPENINGS),
            parent=_parent_of(search),
            winner=self._winner(search),
            # A walk through files; it is shown only once nothing is written any more.
            disk_bytes=self._service.disk_bytes(search.id) if search.state.is_final else 0,
            sequence=found.sequence,
        )

    def _winner(self, search: Search) -> Path | None:
        if search.winner is None:
            return None
        try:
            return self._service.winner_directory(search.id)
        except (Conflict, NotFound) as error:
            logger.warning("%s", error)
            return None


class SnapshotReaders:
    """The reader of each search that somebody looks at, shared by all who do."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        self._lock = Lock()
        self._readers: WeakValueDictionary[str, SnapshotReader] = WeakValueDictionary()

    def of(self, search_id: str) -> SnapshotReader:
        """Return the reader of a search."""
        with self._lock:
            reader = self._readers.get(search_id)
            if reader is None:
                reader = self._readers[search_id] = SnapshotReader(self._service, search_id)
            return reader


def _with_waits(search: Search, records: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
    """Return records that say why their trials wait."""
    points = [
        TrialPoint(trial_number=record.trial.number, point=point)
        for record in records
        for point in record.points
    ]
    return with_waits(records, search.measured_spec, [record.trial for record in records], points)


def _parent_of(search: Search) -> Architecture | None:
    try:
        return architecture_of(search.spec)
    except MinitronError:
        return None
