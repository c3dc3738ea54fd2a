"""What was measured over all searches, as SQL: filtered, ordered and added up where it is stored."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    Table,
    exists,
    func,
    literal,
    select,
    tuple_,
)

from nas.errors import NotFound
from nas.history import (
    EVERYTHING,
    Entry,
    HistoryFilter,
    HistoryOrder,
    Measured,
    ParentSummary,
    Place,
    SearchSum,
    measured,
    sum_of,
)
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.search import Artifacts, SearchSpec
from nas.spec import load
from nas.storage.engine import Database
from nas.storage.history_rows import measured_row
from nas.storage.queries import admitted, require_search, text_of
from nas.storage.rows import find, point_in, put, row_of, rows_of
from nas.storage.store import TrialPoint
from nas.storage.tables import measurements, points, search_sums, searches
from nas.trial import Trial

MOST_FEW = 100
"""Searches whose measurements are sorted for a page."""


def record(connection: Connection, search: RowMapping, trial: Trial) -> None:
    """List a trial that becomes final in this transaction, from the row of its search."""
    ours = [point_in(row).point for row in rows_of(connection, points, trial.search_id, [trial.number])]
    made_from = load(Artifacts, search["made_from"]) if search["made_from"] else None
    spec = load(SearchSpec, search["spec"])
    found = measured(spec, made_from, trial, ours)
    if found is not None:
        connection.execute(measurements.insert().values(measured_row(found)))
        _add(connection, found)


def _add(connection: Connection, found: Measured) -> None:
    row = find(connection, search_sums, parent_key=found.parent_key, search_id=found.search_id)
    total = (load(SearchSum, row) if row else sum_of(found)).plus(found)
    put(connection, search_sums, row_of(total), is_new=row is None)


def listed(
    which: HistoryFilter,
    order: HistoryOrder,
    after: RowMapping | None,
    searches_of: Sequence[str] | None = None,
) -> Select[Any]:
    """Return the query for the measurements asked for, in order, that come after a row.

    ``searches_of`` are the searches that the filter admits, where these are few: then all that they hold is sorted.
    Each condition on searches is asked of the one search of a row that is read in order: a join could be begun at
    the searches, and then all that they hold would have to be sorted.
    """
    source: FromClause = measurements
    if searches_of is not None:
        theirs = select(measurements).where(measurements.c.search_id.in_(searches_of))
        # Read first: by another index it might be all that others measured too.
        source = theirs.cte("theirs").prefix_with("MATERIALIZED")
    found = source.c
    by = (found[order.field], found.search_id, found.trial_number)
    told = (
        searches.c.owner, searches.c.tags, searches.c.parent_loss, text_of("name").label("search_name"),
    )  # fmt: skip
    query = (
        select(source, *told)
        .select_from(source.outerjoin(searches, searches.c.id == found.search_id))
        .where(*_conditions(source, which, order, is_narrowed=searches_of is not None))
        .order_by(*(each.desc() if order.is_descending else each for each in by))
    )
    if after is None:
        return query
    here = tuple_(*by)
    there = tuple_(*(literal(after[column.name], column.type) for column in by))
    return query.where(here < there if order.is_descending else here > there)


def _conditions(
    source: FromClause, which: HistoryFilter, order: HistoryOrder, *, is_narrowed: bool
) -> list[ColumnElement[bool]]:
    """Return what is asked of rows of ``source``, which may hold those of the searches asked for alone."""
    found = source.c

    def beside(name: str) -> ColumnElement[Any]:
        """Return a column to be compared on the way: read from its index, a page would be all that fits, sorted."""
        return found[name] if name == order.field else found[name] + 0

    equal = {
        "search_id": which.search_id, "parent_key": which.parent_key, "data_key": which.data_key,
        "recipe_key": which.recipe_key, "reuse_key": which.reuse_key, "name": which.architecture,
        "is_partial": which.partial,
    }  # fmt: skip
    ranges = [
        *((found[name], between.least, between.most) for name, between in which.axes),
        (beside("num_parameters"), which.min_parameters, which.max_parameters),
        (beside("loss"), None, which.max_loss),
        (found.at, which.after, None),
    ]
    conditions = [found[name] == value for name, value in equal.items() if value is not None]
    conditions += [column >= least for column, least, _ in ranges if least is not None]
    conditions += [column <= most for column, _, most in ranges if most is not None]
    if which.before is not None:
        conditions.append(found.at < which.before)
    if not is_narrowed and (asked := admitted(which.searches)):
        conditions.append(_of_such(measurements, asked))
    return conditions


def few_searches(connection: Connection, which: HistoryFilter) -> list[str] | None:
    """Return the searches that a filter admits, None where they are many.

    Of many, a page is soon found in the order of the history; of few, that order may have to be read to its end.
    """
    asked = admitted(which.searches)
    if not asked:
        return None
    found = list(connection.scalars(select(searches.c.id).where(*asked).limit(MOST_FEW + 1)))
    return found if len(found) <= MOST_FEW else None


def _of_such(table: Table, conditions: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return whether the search of a row is one that conditions admit."""
    return exists(
        select(searches.c.id).where(searches.c.id == table.c.search_id, *conditions).correlate(table)
    )


class SqlHistory:
    """A HistoryStore in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def measurements(
        self,
        which: HistoryFilter = EVERYTHING,
        *,
        order: HistoryOrder = HistoryOrder.NEWEST,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """See HistoryStore."""
        with self._database.reading() as connection:
            there = _row_at(connection, after) if after else None
            few = few_searches(connection, which)
            rows = connection.execute(listed(which, order, there, few).limit(limit)).mappings()
            return [
                Entry(
                    measured=load(Measured, row),
                    search_name=row["search_name"],
                    owner=row["owner"],
                    tags=tuple(row["tags"]),
                    parent_loss=row["parent_loss"],
                )
                for row in rows
            ]

    def parents(self, which: SearchFilter = EVERY_SEARCH, *, limit: int = 100) -> list[ParentSummary]:
        """See HistoryStore."""
        sums = search_sums.c
        last_at = func.max(sums.last_at, type_=sums.last_at.type).label("last_at")
        query = select(
            sums.parent_key,
            func.max(sums.parent).label("parent"),
            func.count().label("num_searches"),
            func.sum(sums.num_measurements).label("num_measurements"),
            func.sum(sums.num_tokens).label("num_tokens"),
            func.min(sums.best_loss).label("best_loss"),
            last_at,
        )
        if asked := admitted(which):
            query = query.where(_of_such(search_sums, asked))
        query = query.group_by(sums.parent_key).order_by(last_at.desc(), sums.parent_key.desc()).limit(limit)
        with self._database.reading() as connection:
            return [load(ParentSummary, row) for row in connection.execute(query).mappings()]

    def points_after(
        self, search_id: str, place: tuple[int, int] | None = None, *, limit: int = 1000
    ) -> list[TrialPoint]:
        """See HistoryStore."""
        key = (points.c.trial_number, points.c.num_tokens)
        query = select(points).where(points.c.search_id == search_id).order_by(*key).limit(limit)
        if place is not None:
            query = query.where(tuple_(*key) > tuple_(*place))
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
            if not rows:
                require_search(connection, search_id)
        return [point_in(row) for row in rows]


def _row_at(connection: Connection, place: Place) -> RowMapping:
    row = find(connection, measurements, search_id=place[0], trial_number=place[1])
    if row is None:
        raise NotFound(f"search {place[0]}: trial {place[1]}: no measurement")
    return row
