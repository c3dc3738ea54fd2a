"""The client's calls about what was measured: the history, searches side by side, fronts, curves, tables."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, overload

from pydantic import Field

from nas.answers_history import FoundFront, FoundPriors, FoundSideBySide, HistoryPage, ParentList
from nas.axes import AXIS_NAMES
from nas.client_calls import Calls, given
from nas.connection import MEDIA_TYPES
from nas.exports import Format
from nas.history import HistoryOrder
from nas.parameters import (
    Archived,
    OwnerName,
    PageSize,
    PageToken,
    SearchId,
    TagNames,
    TextPart,
    WorkspaceNames,
)
from nas.report import SearchReport
from nas.search import SearchState
from nas.series import LEAST_POINTS, MOST_CURVES, MOST_POINTS, Series
from nas.side_by_side import MOST_SEARCHES

ContentKey = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
ShapeName = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Sizes = Annotated[
    Sequence[Annotated[str, Field(pattern=rf"^({'|'.join(AXIS_NAMES)}):[0-9]{{0,18}}\.\.[0-9]{{0,18}}$")]],
    Field(max_length=2 * len(AXIS_NAMES)),
]
"""Sizes on axes, both ends included and either left out: ``num_layers:4..6``, ``hidden_size:..512``."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Compared = Annotated[Sequence[SearchId], Field(min_length=1, max_length=MOST_SEARCHES)]
TrialNumbers = Annotated[Sequence[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MOST_CURVES)]
MaxPoints = Annotated[int, Field(ge=LEAST_POINTS, le=MOST_POINTS)]
MaxTrials = Annotated[int, Field(ge=1, le=MOST_CURVES)]


class HistoryCalls(Calls):
    """Look back over all searches, compare some, and take tables along."""

    def list_history(
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
        search: SearchId | None = None,
        parent_key: ContentKey | None = None,
        data_key: ContentKey | None = None,
        recipe_key: ContentKey | None = None,
        reuse_key: ContentKey | None = None,
        architecture: ShapeName | None = None,
        axis: Sizes | None = None,
        min_parameters: Count | None = None,
        max_parameters: Count | None = None,
        max_loss: float | None = None,
        measured_after: datetime | None = None,
        measured_before: datetime | None = None,
        partial: Literal["false", "true", "any"] = "any",
        order_by: HistoryOrder = HistoryOrder.NEWEST,
        page_size: PageSize = 50,
        page_token: PageToken | None = None,
    ) -> HistoryPage:
        """Return a page of what trials came to, over all searches; ``pages`` goes through all pages.

        The first ten say of which searches, as ``list_searches`` has them; the server gives at most 500 at once.
        """
        return self._ask(HistoryPage, "GET", "/history", params=_asked(locals()))

    def list_parents(
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
        page_size: PageSize = 50,
    ) -> ParentList:
        """Return what was measured of each parent by such searches, that of the latest measurement first."""
        return self._ask(ParentList, "GET", "/history/parents", params=_asked(locals()))

    def export_history(
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
        search: SearchId | None = None,
        parent_key: ContentKey | None = None,
        data_key: ContentKey | None = None,
        recipe_key: ContentKey | None = None,
        reuse_key: ContentKey | None = None,
        architecture: ShapeName | None = None,
        axis: Sizes | None = None,
        min_parameters: Count | None = None,
        max_parameters: Count | None = None,
        max_loss: float | None = None,
        measured_after: datetime | None = None,
        measured_before: datetime | None = None,
        partial: Literal["false", "true", "any"] = "any",
        format: Format = Format.CSV,  # noqa: A002 - as REST calls it
        order_by: HistoryOrder = HistoryOrder.OLDEST,
    ) -> Iterator[str]:
        """Yield all that ``list_history`` lists as a table for other programs, as it arrives."""
        return self._table("/history/export", _asked(locals()))

    def compare_searches(self, search: Compared) -> FoundSideBySide:
        """Return up to eight searches beside one another: what differs, what each found, whether losses compare."""
        return self._ask(FoundSideBySide, "GET", "/compare", params={"search": list(search)})

    def get_front(self, search_id: SearchId) -> FoundFront:
        """Return the completed trials that no smaller or equal one beats."""
        return self._ask(FoundFront, "GET", f"/searches/{search_id}/front")

    def get_priors(self, search_id: SearchId) -> FoundPriors:
        """Return the earlier measurements that a search's proposals began from; none before that was settled."""
        return self._ask(FoundPriors, "GET", f"/searches/{search_id}/priors")

    def get_series(
        self,
        search_id: SearchId,
        *,
        trial: TrialNumbers | None = None,
        max_points: MaxPoints = 200,
        max_trials: MaxTrials = 50,
    ) -> Series:
        """Return learning curves, down-sampled: of these trials, or of those that are furthest."""
        asked = {"trial": trial, "max_points": max_points, "max_trials": max_trials}
        return self._ask(Series, "GET", f"/searches/{search_id}/series", params=asked)

    @overload
    def get_report(self, search_id: SearchId) -> SearchReport: ...

    @overload
    def get_report(self, search_id: SearchId, *, format: Literal["json"]) -> SearchReport: ...

    @overload
    def get_report(self, search_id: SearchId, *, format: Literal["html"]) -> Iterator[str]: ...

    def get_report(
        self,
        search_id: SearchId,
        *,
        format: Literal["json", "html"] = "json",  # noqa: A002 - as REST calls it
    ) -> SearchReport | Iterator[str]:
        """Return what a search found, what it cost and what it teaches; as HTML it is one file, yielded as it arrives."""
        path = f"/searches/{search_id}/report"
        if format == "html":
            return self._table(path, {"format": format}, ("text/html",))
        return self._ask(SearchReport, "GET", path)

    def export_search(
        self,
        search_id: SearchId,
        *,
        rows: Literal["trials", "points"] = "trials",
        format: Format = Format.CSV,  # noqa: A002 - as REST calls it
    ) -> Iterator[str]:
        """Yield the trials of a search or their points as a table for other programs, as it arrives."""
        return self._table(f"/searches/{search_id}/export", {"rows": rows, "format": format.value})

    def _table(
        self, path: str, asked: Mapping[str, Any], allowed: tuple[str, ...] = MEDIA_TYPES
    ) -> Iterator[str]:
        with self._connection.stream(path, params=given(asked), allowed=allowed) as response:
            yield from response.iter_text()


def _asked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request from all that a method was given."""
    return {name: value for name, value in arguments.items() if name != "self"}
