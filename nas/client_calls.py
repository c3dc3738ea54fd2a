"""What every part of the client is made of: requests whose answers are read as values."""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar

from pydantic import ValidationError

from nas.connection import ClientError, Connection
from nas.spec import load

T = TypeVar("T")
P = ParamSpec("P")
MERGE_PATCH = "application/merge-patch+json"


class Page(Protocol):
    """A page of any list."""

    @property
    def next_page_token(self) -> str | None:
        """Ask with it for the next page; None on the last."""


PageT = TypeVar("PageT", bound=Page)


class Calls:
    """The operations of one subject, over a connection that the whole client shares."""

    _connection: Connection

    def _ask(self, cls: type[T], method: str, path: str, **arguments: Any) -> T:
        """Send a request and return its answer as a value; parameters that are None are not sent."""
        arguments["params"] = given(arguments.get("params", {}))
        return answered(cls, self._connection.call(method, path, **arguments))


def answered(cls: type[T], content: Mapping[str, Any]) -> T:
    """Return the value that a server sent.

    Raises:
        ClientError: It is of a later version, and sends what this one has no word for.
    """
    try:
        return load(cls, content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ClientError(
            f"server: answered {field} with {first['input']!r:.60}, which this version of minitron-nas cannot "
            "read; allowed: a client of the server's version"
        ) from error


def pages(operation: Callable[P, PageT], *args: P.args, **kwargs: P.kwargs) -> Iterator[PageT]:
    """Yield the pages of a list, each when it is asked for: ``pages(client.list_searches, owner="ann")``."""
    while True:
        page = operation(*args, **kwargs)
        yield page
        if page.next_page_token is None:
            return
        kwargs["page_token"] = page.next_page_token


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters that say something, as an address holds them."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in parameters.items()
        if value is not None
    }


def keyed(key: str | None) -> dict[str, str]:
    """Return the headers of a request that may be sent again; without a key, under a new one."""
    bare = None if key is None else re.sub('^"(.*)"$', r"\1", key)
    if bare is not None and not re.fullmatch("[!#-~]{1,255}", bare):
        raise ClientError(f"key: found {key!r}, allowed: 1 to 255 ASCII characters, no space, no quotes")
    return {"Idempotency-Key": f'"{bare or uuid.uuid4()}"'}
