"""What an order makes of a search: pure decisions that every store shares.

Legal whatever a runner does meanwhile: what only the holder of the lease may write is written here only where nobody
holds it, or together with its end. Knows no database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import singledispatch
from typing import Any

from nas import wording
from nas.errors import Conflict, InvalidOrder, NotFound
from nas.orders import (
    MAX_ENQUEUED,
    MAX_PROMOTED,
    NAMES,
    Cancel,
    Enqueue,
    Enqueued,
    Extend,
    Kill,
    Order,
    Orders,
    Pause,
    Promote,
    Resume,
    StopTrial,
)
from nas.promoting import missing_promotions
from nas.promotion import Promoted
from nas.rungs import schedule
from nas.search import MOST, MOST_TOKENS, Search, SearchState
from nas.spec import dump
from nas.trial import RUNNER_LOST, Attempt, Failure, Trial, TrialRole, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Everything that an order changes."""

    search: Search
    trials: tuple[Trial, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    ends_lease: bool = False
    """Whether whoever holds the search may write no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is stored when an order comes."""

    search: Search
    trials: Sequence[Trial]
    attempts: Sequence[Attempt]
    trained_tokens: int
    """Of the SEARCH trials, as ``nas.limits.trained_tokens`` counts them."""
    is_held: bool
    at: datetime
    by: str
    """Who gives the order; empty: not known."""

    @property
    def is_idle(self) -> bool:
        """Whether no runner writes the search any more, or yet; one that left it PAUSED has closed all that it ran."""
        return self.search.state is SearchState.PAUSED or not self.is_held

    @property
    def searched(self) -> dict[Any, Trial]:
        """The trials that compete, by architecture."""
        return {trial.architecture: trial for trial in self.trials if trial.role is TrialRole.SEARCH}

    @property
    def enqueued(self) -> tuple[Enqueued, ...]:
        """Those that were not tried yet."""
        tried = self.searched
        return tuple(each for each in self.search.orders.enqueued if each.architecture not in tried)

    def ordered(self, **changes: Any) -> Ordered | None:
        """Return the search with other orders; None where they are the same."""
        orders = replace(self.search.orders, **changes)
        return Ordered(search=replace(self.search, orders=orders)) if orders != self.search.orders else None

    def ended(self, orders: Orders) -> Ordered:
        """Return the search ended now, and with it all that is not final: CANCELLED, or as it had ended before."""
        state, at = self.search.ending(SearchState.CANCELLED), self.at
        return Ordered(
            search=self.search.moved(state, at, cancel_requested=True, orders=orders),
            trials=tuple(trial.cancelled(at) for trial in self.trials if not trial.state.is_final),
            attempts=self.closed(),
            ends_lease=True,
        )

    def left(self) -> Ordered:
        """Return the search PAUSED now, where nobody runs it; what a lost runner ran is to be gone on with."""
        orders = replace(self.search.orders, is_paused=True)
        return Ordered(
            search=self.search.moved(SearchState.PAUSED, self.at, orders=orders),
            trials=tuple(each.interrupted() for each in self.trials if each.state is TrialState.RUNNING),
            attempts=self.closed(RUNNER_LOST),
            ends_lease=True,
        )

    def closed(self, failure: Failure | None = None, trial: int | None = None) -> tuple[Attempt, ...]:
        """Return the attempts, or those of one trial, that are open, as they are once they have ended."""
        return tuple(
            replace(each, ended_at=self.at, failure=failure)
            for each in self.attempts
            if each.ended_at is None and trial in (None, each.trial_number)
        )

    def conflict(self, what: str) -> Conflict:
        """Return the error of what cannot be done now."""
        return Conflict(f"search {self.search.id}: {what}")

    def require_unfinished(self, what: str, instead: str = "") -> None:
        """Raise Conflict where the search has ended, or is about to."""
        if self.search.state.is_final or self.search.cancel_requested:
            state = self.search.state if self.search.state.is_final else "being cancelled"
            raise self.conflict(f"is {state} and cannot be {what}{instead}")

    def require_open(self, what: str) -> None:
        """Raise Conflict where the winner is settled, so that no further trial can compete."""
        self.require_unfinished(what, f"; {CLONE.format(self.search.id)}")
        has_baselines = len(self.searched) < len(self.trials)
        if self.search.state is SearchState.COMPLETING or self.search.ended_as or has_baselines:
            clone = CLONE.format(self.search.id)
            raise self.conflict(
                f"cannot be {what}: its own trials are done and the winner is settled; {clone}"
            )


MOST_OF = MOST | {"max_tokens": MOST_TOKENS}
COMPETING = {"num_trials", "max_tokens"}
"""Limits of how many trials compete."""
CLONE = "allowed: nas clone {}, which finds what was prepared in the cache"


@singledispatch
def ordered(order: Order, present: Present) -> Ordered | None:
    """Return what an order changes; None where all is as it wants.

    Raises:
        Conflict: The present state does not allow it.
        InvalidOrder: A limit that is out of range.
        NotFound: No such trial.
    """
    raise AssertionError(f"search {present.search.id}: {order}")


@ordered.register
def _(_order: Cancel, present: Present) -> Ordered | None:
    search = present.search
    if search.state in {SearchState.SUCCEEDED, SearchState.FAILED}:
        raise present.conflict(f"is {search.state} and cannot be cancelled")
    if search.state.is_final:
        return None
    if present.is_idle:
        return present.ended(search.orders)
    return None if search.cancel_requested else Ordered(search=replace(search, cancel_requested=True))


@ordered.register
def _(_order: Kill, present: Present) -> Ordered | None:
    search = present.search
    if search.state is SearchState.CANCELLED:
        return None
    if search.state.is_final:
        raise present.conflict(f"is {search.state} and cannot be killed")
    return present.ended(replace(search.orders, is_killed=True, killed_by=present.by))


@ordered.register
def _(_order: Pause, present: Present) -> Ordered | None:
    present.require_unfinished("paused")
    if present.search.state is SearchState.PAUSED:
        return None
    return present.left() if present.is_idle else present.ordered(is_paused=True)


@ordered.register
def _(_order: Resume, present: Present) -> Ordered | None:
    present.require_unfinished("resumed")
    changed = present.ordered(is_paused=False)
    if changed and changed.search.state is SearchState.PAUSED:
        return replace(changed, search=changed.search.moved(SearchState.QUEUED, present.at))
    return changed


@ordered.register
def _(order: Extend, present: Present) -> Ordered | None:
    least, why = _least(present)
    now, changes, problems = present.search.spec_by_now, {}, []
    for name, lowest in least.items():
        value = getattr(order, name)
        if value is None or value == getattr(now, name):
            continue
        if lowest <= value <= MOST_OF[name]:
            changes[name] = value
        else:
            problems.append((name, f"found {value}, allowed: {lowest}{why[name]} to {MOST_OF[name]}"))
    if problems:
        raise InvalidOrder(tuple(problems))
    for name in changes.keys() & COMPETING:
        present.require_open(f"given another {name}")
    present.require_unfinished("extended", f"; {CLONE.format(present.search.id)}")
    return present.ordered(**changes)


def _least(present: Present) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """Return the least that each limit may be given, and why it is that."""
    one, trained = schedule(present.search.spec).num_tokens, present.trained_tokens
    tokens = (trained, "as many as were trained") if trained > one else (one, "which one trial needs")
    return (
        {
            "num_trials": max(1, len(present.searched) + len(present.enqueued)),
            "max_tokens": tokens[0],
            "max_parallel": 1,
        },
        {
            "num_trials": ", as many as are proposed or enqueued,",
            "max_tokens": f", {tokens[1]},",
            "max_parallel": "",
        },
    )


@ordered.register
def _(order: Enqueue, present: Present) -> Ordered | None:
    name, waiting = order.architecture.name, present.enqueued
    twin = present.searched.get(order.architecture)
    if twin and twin.enqueued_by is not None and twin.state is not TrialState.CANCELLED:
        return None
    present.require_open("given another architecture")
    if twin:
        raise present.conflict(f"architecture {name}: is trial {twin.number} already, which is {twin.state}")
    if any(each.architecture == order.architecture for each in waiting):
        return None
    if len(waiting) >= MAX_ENQUEUED:
        raise present.conflict(
            f"found {len(waiting)} architectures enqueued, allowed: {MAX_ENQUEUED} at a time"
        )
    return present.ordered(enqueued=(*waiting, Enqueued(architecture=order.architecture, by=present.by)))


@ordered.register
def _(order: StopTrial, present: Present) -> Ordered | None:
    number = order.trial_number
    trial = next((each for each in present.trials if each.number == number), None)
    if trial is None:
        raise NotFound(f"search {present.search.id}: trial {number}: not found")
    if trial.state is TrialState.CANCELLED:
        return None
    if trial.state.is_final:
        raise present.conflict(f"trial {number}: is {trial.state} and cannot be stopped")
    unfinished = {each.number for each in present.trials if not each.state.is_final}
    stopped = tuple(sorted(unfinished & {*present.search.orders.stopped, number}))
    if not present.is_idle:
        return present.ordered(stopped=stopped)
    return Ordered(
        search=replace(present.search, orders=replace(present.search.orders, stopped=stopped)),
        trials=(trial.cancelled(present.at),),
        attempts=present.closed(RUNNER_LOST, number),
        ends_lease=True,
    )


@ordered.register
def _(order: Promote, present: Present) -> Ordered | None:
    search, number = present.search, order.trial_number
    trial = next((each for each in present.trials if each.number == number), None)
    if trial is None:
        raise NotFound(f"search {search.id}: trial {number}: not found")
    promotion = order.promotion or search.spec.promotion
    if promotion is None:
        reason = f"missing, and the spec of search {search.id} has none, allowed: how to retrain its student"
        raise InvalidOrder((("promotion", reason),))
    # How many are the best is nothing of this one: of recipes that differ in that alone the first that was known stands.
    known = [
        each for each in (search.spec.promotion, *(each.promotion for each in search.orders.promoted)) if each
    ]
    promotion = next((each for each in known if replace(each, top_k=promotion.top_k) == promotion), promotion)
    made = [each for each in present.trials if (each.promoted_from, each.promotion) == (number, promotion)]
    wanted = Promoted(
        trial_number=number,
        promotion=promotion,
        by=present.by,
        repeats=made[-1].number if made and made[-1].state in _IN_VAIN else None,
    )
    promoted = search.orders.promoted
    if search.state.is_final:  # what was ordered and not begun was ended with it
        missing = missing_promotions(search, present.trials)
        promoted = tuple(each for each in promoted if each not in missing)
    is_ordered = any(replace(each, by=wanted.by) == wanted for each in promoted)
    if is_ordered or (made and wanted.repeats is None):
        return None
    if problems := promotion.refusals(search.spec.data, search.spec.distillation, search.spec.resources):
        raise InvalidOrder(problems)
    if trial.state is not TrialState.COMPLETED or trial.role is TrialRole.RANDOM_INDICES:
        found = wording.ROLES[trial.role] if trial.state is TrialState.COMPLETED else trial.state
        raise present.conflict(
            f"trial {number}: is {found} and cannot be promoted, allowed: trials that are COMPLETED, of kept indices"
        )
    if search.state is SearchState.FAILED or (search.cancel_requested and not search.state.is_final):
        state = search.state if search.state.is_final else "being cancelled"
        raise present.conflict(f"is {state}, and its trials cannot be promoted; {CLONE.format(search.id)}")
    if len(promoted) >= MAX_PROMOTED:
        raise present.conflict(f"found {MAX_PROMOTED} promotions ordered, allowed: {MAX_PROMOTED}")
    orders = replace(search.orders, promoted=(*promoted, wanted))
    if not search.state.is_final:
        return Ordered(search=replace(search, orders=orders))
    orders = replace(orders, is_paused=False, is_killed=False, killed_by="")
    return Ordered(search=search.moved(SearchState.QUEUED, present.at, orders=orders, failure=None))


_IN_VAIN = {TrialState.FAILED, TrialState.CANCELLED}
"""How promotions end that may be ordered again."""


def order_event(order: Order, by: str) -> Mapping[str, Any]:
    """Return the data of an order's event: the order, its name and who gave it."""
    return {"order": NAMES[type(order)], "by": by, **dump(order)}
