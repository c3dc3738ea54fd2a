"""The client's calls about searches and their trials: each named as its operation, with its parameters."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nas.answers import FoundSearch, SearchPage, TrialPage
from nas.client_calls import MERGE_PATCH, Calls, answered, given, keyed
from nas.edits import Edit, told
from nas.estimate import Estimate
from nas.listing import SearchOrder, TrialOrder
from nas.logs import LogTail
from nas.parameters import (
    Archived,
    Flops,
    IdempotencyKey,
    LogLines,
    OwnerName,
    PageSize,
    PageToken,
    SearchId,
    TagNames,
    TextPart,
    WorkspaceName,
    WorkspaceNames,
)
from nas.search import SearchSpec, SearchState
from nas.spec import spec_to_json
from nas.trial import TrialRole, TrialState


class SearchCalls(Calls):
    """Submit, list, read, edit and clone searches; read their trials and logs."""

    def create_search(
        self,
        spec: SearchSpec,
        *,
        validate_only: bool = False,
        device_flops: Flops | None = None,
        owner: str | None = None,
        tag: Sequence[str] | None = None,
        workspace: WorkspaceName | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> FoundSearch | Estimate:
        """Submit a search, or with ``validate_only`` ask what it would cost; ``submit`` and ``plan`` do one each.

        Local paths in the spec are the server's to find. With the same key the same spec is submitted once,
        whoever sends it again; by default each call has a key of its own, so that what it sends again after
        a lost connection is one search.
        """
        asked = {
            "validate_only": validate_only,
            "device_flops": device_flops,
            "owner": owner,
            "tag": tag,
            "workspace": workspace,
        }
        found = self._connection.call(
            "POST", "/searches", json=spec_to_json(spec), params=given(asked), headers=keyed(idempotency_key)
        )
        return answered(Estimate, found) if validate_only else answered(FoundSearch, found)

    def list_searches(
        self,
        *,
        state: Sequence[SearchState] | None = None,
        name: TextPart | None = None,
        parent: TextPart | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        owner: OwnerName | None = None,
        tag: TagNames | None = None,
        workspace: WorkspaceNames | None = None,
        archived: Archived = "false",
        text: TextPart | None = None,
        order_by: SearchOrder = SearchOrder.NEWEST,
        page_size: PageSize = 50,
        page_token: PageToken | None = None,
    ) -> SearchPage:
        """Return a page of the searches that all of these admit; ``pages`` goes through all pages.

        Args:
            state: One of these.
            name: A part of it.
            parent: A part of it.
            created_after: At this time or later; without a time zone, UTC.
            created_before: Earlier than this time.
            owner: The whole name; empty: those of nobody.
            tag: All of these.
            workspace: One of these.
            archived: Archived searches are left out unless they, or any, are asked for.
            text: A part of the name or of the notes.
            order_by: A minus puts the last first.
            page_size: The server gives at most 200 at once.
            page_token: Of the page before.
        """
        asked = {
            "state": state, "name": name, "parent": parent, "created_after": created_after,
            "created_before": created_before, "owner": owner, "tag": tag, "archived": archived, "text": text,
            "workspace": workspace,
            "order_by": order_by, "page_size": page_size, "page_token": page_token,
        }  # fmt: skip
        return self._ask(SearchPage, "GET", "/searches", params=asked)

    def get_search(self, search_id: SearchId) -> FoundSearch:
        """Return a search and where it stands."""
        return self._ask(FoundSearch, "GET", f"/searches/{search_id}")

    def edit_search(self, search_id: SearchId, edit: Edit, *, if_match: str | None = None) -> FoundSearch:
        """Say something of a search, at any time.

        With ``if_match``, a search's ``etag``, only if nobody has edited it since; else the last edit of a
        field wins.
        """
        headers = {"Content-Type": MERGE_PATCH} | ({"If-Match": if_match} if if_match is not None else {})
        content = json.dumps(told(edit))
        return self._ask(FoundSearch, "PATCH", f"/searches/{search_id}", content=content, headers=headers)

    def clone_search(
        self,
        search_id: SearchId,
        patch: Mapping[str, Any],
        *,
        owner: str | None = None,
        tag: Sequence[str] | None = None,
        workspace: WorkspaceName | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> FoundSearch:
        """Submit a search like another, its spec changed by a merge patch (RFC 7396)."""
        return self._ask(
            FoundSearch,
            "POST",
            f"/searches/{search_id}:clone",
            content=json.dumps(patch, default=str),
            params={"owner": owner, "tag": tag, "workspace": workspace},
            headers={"Content-Type": MERGE_PATCH, **keyed(idempotency_key)},
        )

    def get_log(self, search_id: SearchId, *, tail: LogLines = 100) -> LogTail:
        """Return the end of the log of a search's worker, at most so many lines."""
        return self._ask(LogTail, "GET", f"/searches/{search_id}/logs", params={"tail": tail})

    def list_trials(
        self,
        search_id: SearchId,
        *,
        state: Sequence[TrialState] | None = None,
        role: Sequence[TrialRole] | None = None,
        order_by: TrialOrder = TrialOrder.NUMBER,
        page_size: PageSize = 100,
        page_token: PageToken | None = None,
    ) -> TrialPage:
        """Return a page of the trials of a search with their points and attempts; ``trials`` returns all.

        Args:
            search_id: Of the search.
            state: One of these.
            role: One of these.
            order_by: By loss, trials without come last; a minus puts the greatest first.
            page_size: The server gives at most 500 at once.
            page_token: Of the page before.
        """
        asked = {
            "state": state, "role": role, "order_by": order_by, "page_size": page_size, "page_token": page_token,
        }  # fmt: skip
        return self._ask(TrialPage, "GET", f"/searches/{search_id}/trials", params=asked)
