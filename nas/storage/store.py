"""The interface of the only truth about searches, and what every implementation guarantees.

* A returned value never changes; stored values are copies.
* A method that returns has committed; one that raises has changed nothing.
* Every change is one transaction together with the event that tells of it.
* A final trial never changes: saving an equal one is ignored, another raises FinalTrialChanged.
* A write by a runner names its lease; once another owner holds the search it raises LostLease.
* Adding what is already there (the same point, the same attempt) is ignored, so that writers can resend.
* What people say of a search is theirs: no runner's write touches it, and it may be edited at any time.
* A search that was added under a request's key is what every later request with that key gets.
* Safe to use from several threads; the SQL one also from several processes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from nas.edits import Edit
from nas.listing import EVERY_SEARCH, SearchFilter, SearchOrder
from nas.outbox import OutboxStore
from nas.search import Event, Search
from nas.totals import Totals
from nas.trial import Attempt, Point, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one process to write a search until it lapses."""

    search_id: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """What makes a request that is sent again known: its sender chose the key and repeats it."""

    key: str
    fingerprint: str
    """Digest of the whole request; another under the same key is a mistake of the sender's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """A point together with the trial it belongs to."""

    trial_number: int
    point: Point


class SearchStore(Protocol):
    """Searches, trials, attempts, points and events. Unknown ids raise NotFound."""

    @property
    def outboxes(self) -> OutboxStore:
        """What MLflow was told of them."""
        ...

    def add_search(self, search: Search, key: RequestKey | None = None) -> Search:
        """Store a new search, and its request's key with it, and return it.

        Returns the earlier search instead when one was added under the same key. Raises KeyReused
        when that was another request.
        """
        ...

    def keyed_search(self, key: RequestKey) -> Search | None:
        """Return the search that was added under a key, if there is one; raises KeyReused."""
        ...

    def get_search(self, search_id: str) -> Search:
        """Return one search."""
        ...

    def list_searches(
        self,
        which: SearchFilter = EVERY_SEARCH,
        *,
        order: SearchOrder = SearchOrder.NEWEST,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Search]:
        """Return searches in order, from the one that comes after the search with the id ``after``."""
        ...

    def save_search(self, search: Search, lease: Lease) -> None:
        """Replace a stored search; ``cancel_requested`` and what people say of it are kept as stored."""
        ...

    def edit_search(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """Say something of a search and return it, its version one higher if that is something new.

        Raises StaleVersion when that would change another version than the edit was made of: ``versions``
        names those that it may be; None any.
        """
        ...

    def request_cancel(self, search_id: str, at: datetime) -> Search:
        """Ask for the end of a search and return it.

        A QUEUED search that nobody holds becomes CANCELLED at once; otherwise its runner sees
        ``cancel_requested``. Idempotent. Raises Conflict when the search has SUCCEEDED or FAILED.
        """
        ...

    def claim(self, search_id: str, owner: str, *, at: datetime, until: datetime) -> Lease | None:
        """Take or renew the lease of a search that is not final; None when another's is still valid."""
        ...

    def release(self, lease: Lease) -> None:
        """Give a lease back at once; ignored when it is no longer held."""
        ...

    def unclaimed(self, at: datetime) -> list[Search]:
        """Return the searches that are not final and whose lease is absent or lapsed, oldest first."""
        ...

    def save_trial(self, trial: Trial, lease: Lease) -> None:
        """Add or replace a trial."""
        ...

    def trials(self, search_id: str) -> list[Trial]:
        """Return the trials of a search by number."""
        ...

    def add_point(self, point: TrialPoint, lease: Lease) -> None:
        """Add a point; one with the same trial and tokens is already there after a resend."""
        ...

    def points(self, search_id: str) -> list[TrialPoint]:
        """Return all points of a search by trial and tokens."""
        ...

    def save_attempt(self, attempt: Attempt, lease: Lease) -> None:
        """Add or replace an attempt."""
        ...

    def attempts(self, search_id: str) -> list[Attempt]:
        """Return all attempts of a search by trial and number."""
        ...

    def events(self, *, after: int = 0, search_id: str | None = None, limit: int = 1000) -> list[Event]:
        """Return events with a sequence above ``after``, in order."""
        ...

    def last_sequence(self) -> int:
        """Return the sequence of the last event; 0 where there is none."""
        ...

    def totals(self) -> Totals:
        """Return how much is stored, counted where it is stored."""
        ...

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers and has the present schema."""
        ...
