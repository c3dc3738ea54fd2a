"""Rows and values: how a dataclass is a row, and how rows are found and written. Decides nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from nas.errors import NotFound
from nas.spec import load
from nas.storage import tables
from nas.storage.store import TrialPoint
from nas.trial import Point


def row_of(value: Any) -> dict[str, Any]:
    """Return the columns of a dataclass; what has fields of its own goes into a document."""
    return {
        name: content.value if isinstance(content, Enum) else content
        for name, content in asdict(value).items()
    }


def point_in(row: RowMapping) -> TrialPoint:
    """Return the point of a row."""
    return TrialPoint(trial_number=row["trial_number"], point=load(Point, row))


def find(connection: Connection, table: Table, **key: Any) -> RowMapping | None:
    """Return the row with a key, if there is one."""
    return connection.execute(select(table).filter_by(**key)).mappings().one_or_none()


def search_row(connection: Connection, search_id: str) -> RowMapping:
    """Return the row of a search; raises NotFound."""
    row = find(connection, tables.searches, id=search_id)
    if row is None:
        raise NotFound(f"search {search_id}: not found")
    return row


def rows_of(
    connection: Connection, table: Table, search_id: str, trials: Collection[int] | None = None
) -> Sequence[RowMapping]:
    """Return the rows of a search, or of some of its trials, in a table by their key."""
    query = select(table).where(table.c.search_id == search_id).order_by(*table.primary_key)
    if trials is not None:
        query = query.where(table.c.trial_number.in_(trials))
    return connection.execute(query).mappings().all()


def put(connection: Connection, table: Table, row: Mapping[str, Any], *, is_new: bool) -> None:
    """Insert a row, or replace the one with its key."""
    if is_new:
        connection.execute(table.insert().values(row))
    else:
        is_same = [column == row[column.name] for column in table.primary_key]
        connection.execute(table.update().where(*is_same).values(row))
