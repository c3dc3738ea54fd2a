"""The interface of the only truth about searches, and what every implementation guarantees.

* A returned value never changes; stored values are copies.
* A method that returns has committed; one that raises has changed nothing.
* Every change is one transaction together with the event that tells of it.
* A final trial never changes: saving an equal one is ignored, another raises FinalTrialChanged.
* A write by a runner names its lease; once another owner holds the search it raises LostLease.
* Adding what is already there (the same point, the same attempt) is ignored, so that writers can resend.
* What people say of a search and order is theirs: no runner's write touches it, and it may come at any time.
* A search that was added under a request's key is what every later request with that key gets.
* Safe to use from several threads; the SQL one also from several processes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from nas.earlier import Prior
from nas.edits import Edit
from nas.listing import (
    EVERY_SEARCH,
    EVERY_TRIAL,
    SearchFilter,
    SearchOrder,
    TrialFilter,
    TrialOrder,
    TrialPlace,
)
from nas.orders import Order
from nas.outbox import OutboxStore
from nas.search import AxisImportance, Event, Search
from nas.storage.accounts import AccountStore
from nas.tally import Tally
from nas.totals import Totals
from nas.trial import Attempt, Point, Trial

if TYPE_CHECKING:
    from nas.storage.history import HistoryStore


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


class Standings(Protocol):
    """Where searches stand and what is asked of their trials, at a cost that no history adds to."""

    def tallies(self, search_ids: Collection[str]) -> Mapping[str, Tally]:
        """Return what the trials of each of these searches sum up to; unknown ids are left out."""
        ...

    def list_trials(
        self,
        search_id: str,
        which: TrialFilter = EVERY_TRIAL,
        *,
        order: TrialOrder = TrialOrder.NUMBER,
        after: TrialPlace | None = None,
        limit: int = 100,
    ) -> list[Trial]:
        """Return trials of a search in order, from the one that comes after a place."""
        ...

    def num_points(self, search_id: str) -> int:
        """Return how many points a search has; 0 for an unknown one."""
        ...

    def totals(self) -> Totals:
        """Return how much is stored; kept with every write rather than counted."""
        ...


class SearchStore(Standings, Protocol):
    """Searches, trials, attempts, points and events. Unknown ids raise NotFound."""

    @property
    def history(self) -> "HistoryStore":
        """What trials came to over all searches, listed in the transaction in which each becomes final."""
        ...

    @property
    def accounts(self) -> AccountStore:
        """People, stored beside."""
        ...

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
        """Replace a stored search; what others than its runner write of it is kept as stored.

        One that is PAUSED but was resumed or cancelled meanwhile is stored as QUEUED. Raises StaleOrders when it
        becomes COMPLETING with other orders than are stored.
        """
        ...

    def save_importance(self, importance: AxisImportance, lease: Lease) -> None:
        """Replace the importance of a search's axes, which ``save_search`` keeps as stored."""
        ...

    def save_priors(self, priors: Sequence[Prior], lease: Lease) -> None:
        """Settle what a search's proposals begin from, and how much that is; ignored where it is settled."""
        ...

    def priors(self, search_id: str) -> list[Prior]:
        """Return what a search's proposals began from, in order; nothing before that was settled."""
        ...

    def edit_search(self, search_id: str, edit: Edit, *, versions: Collection[int] | None = None) -> Search:
        """Say something of a search and return it, its version one higher if that is something new.

        Raises StaleVersion when that would change another version than the edit was made of: ``versions``
        names those that it may be; None any.
        """
        ...

    def give_order(self, search_id: str, order: Order, *, at: datetime, by: str = "") -> Search:
        """Store what somebody wants of a search, tell of it, and return the search.

        What can be done where nobody runs it is done at once; for the rest its runner sees the order. Giving an order
        that is already given changes nothing. Raises Conflict, InvalidOrder or NotFound when it cannot be obeyed.
        """
        ...

    def claim(self, search_id: str, owner: str, *, at: datetime, until: datetime) -> Lease | None:
        """Take the lease of a search that is neither final nor PAUSED; None when another's is still valid.

        Who holds it may take it again.
        """
        ...

    def renew(self, lease: Lease, *, until: datetime) -> bool:
        """Hold a search further, also one whose lease has lapsed and was taken by nobody; return whether it is held yet.

        Not once it was taken away, even where nobody has it: it may have been ended, and queued again since.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give a lease back at once; ignored when it is no longer held."""
        ...

    def unclaimed(self, at: datetime) -> list[Search]:
        """Return the searches, neither final nor PAUSED, whose lease is absent or lapsed, oldest first."""
        ...

    def held(self, search_ids: Collection[str], at: datetime) -> set[str]:
        """Return which of these searches somebody holds at a time; unknown ids are left out."""
        ...

    def queue(self, limit: int) -> list[str]:
        """Return the ids of the searches that are QUEUED, in the order in which they are taken up."""
        ...

    def save_trial(self, trial: Trial, lease: Lease, points: Sequence[Point] = ()) -> None:
        """Add or replace a trial, in one transaction with points of it that come with it."""
        ...

    def trials(self, search_id: str) -> list[Trial]:
        """Return the trials of a search by number."""
        ...

    def add_point(self, point: TrialPoint, lease: Lease) -> None:
        """Add a point; one with the same trial and tokens is already there after a resend."""
        ...

    def points(self, search_id: str, trials: Collection[int] | None = None) -> list[TrialPoint]:
        """Return the points of a search by trial and tokens; of these trials, if they are given."""
        ...

    def save_attempt(self, attempt: Attempt, lease: Lease) -> None:
        """Add or replace an attempt."""
        ...

    def attempts(self, search_id: str, trials: Collection[int] | None = None) -> list[Attempt]:
        """Return the attempts of a search by trial and number; of these trials, if they are given."""
        ...

    def events(
        self, *, after: int = 0, search_id: str | None = None, kind: str | None = None, limit: int = 1000
    ) -> list[Event]:
        """Return events with a sequence above ``after``, in order; None stands for every search and every kind."""
        ...

    def last_sequence(self) -> int:
        """Return the sequence of the last event; 0 where there is none."""
        ...

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers and has the present schema."""
        ...
