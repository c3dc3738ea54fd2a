"""Lists of searches as SQL: what is compared is compared by the database, where it is stored."""

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from nas.listing import SearchFilter, SearchOrder
from nas.storage.tables import searches


def listed_searches(which: SearchFilter, order: SearchOrder, after: str | None) -> Select[Any]:
    """Return the query for the rows asked for, in order, that come after the search with an id."""
    value = _text("name") if order.is_by_name else searches.c.created_at
    key = searches.c.id
    ordered = [each.desc() if order.is_descending else each for each in (value, key)]
    query = select(searches).where(*_admitted(which)).order_by(*ordered)
    if after is None:
        return query
    there = select(value).where(key == after).scalar_subquery()
    if order.is_descending:
        return query.where(or_(value < there, and_(value == there, key < after)))
    return query.where(or_(value > there, and_(value == there, key > after)))


def _admitted(which: SearchFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    conditions: list[ColumnElement[bool]] = []
    if which.states is not None:
        conditions.append(searches.c.state.in_([state.value for state in which.states]))
    for field, part in (("name", which.name), ("parent", which.parent)):
        if part is not None:
            conditions.append(_text(field).icontains(part, autoescape=True))
    if which.created_after is not None:
        conditions.append(searches.c.created_at >= which.created_after)
    if which.created_before is not None:
        conditions.append(searches.c.created_at < which.created_before)
    return conditions


def _text(field: str) -> ColumnElement[str]:
    """Return a field of the spec."""
    content: ColumnElement[str] = searches.c.spec[field].as_string()
    return content
