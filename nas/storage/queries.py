"""Lists of searches as SQL: what is compared is compared by the database, where it is stored."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from nas.errors import NotFound
from nas.listing import SearchFilter, SearchOrder
from nas.storage.tables import search_tags, searches


def require_search(connection: Connection, search_id: str) -> None:
    """Raise NotFound unless there is a search, without reading what may be long of it."""
    if connection.scalar(select(searches.c.id).where(searches.c.id == search_id)) is None:
        raise NotFound(f"search {search_id}: not found")


def listed_searches(which: SearchFilter, order: SearchOrder, after: str | None) -> Select[Any]:
    """Return the query for the rows asked for, in order, that come after the search with an id."""
    value = text_of("name") if order.is_by_name else searches.c.created_at
    key = searches.c.id
    ordered = [each.desc() if order.is_descending else each for each in (value, key)]
    query = select(searches).where(*admitted(which)).order_by(*ordered)
    if after is None:
        return query
    there = select(value).where(key == after).scalar_subquery()
    # The first comparison is implied by the second; it is what an index can be asked.
    if order.is_descending:
        return query.where(value <= there, or_(value < there, key < after))
    return query.where(value >= there, or_(value > there, key > after))


def admitted(which: SearchFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    conditions: list[ColumnElement[bool]] = []
    if which.states is not None:
        conditions.append(searches.c.state.in_([state.value for state in which.states]))
    for field, part in (("name", which.name), ("parent", which.parent)):
        if part is not None:
            conditions.append(text_of(field).icontains(part, autoescape=True))
    if which.created_after is not None:
        conditions.append(searches.c.created_at >= which.created_after)
    if which.created_before is not None:
        conditions.append(searches.c.created_at < which.created_before)
    if which.owner is not None:
        conditions.append(searches.c.owner == which.owner)
    if which.archived is not None:
        conditions.append(searches.c.archived == which.archived)
    for tag in which.tags or ():
        conditions.append(searches.c.id.in_(select(search_tags.c.search_id).where(search_tags.c.tag == tag)))
    if which.text is not None:
        parts = (text_of("name"), searches.c.notes)
        conditions.append(or_(*(part.icontains(which.text, autoescape=True) for part in parts)))
    return conditions


def text_of(field: str) -> ColumnElement[str]:
    """Return a field of the spec."""
    content: ColumnElement[str] = searches.c.spec[field].as_string()
    return content
