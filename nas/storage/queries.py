"""Lists of searches as SQL: what is compared is compared by the database, where it is stored."""

from collections.abc import Callable
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
    columns = searches.c
    states = None if which.states is None else [state.value for state in which.states]
    simple: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
        (states, columns.state.in_),
        (which.workspaces, columns.workspace.in_),
        (which.name, _contained(text_of("name"))),
        (which.parent, _contained(text_of("parent"))),
        (which.text, _contained(text_of("name"), columns.notes)),
        (which.created_after, columns.created_at.__ge__),
        (which.created_before, columns.created_at.__lt__),
        (which.owner, columns.owner.__eq__),
        (which.archived, columns.archived.__eq__),
    ]
    conditions = [condition(value) for value, condition in simple if value is not None]
    for tag in which.tags or ():
        conditions.append(columns.id.in_(select(search_tags.c.search_id).where(search_tags.c.tag == tag)))
    return conditions


def _contained(*columns: ColumnElement[str]) -> Callable[[str], ColumnElement[bool]]:
    """Return the condition that a part stands in any of these columns, letters in either case."""
    return lambda part: or_(*(column.icontains(part, autoescape=True) for column in columns))


def text_of(field: str) -> ColumnElement[str]:
    """Return a field of the spec."""
    content: ColumnElement[str] = searches.c.spec[field].as_string()
    return content
