"""Opaque page tokens: where a list goes on, and a digest of what was asked, so that no two lists mix.

A place is the key of the last item given, not a number of items. Knows no list.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nas.errors import InvalidPageToken

T = TypeVar("T")
FIELD = "page_token"


def token_of(place: Any, asked: Mapping[str, Any]) -> str:
    """Return the token of the page that comes after ``place`` in the list that was asked for."""
    content = json.dumps([_digest(asked), place], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()


def place_in(token: str, asked: Mapping[str, Any], places: TypeAdapter[T]) -> T:
    """Return the place after which the page of a token begins.

    Raises:
        InvalidPageToken: The token is none, or of a list that was asked for otherwise.
    """
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, place = json.loads(content)
        found = places.validate_python(place)
    except (ValueError, TypeError, RecursionError, ValidationError):
        raise InvalidPageToken(
            FIELD, "found none that was given out, allowed: next_page_token of the page before"
        ) from None
    if digest != _digest(asked):
        raise InvalidPageToken(
            FIELD,
            "found one of a list with other filters or order, allowed: one given out for these parameters",
        )
    return found


def _digest(asked: Mapping[str, Any]) -> str:
    said = {name: value for name, value in asked.items() if value is not None}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
