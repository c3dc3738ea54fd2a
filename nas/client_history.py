"""The calls of the client for what was measured: the history, searches side by side, fronts, curves, tables.

Each is named as its operation of the REST interface; knows addresses and parameters, no database.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from nas.connection import Connection
from nas.exports import Format
from nas.history import EVERYTHING, Entry, HistoryFilter, HistoryOrder, ParentSummary
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.series import Series
from nas.side_by_side import SideBySide
from nas.spec import dump, load
from nas.trial import Trial

PER_PAGE = 500


class HistoryCalls:
    """Mixed into the client; raises ClientError throughout."""

    _connection: Connection

    def list_history(
        self,
        which: HistoryFilter = EVERYTHING,
        *,
        order: HistoryOrder = HistoryOrder.NEWEST,
        limit: int | None = 50,
    ) -> Iterator[Entry]:
        """Yield measurements in order, a page at a time; with no limit, all of them."""
        left = float("inf") if limit is None else limit
        asked = _asked(which) | {"order_by": order.value}
        while left > 0:
            asked["page_size"] = min(left, PER_PAGE)
            page = self._connection.call("GET", "/history", params=asked)
            for each in page["measurements"]:
                yield load(Entry, {**each, "measured": each})
            left -= len(page["measurements"])
            if page["next_page_token"] is None:
                return
            asked["page_token"] = page["next_page_token"]

    def list_parents(self, which: SearchFilter = EVERY_SEARCH) -> list[ParentSummary]:
        """Return what was measured of each parent, that of the latest measurement first; at most 200."""
        found = self._connection.call(
            "GET", "/history/parents", params=_of_searches(which) | {"page_size": 200}
        )
        return [load(ParentSummary, each) for each in found["parents"]]

    def compare_searches(self, search_ids: Sequence[str]) -> SideBySide:
        """Return up to eight searches beside one another."""
        found = self._connection.call("GET", "/compare", params={"search": list(search_ids)})
        searches = [
            {**each, "view": {**each["search"], "search": each["search"]}} for each in found["searches"]
        ]
        return load(SideBySide, {**found, "searches": searches})

    def get_front(self, search_id: str) -> list[Trial]:
        """Return the completed trials that no smaller or equal one beats, from small to large."""
        found = self._connection.call("GET", f"/searches/{search_id}/front")
        return [load(Trial, each) for each in found["trials"]]

    def get_series(
        self,
        search_id: str,
        *,
        trials: Sequence[int] | None = None,
        max_points: int = 200,
        max_trials: int = 50,
    ) -> Series:
        """Return learning curves by trial number, down-sampled: of these trials, or of those that are furthest."""
        asked = {"trial": trials, "max_points": max_points, "max_trials": max_trials}
        return load(
            Series, self._connection.call("GET", f"/searches/{search_id}/series", params=_given(asked))
        )

    def export_search(
        self, search_id: str, *, rows: Literal["trials", "points"] = "trials", form: Format = Format.CSV
    ) -> Iterator[bytes]:
        """Yield the table of a search's trials or points, as it arrives."""
        return self._table(f"/searches/{search_id}/export", {"rows": rows, "format": form.value})

    def export_history(
        self, which: HistoryFilter = EVERYTHING, *, form: Format = Format.CSV
    ) -> Iterator[bytes]:
        """Yield the table of measurements, as it arrives."""
        return self._table("/history/export", _asked(which) | {"format": form.value})

    def _table(self, path: str, asked: Mapping[str, Any]) -> Iterator[bytes]:
        with self._connection.stream(path, params=asked) as response:
            yield from response.iter_bytes()


def _asked(which: HistoryFilter) -> dict[str, Any]:
    """Return the parameters of a filter."""
    asked = dump(which)
    renamed = {"search": "search_id", "measured_after": "after", "measured_before": "before"}
    partial = {None: "any", True: "true", False: "false"}[which.partial]
    same = (
        "parent_key", "data_key", "recipe_key", "reuse_key", "architecture", "min_parameters", "max_parameters",
        "max_loss",
    )  # fmt: skip
    axes = [
        f"{name}:{'' if sizes.least is None else sizes.least}..{'' if sizes.most is None else sizes.most}"
        for name, sizes in which.axes
    ]
    parameters = {name: asked[name] for name in same} | {
        name: asked[field] for name, field in renamed.items()
    }
    return _of_searches(which.searches) | _given(parameters | {"axis": axes or None, "partial": partial})


def _of_searches(which: SearchFilter) -> dict[str, Any]:
    """Return the parameters of a filter of searches."""
    asked = dump(which)
    asked["state"], asked["tag"] = asked.pop("states"), asked.pop("tags")
    asked["archived"] = "any" if which.archived is None else which.archived
    return _given(asked)


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
