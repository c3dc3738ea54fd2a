"""Who asks, members of workspaces and API tokens, under ``/api/v1``."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field, TypeAdapter

from api.dependencies import PageToken, Who, WholeService, page_size
from api.errors import problems
from api.paging import place_in, token_of
from api.schemas.accounts import (
    MemberList,
    MemberRequest,
    MemberResource,
    NewTokenResource,
    TokenPage,
    TokenRequest,
    TokenResource,
    WhoamiResource,
)
from nas.accounts import NAME_PATTERN, TOKEN_ID_PATTERN, WORKSPACE_PATTERN, Member
from nas.people import People

router = APIRouter(tags=["accounts"])

PLACES: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(pattern=TOKEN_ID_PATTERN)])
Workspace = Annotated[str, Path(description="The name of a workspace.", pattern=WORKSPACE_PATTERN)]
Name = Annotated[str, Path(description="The name of a person.", pattern=NAME_PATTERN)]
TokenId = Annotated[str, Path(description="What a token has behind `nas_`.", pattern=TOKEN_ID_PATTERN)]


def people_of(service: WholeService) -> People:
    """Return the use cases that people are managed by; each is told who asks."""
    return service.people


Managed = Annotated[People, Depends(people_of)]


@router.get("/whoami", operation_id="whoami")
def whoami(who: Who) -> WhoamiResource:
    """Say who asks and what they may do: a viewer reads, a contributor changes, an admin manages people too."""
    return WhoamiResource.model_validate(who)


@router.get("/workspaces/{workspace}/members", operation_id="list_members", responses=problems(404, 422))
def list_members(people: Managed, who: Who, workspace: Workspace) -> MemberList:
    """List the members of a workspace."""
    return MemberList.model_validate({"members": people.members(who, workspace)})


@router.put(
    "/workspaces/{workspace}/members/{name}",
    operation_id="put_member",
    responses=problems(400, 404, 409, 422, 507),
)
def put_member(
    people: Managed, who: Who, workspace: Workspace, name: Name, asked: MemberRequest
) -> MemberResource:
    """Give somebody a role in a workspace, in place of the one they have."""
    member = Member(workspace=workspace, name=name, role=asked.role)
    return MemberResource.model_validate(people.put_member(who, member))


@router.delete(
    "/workspaces/{workspace}/members/{name}",
    operation_id="remove_member",
    status_code=204,
    responses=problems(404, 409, 422, 507),
)
def remove_member(people: Managed, who: Who, workspace: Workspace, name: Name) -> None:
    """Take somebody and their tokens out of a workspace; tokens that then hold nowhere are revoked."""
    people.remove_member(who, workspace, name)


@router.get("/tokens", operation_id="list_tokens", responses=problems(403, 404, 422))
def list_tokens(
    people: Managed,
    who: Who,
    size: Annotated[int, Depends(page_size(50, 200))],
    page_token: PageToken = None,
) -> TokenPage:
    """List the tokens that hold in the workspaces you manage, newest first, with the workspaces that you see."""
    asked = {"list": "tokens"}
    after = place_in(page_token, asked, PLACES) if page_token else None
    found = people.tokens(who, after=after, limit=size + 1)
    return TokenPage(
        tokens=[TokenResource.model_validate(token) for token in found[:size]],
        next_page_token=token_of(found[size - 1].id, asked) if len(found) > size else None,
    )


@router.post(
    "/tokens",
    operation_id="create_token",
    status_code=201,
    responses=problems(400, 404, 409, 422, 507),
)
def create_token(people: Managed, who: Who, asked: TokenRequest) -> NewTokenResource:
    """Make a token for somebody, worth what they may in these workspaces. Its secret is in this answer alone."""
    people.require_accounts()
    lifetime = None if asked.expires_in_days is None else timedelta(days=asked.expires_in_days)
    token, secret = people.create_token(
        who, asked.member, asked.workspaces, name=asked.name, lifetime=lifetime
    )
    known = TokenResource.model_validate(token).model_dump()
    return NewTokenResource(**known, secret=secret.text)


@router.post(
    "/tokens/{token_id}:revoke",
    operation_id="revoke_token",
    responses=problems(404, 422, 507),
)
def revoke_token(people: Managed, who: Who, token_id: TokenId) -> TokenResource:
    """End a token at once in the workspaces you manage; where it holds in no others, it and its sessions are revoked."""
    return TokenResource.model_validate(people.revoke_token(who, token_id))
