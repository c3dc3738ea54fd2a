"""The interface of the only truth about searches, and what every implementation guarantees.

* A returned value never changes; stored values are copies.
* A method that returns has committed; one that raises has changed nothing.
* Every change is one transaction together with the event that tells of it.
* A final trial never changes: saving an equal one is ignored, another raises FinalTrialChanged.
* A write by a runner names its lease; once another owner holds the search it raises LostLease.
* Adding what is already there (the same point, the same attempt) is ignored, so that writers can resend.
* Safe to use from several threads; the SQL one also from several processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from nas.search import Event, Search, SearchState
from nas.trial import Attempt, Point, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one process to write a search until it lapses."""

    search_id: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """A point together with the trial it belongs to."""

    trial_number: int
    point: Point


class SearchStore(Protocol):
    """Searches, trials, attempts, points and events. Unknown ids raise NotFound."""

    def add_search(self, search: Search) -> None:
        """Store a new search."""
        ...

    def get_search(self, search_id: str) -> Search:
        """Return one search."""
        ...

    def list_searches(
        self, *, states: Sequence[SearchState] | None = None, limit: int = 100, offset: int = 0
    ) -> list[Search]:
        """Return searches, newest first."""
        ...

    def save_search(self, search: Search, lease: Lease) -> None:
        """Replace a stored search; ``cancel_requested`` is kept as stored, being the user's to set."""
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

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers and has the present schema."""
        ...
