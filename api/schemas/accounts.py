"""People as REST tells of them, and what it takes to make a token or a member."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from api.schemas.base import Resource
from nas.accounts import MAX_TOKEN_NAME_LENGTH, NAME_PATTERN, WORKSPACE_PATTERN, Role
from nas.people import MAX_LIFETIME

MemberName = Annotated[str, Field(pattern=NAME_PATTERN)]
WorkspaceName = Annotated[str, Field(pattern=WORKSPACE_PATTERN)]


class WhoamiResource(Resource):
    """Who asks."""

    name: str
    """``local`` where no token was ever made: whoever reaches the service then may everything."""
    is_local: bool
    roles: Mapping[str, Role]
    """By workspace; empty for ``local``."""
    token_id: str | None
    """Of the token that was shown."""


class MemberResource(Resource):
    """Somebody's role in a workspace."""

    workspace: str
    name: str
    role: Role


class MemberList(Resource):
    """The members of a workspace by name."""

    members: list[MemberResource]


class MemberRequest(BaseModel):
    """What somebody may do in a workspace from now on."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class TokenResource(Resource):
    """A token, without its secret."""

    id: str
    member: str
    workspaces: list[str]
    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """Roughly."""


class NewTokenResource(TokenResource):
    """A token with its secret, which is told here and never again."""

    secret: str


class TokenPage(Resource):
    """A page of tokens."""

    tokens: list[TokenResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""


class TokenRequest(BaseModel):
    """A token for a member of workspaces."""

    model_config = ConfigDict(extra="forbid")

    member: MemberName
    workspaces: Annotated[list[WorkspaceName], Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(max_length=MAX_TOKEN_NAME_LENGTH)] = ""
    """What it is for, in one line."""
    expires_in_days: Annotated[StrictInt, Field(ge=1, le=MAX_LIFETIME.days)] | None = 90
    """Null: it holds until it is revoked."""
