"""What each operation needs, in one table, and the one function that every route goes through.

It judges by what the address says, before anything else of the request is read; what handlers then do with searches is
judged once more where they do it (``nas.scoped``). An operation that does not stand here is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from fastapi import Request

from api.identity import identity_of
from nas.accounts import Action, Principal, workspaces_for
from nas.errors import Forbidden
from nas.people import require
from nas.scoped import require_search
from nas.service import SearchService
from nas.storage.accounts import unknown_workspace

ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
"""Of searches."""


class Where(Enum):
    """Where a principal must be allowed the action of an operation."""

    NOWHERE = auto()
    """It answers anybody, signed in or not."""
    ANYWHERE = auto()
    """It answers everybody that is signed in: with what they see, or with nothing of any search."""
    SOMEWHERE = auto()
    """In some workspace; which one counts is told in the request, and judged where that is used."""
    WORKSPACE = auto()
    """In the workspace that the address names."""
    SEARCH = auto()
    """In the workspace of the search that the address names."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operation needs."""

    where: Where
    action: Action = Action.READ
    elsewhere: Action | None = None
    """What must be allowed in some workspace besides."""


PUBLIC, SIGNED_IN = Rule(Where.NOWHERE), Rule(Where.ANYWHERE)
READS, CHANGES = Rule(Where.SEARCH), Rule(Where.SEARCH, Action.CHANGE)
SUBMITS = Rule(Where.SOMEWHERE, Action.CHANGE)
MANAGES = Rule(Where.SOMEWHERE, Action.MANAGE)

RULES: Mapping[str, Rule] = {
    "get_health": PUBLIC,
    "get_readiness": PUBLIC,
    "get_metrics": SIGNED_IN,
    "whoami": SIGNED_IN,
    "list_searches": SIGNED_IN,
    "stream_all_events": SIGNED_IN,
    "create_search": SUBMITS,
    "get_search": READS,
    "edit_search": CHANGES,
    "clone_search": Rule(Where.SEARCH, elsewhere=Action.CHANGE),  # in which workspace is told in the request
    "cancel_search": CHANGES,
    "get_log": READS,
    "download_winner": READS,
    "list_trials": READS,
    "stream_events": READS,
    "pause_search": CHANGES,
    "resume_search": CHANGES,
    "kill_search": CHANGES,
    "extend_search": CHANGES,
    "enqueue_architecture": CHANGES,
    "stop_trial": CHANGES,
    "promote_trial": CHANGES,
    "read_attempt_log": READS,
    "read_search_log": READS,
    "get_front": READS,
    "get_priors": READS,
    "get_series": READS,
    "get_report": READS,
    "export_search": READS,
    "compare_searches": SIGNED_IN,  # and must see each of the searches
    "list_history": SIGNED_IN,
    "list_parents": SIGNED_IN,
    "export_history": SIGNED_IN,
    "list_members": Rule(Where.WORKSPACE),
    "put_member": Rule(Where.WORKSPACE, Action.MANAGE),
    "remove_member": Rule(Where.WORKSPACE, Action.MANAGE),
    "list_tokens": MANAGES,
    "create_token": MANAGES,
    "revoke_token": MANAGES,
}


def authorised(request: Request) -> None:
    """Let a request pass to its operation, or refuse it.

    Raises:
        Forbidden: The principal's roles do not allow the operation, or nothing says what it needs.
        NotFound: What the address names is not there, or not for this principal.
    """
    operation = getattr(request.scope["route"], "operation_id", None)
    rule = RULES.get(operation or "")
    if rule is None:
        raise Forbidden(f"{request.method} {request.url.path}: found no rule for it, so nobody may do it")
    if rule.where is not Where.NOWHERE:
        _require(request, rule, identity_of(request).principal)


def _require(request: Request, rule: Rule, principal: Principal) -> None:
    if principal.is_local or rule.where is Where.ANYWHERE:
        return
    if rule.where is Where.SOMEWHERE:
        _require_somewhere(request, rule.action, principal)
    elif rule.where is Where.WORKSPACE:
        workspace = request.path_params["workspace"]
        require(principal, rule.action, workspace, unknown_workspace(workspace))
    else:
        search_id = request.path_params["search_id"]
        if re.fullmatch(ID_PATTERN, search_id):  # else the handler is not reached either
            service: SearchService = request.app.state.service
            require_search(service, principal, rule.action, search_id)
    if rule.elsewhere is not None:
        _require_somewhere(request, rule.elsewhere, principal)


def _require_somewhere(request: Request, action: Action, principal: Principal) -> None:
    if not workspaces_for(principal, action):
        found = f"{principal.name}, who may {action} in no workspace"
        raise Forbidden(f"{request.method} {request.url.path}: found {found}")
