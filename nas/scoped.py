"""The use cases as one principal may use them: whatever hands this on instead of the service itself is confined.

Each use asks who the principal is by then, so that a page that stays open is worth what its token is worth. Searches
of workspaces that a principal does not see are not found, whatever is asked of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, cast

from nas.accounts import Action, Principal, allowed, chosen_workspace, workspaces_for
from nas.edits import Edit
from nas.errors import Forbidden, NotFound
from nas.history import EVERYTHING, HistoryFilter
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.people import require
from nas.search import Event, Search
from nas.service import SearchService
from nas.storage.accounts import unknown_workspace
from nas.storage.store import RequestKey

Present = Callable[[], Principal]
"""Says who asks, as of now; raises Unauthenticated once it is nobody any more."""


def scoped(service: SearchService, present: Present) -> SearchService:
    """Return the use cases of ``service`` as far as ``present`` may use them."""
    return cast(SearchService, _Scoped(service, present))


def require_search(service: SearchService, principal: Principal, action: Action, search_id: str) -> None:
    """Refuse what a principal may not do with a search.

    Raises:
        NotFound: There is none, or none that it sees.
        Forbidden: It sees the search and may not do that.
    """
    workspace = service.workspace_of(search_id)
    require(principal, action, workspace, NotFound(f"search {search_id}: not found"))


class _Scoped:
    """The use cases, or a part of them that has a name of its own, such as ``control``."""

    def __init__(self, service: SearchService, present: Present, part: str = "") -> None:
        self._service = service
        self._present = present
        self._part = part

    def __getattr__(self, name: str) -> Any:
        path = f"{self._part}.{name}" if self._part else name
        if path in PARTS:
            return _Scoped(self._service, self._present, path)
        if path not in USES:
            raise Forbidden(f"{path}: found no rule for it, so nobody may use it")
        return partial(USES[path], self._service, self._present, path)


def _do(service: SearchService, path: str, *args: Any, **kwargs: Any) -> Any:
    return attrgetter(path)(service)(*args, **kwargs)


def _of_search(action: Action) -> Callable[..., Any]:
    """Return the rule of what is done with one search, the first thing that it is given."""

    def use(
        service: SearchService, present: Present, name: str, search_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        require_search(service, present(), action, search_id)
        return _do(service, name, search_id, *args, **kwargs)

    return use


def _signed_in(service: SearchService, present: Present, name: str, *args: Any, **kwargs: Any) -> Any:
    """Do what tells nothing of any search."""
    present()
    return _do(service, name, *args, **kwargs)


def _listed(
    service: SearchService, present: Present, name: str, which: SearchFilter = EVERY_SEARCH, **kwargs: Any
) -> Any:
    """List what a principal sees of what it asks for; a page begins after a search that it sees too."""
    principal = present()
    if kwargs.get("after") is not None:
        require_search(service, principal, Action.READ, kwargs["after"])
    return _do(service, name, narrowed(which, principal), **kwargs)


def _measured(
    service: SearchService, present: Present, name: str, which: HistoryFilter = EVERYTHING, **kwargs: Any
) -> Any:
    """List what was measured in searches that a principal sees; a page begins after one that it sees too."""
    principal = present()
    if kwargs.get("after") is not None:
        require_search(service, principal, Action.READ, kwargs["after"][0])
    return _do(service, name, replace(which, searches=narrowed(which.searches, principal)), **kwargs)


def _of_searches(service: SearchService, present: Present, name: str, search_ids: Sequence[str]) -> Any:
    """Do what is done with several searches, for a principal that sees all of them."""
    principal = present()
    for search_id in search_ids:
        require_search(service, principal, Action.READ, search_id)
    return _do(service, name, search_ids)


def _ordered(
    service: SearchService,
    present: Present,
    name: str,
    search_id: str,
    *args: Any,
    by: str = "",
    **kwargs: Any,
) -> Any:
    """Order something of a search; who orders it is who asks, whatever is said of that."""
    principal = present()
    require_search(service, principal, Action.CHANGE, search_id)
    by = by if principal.is_local else principal.name
    return _do(service, name, search_id, *args, by=by, **kwargs)


def narrowed(which: SearchFilter, principal: Principal) -> SearchFilter:
    """Return a filter that admits what a principal sees of what another one admits."""
    if principal.is_local:
        return which
    seen = workspaces_for(principal, Action.READ)
    asked = seen if which.workspaces is None else which.workspaces
    return replace(which, workspaces=tuple(name for name in asked if name in seen))


def _created(
    service: SearchService,
    present: Present,
    name: str,
    asked: Any,
    *args: Any,
    said: Edit | None = None,
    key: RequestKey | None = None,
    workspace: str | None = None,
    **kwargs: Any,
) -> Search:
    """Submit a search in a workspace where that is allowed; by default it is the principal's own."""
    principal = present()
    if name == "clone":
        require_search(service, principal, Action.READ, asked)
        there = service.workspace_of(asked)
        workspace = there if workspace is None and allowed(principal, Action.CHANGE, there) else workspace
    workspace = chosen_workspace(principal, workspace)
    require(principal, Action.CHANGE, workspace, unknown_workspace(workspace))
    if said is None or said.owner is None:
        said = replace(said or Edit(), owner=principal.name)
    if key is not None and not principal.is_local:
        key = replace(key, key=f"{principal.name} {key.key}")  # each has keys of its own
    made: Search = _do(service, name, asked, *args, said=said, key=key, workspace=workspace, **kwargs)
    return made


def _planned(service: SearchService, present: Present, name: str, *args: Any, **kwargs: Any) -> Any:
    """Say what a search would cost, which looks at what the server sees: for those who may submit one."""
    principal = present()
    workspaces = None if principal.is_local else workspaces_for(principal, Action.CHANGE)
    if workspaces is not None and not workspaces:
        raise Forbidden(f"plan: found {principal.name}, who may submit searches in no workspace")
    return _do(service, name, *args, workspaces=workspaces, **kwargs)


def _events(
    service: SearchService,
    present: Present,
    _: str,
    *,
    after: int = 0,
    search_id: str | None = None,
    kind: str | None = None,
    limit: int = 1000,
) -> list[Event]:
    """Return what happened to searches that a principal sees."""
    principal = present()
    if search_id is not None:
        require_search(service, principal, Action.READ, search_id)
    while True:
        found = service.events(after=after, search_id=search_id, kind=kind, limit=limit)
        seen = [event for event in found if sees(service, principal, event.search_id)]
        if seen or not found:
            return seen
        after = found[-1].sequence


def sees(service: SearchService, principal: Principal, search_id: str) -> bool:
    """Return whether a principal sees a search that is there."""
    return principal.is_local or allowed(principal, Action.READ, service.workspace_of(search_id))


_READ, _CHANGE = _of_search(Action.READ), _of_search(Action.CHANGE)
USES: Mapping[str, Callable[..., Any]] = {
    "create": _created,
    "clone": _created,
    "plan": _planned,
    "get": _READ,
    "search": _READ,
    "workspace_of": _READ,
    "trials": _READ,
    "list_trials": _READ,
    "winner_directory": _READ,
    "log": _READ,
    "disk_bytes": _READ,
    "comparison": _signed_in,  # of a search that was seen
    "edit": _CHANGE,
    "list_views": _listed,
    "list_parents": _listed,
    "list_measurements": _measured,
    "history_rows": _measured,
    "compare": _of_searches,
    "front": _READ,
    "priors": _READ,
    "series": _READ,
    "report": _READ,
    "trial_rows": _READ,
    "point_rows": _READ,
    "control.pause": _ordered,
    "control.resume": _ordered,
    "control.cancel": _ordered,
    "control.kill": _ordered,
    "control.extend": _ordered,
    "control.enqueue": _ordered,
    "control.stop_trial": _ordered,
    "control.promote": _ordered,
    "log_ranges.of_attempt": _READ,
    "log_ranges.of_search": _READ,
    "mlflow.of": _READ,
    "mlflow.registered": _READ,
    "mlflow.of_searches": _of_searches,
    "mlflow.behind_seconds": _signed_in,
    "events": _events,
    "event_cursor": _signed_in,
    "totals": _signed_in,
    "ping": _signed_in,
}
"""What each use case needs; one that does not stand here is refused."""
PARTS = frozenset(path.partition(".")[0] for path in USES if "." in path)
"""Of the service, that have use cases of their own."""
