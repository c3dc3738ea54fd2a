"""The types of REST's parameters, with the bounds that the server holds them to.

They tell; nothing checks them here. A test compares them with the OpenAPI document.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from nas.accounts import WORKSPACE_PATTERN
from nas.edits import MAX_OWNER_LENGTH, MAX_TAG_LENGTH, MAX_TAGS
from nas.settings import DeviceFlops

_NO_NUL = r"^[^\x00]*$"

SearchId = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
PageSize = Annotated[int, Field(ge=1)]
"""Above the most that a list gives at once it means that."""
PageToken = Annotated[str, Field(max_length=1024)]
"""``next_page_token`` of the page before, with the same filters and order."""
TextPart = Annotated[str, Field(max_length=200, pattern=_NO_NUL)]
"""A part of a text; ASCII letters in either case."""
OwnerName = Annotated[str, Field(max_length=MAX_OWNER_LENGTH, pattern=_NO_NUL)]
"""The whole name; empty: nobody's."""
TagNames = Annotated[
    Sequence[Annotated[str, Field(max_length=MAX_TAG_LENGTH, pattern=_NO_NUL)]], Field(max_length=MAX_TAGS)
]
"""All of these."""
WorkspaceName = Annotated[str, Field(pattern=WORKSPACE_PATTERN)]
WorkspaceNames = Annotated[Sequence[WorkspaceName], Field(max_length=100)]
"""One of these."""
Archived = Literal["false", "true", "any"]
IdempotencyKey = Annotated[str, Field(pattern='^("[!#-~]{1,255}"|[!#-~]{1,255})$')]
"""The same request with the same key is done once, however often it is sent."""
LogLines = Annotated[int, Field(ge=1, le=10_000)]
Flops = DeviceFlops
"""Operations a second of each process of a trial."""
EventCursor = int | Literal["now"]
"""Only what comes after this sequence; ``now``: what happens from now on."""
