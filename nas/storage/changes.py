"""What a write makes of what is stored: pure decisions that every store shares.

Each returns the new value, or None when there is nothing to write. Knows no database.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from math import isfinite
from typing import Any

from nas.edits import Edit, said
from nas.errors import Conflict, FinalTrialChanged, KeyReused, LostLease, StaleVersion
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
            f"Idempotency-Key: found {key.key}, which came before with another request, allowed: a new key, "
            "or the same request"
        )


def added_search(stored: Search | None, search: Search) -> Search | None:
    """Return a search to add; one that is already there is ignored, another under its id refused."""
    if stored is not None and stored != search:
        raise Conflict(f"search {search.id}: is already there and differs")
    return search if stored is None else None


def saved_search(stored: Search, search: Search) -> Search | None:
    """Return the search to store.

    What people say of it, and whether it shall be cancelled, is theirs; the importance of its axes is written beside.
    """
    search = replace(
        search, cancel_requested=stored.cancel_requested, importance=stored.importance, **said(stored)
    )
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


def cancelled_search(stored: Search, *, is_held: bool, at: datetime) -> Search | None:
    """Return the search that a request to cancel leaves."""
    if stored.state in {SearchState.SUCCEEDED, SearchState.FAILED}:
        raise Conflict(f"search {stored.id}: is {stored.state} and cannot be cancelled")
    if stored.cancel_requested or stored.state is SearchState.CANCELLED:
        return None
    if stored.state is SearchState.QUEUED and not is_held:
        return stored.moved(SearchState.CANCELLED, at, cancel_requested=True)
    return replace(stored, cancel_requested=True)


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
    """Return the data of a search's event: all but the spec, which never changes, and the notes."""
    data = dump(search)
    del data["spec"], data["notes"]  # they may be long, and a search has an event whenever it progresses
    return data


def edit_event(search: Search) -> Mapping[str, Any]:
    """Return the data of an edit's event: all that is said of the search by now."""
    told = said(search)
    return {**told, "tags": list(told["tags"])}


def point_event(point: TrialPoint) -> Mapping[str, Any]:
    """Return the data of a point's event: the point with its trial's number."""
    return {"trial_number": point.trial_number, **dump(point.point)}
