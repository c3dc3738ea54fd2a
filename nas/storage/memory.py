"""A store in memory: the reference that others are held to, and what tests run on."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import RLock
from typing import Any

from nas.clock import Clock, utc_now
from nas.earlier import Prior
from nas.edits import Edit
from nas.errors import NotFound
from nas.limits import trained_tokens
from nas.listing import (
    EVERY_SEARCH,
    EVERY_TRIAL,
    SearchFilter,
    SearchOrder,
    TrialFilter,
    TrialOrder,
    TrialPlace,
    listed_trials,
)
from nas.orders import Order
from nas.rungs import losses_by_trial
from nas.search import AxisImportance, Event, Search, SearchState
from nas.spec import dump
from nas.standing import records_of
from nas.storage import changes
from nas.storage.history_memory import MemoryHistory
from nas.storage.memory_accounts import InMemoryAccounts
from nas.storage.ordered import Ordered, Present, order_event, ordered
from nas.storage.outboxes import InMemoryOutboxes
from nas.storage.store import Lease, RequestKey, TrialPoint
from nas.tally import Tally, tally_of, training_gigaflops
from nas.totals import Totals
from nas.trial import Attempt, Point, Trial, TrialRole


@dataclass(slots=True)
class _Record:
    """All that belongs to one search."""

    search: Search
    owner: str | None = None
    until: datetime | None = None
    progressed_at: datetime | None = None
    priors: tuple[Prior, ...] = ()
    trials: dict[int, Trial] = field(default_factory=dict)
    points: dict[tuple[int, int], TrialPoint] = field(default_factory=dict)
    attempts: dict[tuple[int, int], Attempt] = field(default_factory=dict)


class InMemoryStore:
    """A SearchStore that lives as long as its process. Values are immutable, so they need no copies."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self.accounts = InMemoryAccounts()
        self._clock = clock
        self._lock = RLock()
        self._records: dict[str, _Record] = {}
        self._keyed: dict[str, tuple[RequestKey, str]] = {}
        """Requests that made a search, with its id, by their key."""
        self._events: list[Event] = []
        self.history = MemoryHistory(self._lock, self.get_search, self.points)
        self.outboxes = InMemoryOutboxes(self.events, self.last_sequence)

    def add_search(self, search: Search, key: RequestKey | None = None) -> Search:
        """See SearchStore."""
        with self._lock:
            if key and (earlier := self.keyed_search(key)):
                return earlier
            stored = self._records.get(search.id)
            if changes.added_search(stored.search if stored else None, search):
                self._records[search.id] = _Record(search)
                self._tell(search.id, "search", None, changes.search_event(search))
            if key:
                self._keyed[key.key] = (key, search.id)
            return self._records[search.id].search

    def keyed_search(self, key: RequestKey) -> Search | None:
        """See SearchStore."""
        with self._lock:
            if key.key not in self._keyed:
                return None
            stored, search_id = self._keyed[key.key]
            changes.require_same(stored, key)
            return self._record(search_id).search

    def get_search(self, search_id: str) -> Search:
        """See SearchStore."""
        with self._lock:
            return self._record(search_id).search

    def list_searches(
        self,
        which: SearchFilter = EVERY_SEARCH,
        *,
        order: SearchOrder = SearchOrder.NEWEST,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Search]:
        """See SearchStore."""
        with self._lock:
            last = self._record(after).search if after is not None else None
            searches = [record.search for record in self._records.values()]
        searches.sort(key=order.key, reverse=order.is_descending)
        begin = searches.index(last) + 1 if last else 0
        return [search for search in searches[begin:] if which.admits(search)][:limit]

    def save_search(self, search: Search, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, search.id) as record:
            if changed := changes.saved_search(record.search, search):
                self._put_search(record, changed)
                record.progressed_at = self._clock()

    def save_importance(self, importance: AxisImportance, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id) as record:
            if record.search.importance != importance:
                self._put_search(record, replace(record.search, importance=importance))

    def save_priors(self, priors: Sequence[Prior], lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id) as record:
            if record.search.num_priors is None:
                record.priors = tuple(priors)
                self._put_search(record, replace(record.search, num_priors=len(priors)))

    def priors(self, search_id: str) -> list[Prior]:
        """See SearchStore."""
        with self._lock:
            return list(self._record(search_id).priors)

    def edit_search(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """See SearchStore."""
        with self._lock:
            record = self._record(search_id)
            if changed := changes.edited_search(record.search, edit, versions):
                record.search = changed
                self._tell(search_id, "edit", None, changes.edit_event(changed))
            return record.search

    def give_order(self, search_id: str, order: Order, *, at: datetime, by: str = "") -> Search:
        """See SearchStore."""
        with self._lock:
            record = self._record(search_id)
            searched = [each for each in self.trials(search_id) if each.role is TrialRole.SEARCH]
            present = Present(
                search=record.search,
                trials=self.trials(search_id),
                attempts=self.attempts(search_id),
                trained_tokens=trained_tokens(searched, losses_by_trial(self.points(search_id))),
                is_held=not changes.is_free(record.owner, record.until, at),
                at=at,
                by=by,
            )
            if changed := ordered(order, present):
                self._put_ordered(record, changed)
                number = getattr(order, "trial_number", None)
                self._tell(search_id, "order", number, order_event(order, by))
            return record.search

    def _put_ordered(self, record: _Record, changed: Ordered) -> None:
        if changed.ends_lease:
            record.owner = record.until = None
        for attempt in changed.attempts:
            record.attempts[attempt.trial_number, attempt.number] = attempt
            self._tell(attempt.search_id, "attempt", attempt.trial_number, dump(attempt))
        for trial in changed.trials:
            self._put_trial(record, trial)
        self._put_search(record, changed.search)

    def _put_trial(self, record: _Record, trial: Trial) -> None:
        record.trials[trial.number] = trial
        if trial.state.is_final:
            self.history.add(record.search, trial)
        self._tell(trial.search_id, "trial", trial.number, dump(trial))

    def claim(self, search_id: str, owner: str, *, at: datetime, until: datetime) -> Lease | None:
        """See SearchStore."""
        with self._lock:
            record = self._record(search_id)
            if not changes.claimable(record.search.state, record.owner, record.until, owner, at):
                return None
            record.owner, record.until = owner, until
            return Lease(search_id=search_id, owner=owner)

    def renew(self, lease: Lease, *, until: datetime) -> bool:
        """See SearchStore."""
        with self._lock:
            record = self._record(lease.search_id)
            is_held = record.owner == lease.owner
            record.until = until if is_held else record.until
            return is_held

    def release(self, lease: Lease) -> None:
        """See SearchStore."""
        with self._lock:
            record = self._record(lease.search_id)
            if record.owner == lease.owner:
                record.owner = record.until = None

    def unclaimed(self, at: datetime) -> list[Search]:
        """See SearchStore."""
        with self._lock:
            return [
                each
                for each in self._oldest_first()
                if not (each.state.is_final or each.state is SearchState.PAUSED)
                and changes.is_free(self._records[each.id].owner, self._records[each.id].until, at)
            ]

    def held(self, search_ids: Collection[str], at: datetime) -> set[str]:
        """See SearchStore."""
        with self._lock:
            known = {each: self._records[each] for each in search_ids if each in self._records}
        return {each for each, record in known.items() if not changes.is_free(record.owner, record.until, at)}

    def queue(self, limit: int) -> list[str]:
        """See SearchStore."""
        return [each.id for each in self._oldest_first() if each.state is SearchState.QUEUED][:limit]

    def save_trial(self, trial: Trial, lease: Lease, points: Sequence[Point] = ()) -> None:
        """See SearchStore."""
        with self._held(lease, trial.search_id) as record:
            if changed := changes.saved_trial(record.trials.get(trial.number), trial):
                self._put_trial(record, changed)
                record.progressed_at = self._clock()
            for point in points:
                self._put_point(record, TrialPoint(trial_number=trial.number, point=point))

    def trials(self, search_id: str) -> list[Trial]:
        """See SearchStore."""
        with self._lock:
            return [trial for _, trial in sorted(self._record(search_id).trials.items())]

    def add_point(self, point: TrialPoint, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, lease.search_id, point.trial_number) as record:
            self._put_point(record, point)

    def _put_point(self, record: _Record, point: TrialPoint) -> None:
        key = (point.trial_number, point.point.num_tokens)
        if key not in record.points:
            record.points[key] = changes.added_point(point)
            self._tell(record.search.id, "point", point.trial_number, changes.point_event(point))
            record.progressed_at = self._clock()

    def list_trials(
        self,
        search_id: str,
        which: TrialFilter = EVERY_TRIAL,
        *,
        order: TrialOrder = TrialOrder.NUMBER,
        after: TrialPlace | None = None,
        limit: int = 100,
    ) -> list[Trial]:
        """See SearchStore."""
        return listed_trials(self.trials(search_id), which, order=order, after=after)[:limit]

    def points(self, search_id: str, trials: Collection[int] | None = None) -> list[TrialPoint]:
        """See SearchStore."""
        with self._lock:
            found = sorted(self._record(search_id).points.items())
        return [point for (number, _), point in found if trials is None or number in trials]

    def num_points(self, search_id: str) -> int:
        """See SearchStore."""
        with self._lock:
            return len(self._records[search_id].points) if search_id in self._records else 0

    def save_attempt(self, attempt: Attempt, lease: Lease) -> None:
        """See SearchStore."""
        with self._held(lease, attempt.search_id, attempt.trial_number) as record:
            key = (attempt.trial_number, attempt.number)
            if record.attempts.get(key) != attempt:
                record.attempts[key] = attempt
                self._tell(attempt.search_id, "attempt", attempt.trial_number, dump(attempt))
                record.progressed_at = self._clock()

    def attempts(self, search_id: str, trials: Collection[int] | None = None) -> list[Attempt]:
        """See SearchStore."""
        with self._lock:
            found = sorted(self._record(search_id).attempts.items())
        return [attempt for (number, _), attempt in found if trials is None or number in trials]

    def tallies(self, search_ids: Collection[str]) -> Mapping[str, Tally]:
        """See SearchStore."""
        with self._lock:
            known = [search_id for search_id in self._records if search_id in search_ids]
            return {search_id: self._tally(search_id) for search_id in known}

    def _tally(self, search_id: str) -> Tally:
        records = records_of(self.trials(search_id), self.points(search_id), self.attempts(search_id))
        histories = ((record.trial, record.points, record.attempts) for record in records)
        of_search = self._records[search_id]
        winner = of_search.search.winner
        return tally_of(histories, of_search.progressed_at, winner.trial_number if winner else None)

    def events(
        self, *, after: int = 0, search_id: str | None = None, kind: str | None = None, limit: int = 1000
    ) -> list[Event]:
        """See SearchStore."""
        with self._lock:
            if search_id is not None:
                self._record(search_id)
            later = self._events[max(after, 0) :]
        chosen = [
            event for event in later if search_id in (None, event.search_id) and kind in (None, event.kind)
        ][:limit]
        return [replace(event, data=deepcopy(event.data)) for event in chosen]

    def last_sequence(self) -> int:
        """See SearchStore."""
        with self._lock:
            return len(self._events)

    def totals(self) -> Totals:
        """See SearchStore."""
        with self._lock:
            records = list(self._records.values())
            trials = [trial for record in records for trial in record.trials.values()]
            last: dict[tuple[str, int], int] = {}
            for record in records:
                for number, num_tokens in record.points:
                    key = (record.search.id, number)
                    if record.trials[number].reused_from is None:
                        last[key] = max(num_tokens, last.get(key, 0))
        return Totals(
            searches=Counter(record.search.state for record in records),
            trials=Counter(trial.state for trial in trials),
            trained_tokens=sum(last.values()),
            training_gigaflops=sum(self._gigaflops(*key, num_tokens) for key, num_tokens in last.items()),
        )

    def _gigaflops(self, search_id: str, number: int, num_tokens: int) -> int:
        record = self._records[search_id]
        length = record.search.spec.data.sequence_length
        return training_gigaflops(record.trials[number].architecture, num_tokens, sequence_length=length)

    def ping(self) -> None:
        """See SearchStore."""

    def _record(self, search_id: str) -> _Record:
        if search_id not in self._records:
            raise NotFound(f"search {search_id}: not found")
        return self._records[search_id]

    def _oldest_first(self) -> list[Search]:
        with self._lock:
            searches = [record.search for record in self._records.values()]
        return sorted(searches, key=lambda search: (search.created_at, search.id))

    @contextmanager
    def _held(self, lease: Lease, search_id: str, trial_number: int | None = None) -> Iterator[_Record]:
        """Give the record that a lease allows to write, with the trial that is written about in it."""
        assert lease.search_id == search_id, f"lease of {lease.search_id} used on {search_id}"
        with self._lock:
            record = self._record(search_id)
            changes.require_held(lease, record.owner)
            if trial_number is not None and trial_number not in record.trials:
                raise NotFound(f"search {search_id}: trial {trial_number}: not found")
            yield record

    def _put_search(self, record: _Record, search: Search) -> None:
        record.search = search
        self._tell(search.id, "search", None, changes.search_event(search))

    def _tell(self, search_id: str, kind: str, trial_number: int | None, data: Mapping[str, Any]) -> None:
        self._events.append(
            Event(
                sequence=len(self._events) + 1,
                search_id=search_id,
                kind=kind,
                trial_number=trial_number,
                at=self._clock(),
                data=data,
            )
        )
