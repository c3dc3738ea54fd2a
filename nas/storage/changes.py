"""What a write makes of what is stored: pure decisions that every store shares.

Each returns the new value, or None when there is nothing to write. Knows no database.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from math import isfinite
from typing import Any

from nas.edits import Edit, said
from nas.errors import Conflict, FinalTrialChanged, KeyReused, LostLease, StaleOrders, StaleVersion
from nas.search import Search, SearchState
from nas.spec import dump
from nas.storage.store import Lease, RequestKey, TrialPoint
from nas.trial import Trial


def require_held(lease: Lease, owner: str | None) -> None:
    """Raise LostLease unless ``owner``, as stored, is the lease's; a lapsed lease nobody took is held."""
    if owner != lease.owner:
        holder = f"held by {owner}" if owner else "held by nobody"
        raise LostLease(f"search {lease.search_id}: {holder}, no longer by {lease.owner}")


def is_free(owner: str | None, until: datetime | None, at: datetime) -> bool:
    """Return whether nobody holds a search at a time."""
    return owner is None or until is None or until <= at


def require_same(stored: RequestKey, key: RequestKey) -> None:
    """Raise KeyReused unless a key comes with the request that it came with first."""
    if stored != key:
        raise KeyReused(
            f"Idempotency-Key: found {key.key.rpartition(' ')[2]}, which came before with another request, allowed: a new key, "
            "or the same request"
        )


def added_search(stored: Search | None, search: Search) -> Search | None:
    """Return a search to add; one that is already there is ignored, another under its id refused."""
    if stored is not None and stored != search:
        raise Conflict(f"search {search.id}: is already there and differs")
    return search if stored is None else None


def saved_search(stored: Search, search: Search) -> Search | None:
    """Return the search to store; what people say of it and order is theirs, the importance of its axes written beside.

    Raises:
        StaleOrders: It would complete, and something was ordered since that was decided; or end in good order, and
            there are further students to promote.
    """
    # Of one that had ended, what competes was settled then.
    is_completing = search.state is SearchState.COMPLETING is not stored.state and search.ended_as is None
    if is_completing and search.orders != stored.orders:
        raise StaleOrders(f"search {stored.id}: something was ordered meanwhile")
    is_ending = search.state is search.ending(SearchState.SUCCEEDED) and not stored.cancel_requested
    if is_ending and search.orders.promoted != stored.orders.promoted:
        raise StaleOrders(f"search {stored.id}: a promotion was ordered meanwhile")
    kept = {
        "cancel_requested": stored.cancel_requested,
        "orders": stored.orders,
        "importance": stored.importance,
        "num_priors": stored.num_priors,
        **said(stored),
    }
    search = replace(search, **kept)
    if search.state is SearchState.PAUSED and (stored.cancel_requested or not stored.orders.is_paused):
        search = replace(search, state=SearchState.QUEUED)  # resumed or cancelled while it was leaving
    return search if search != stored else None


def edited_search(stored: Search, edit: Edit, versions: Collection[int] | None) -> Search | None:
    """Return the search that an edit of one of these versions leaves; None of them means of any.

    An edit that says nothing new is done already, whatever it was made of: it may have been sent again.
    """
    edited = edit.said_of(stored)
    if edited == stored:
        return None
    if versions is not None and stored.version not in versions:
        found = ", ".join(map(str, sorted(versions))) or "none of its versions"
        raise StaleVersion(stored.id, found, stored.version)
    return replace(edited, version=stored.version + 1)


def claimable(state: SearchState, owner: str | None, until: datetime | None, by: str, at: datetime) -> bool:
    """Return whether somebody may take a search, or hold it further."""
    if state.is_final or (state is SearchState.PAUSED and owner != by):
        return False
    return owner == by or is_free(owner, until, at)


def saved_trial(stored: Trial | None, trial: Trial) -> Trial | None:
    """Return the trial to store."""
    if trial == stored:
        return None
    if stored is not None and stored.state.is_final:
        raise FinalTrialChanged(f"trial {stored.number}: {stored.state} is final and cannot change")
    losses = (trial.measurement.loss, trial.measurement.loss_before_retraining) if trial.measurement else ()
    assert all(map(isfinite, losses)), f"trial {trial.number}: losses {losses}"
    return trial


def added_point(point: TrialPoint) -> TrialPoint:
    """Return the point to store."""
    numbers = (point.point.loss, point.point.train_loss or 0.0, point.point.seconds)
    assert all(map(isfinite, numbers)), f"trial {point.trial_number}: point {point.point}"
    return point


def search_event(search: Search) -> Mapping[str, Any]:
    """Return the data of a search's event: all but the spec, which never changes, its latencies, the notes and the orders."""
    data = dump(search)
    for name in ("spec", "latencies", "notes", "orders"):
        del data[name]  # it may be long, and a search has an event whenever it progresses
    return data


def edit_event(search: Search) -> Mapping[str, Any]:
    """Return the data of an edit's event: all that is said of the search by now."""
    told = said(search)
    return {**told, "tags": list(told["tags"])}


def point_event(point: TrialPoint) -> Mapping[str, Any]:
    """Return the data of a point's event: the point with its trial's number."""
    return {"trial_number": point.trial_number, **dump(point.point)}
