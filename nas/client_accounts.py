"""The client's calls about people: who asks, members, tokens; each named as its operation, with its parameters."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from nas.accounts import NAME_PATTERN, Member, Principal, Role, Token
from nas.answers_accounts import MemberList, NewToken, TokenPage
from nas.client_calls import Calls
from nas.parameters import PageSize, PageToken, WorkspaceName

MemberName = Annotated[str, Field(pattern=NAME_PATTERN)]
TokenId = Annotated[str, Field(pattern="^[2-9a-z]{10}$")]


class AccountCalls(Calls):
    """What ``Client`` can do about people; raises ClientError throughout."""

    def whoami(self) -> Principal:
        """Return who asks, and what they may do."""
        return self._ask(Principal, "GET", "/whoami")

    def list_members(self, workspace: WorkspaceName) -> MemberList:
        """Return the members of a workspace by name."""
        return self._ask(MemberList, "GET", f"/workspaces/{workspace}/members")

    def put_member(self, workspace: WorkspaceName, name: MemberName, role: Role) -> Member:
        """Give somebody a role in a workspace."""
        return self._ask(Member, "PUT", f"/workspaces/{workspace}/members/{name}", json={"role": role.value})

    def remove_member(self, workspace: WorkspaceName, name: MemberName) -> None:
        """Take somebody out of a workspace."""
        self._connection.call("DELETE", f"/workspaces/{workspace}/members/{name}")

    def list_tokens(self, *, page_size: PageSize = 50, page_token: PageToken | None = None) -> TokenPage:
        """Return a page of the tokens of the workspaces that you manage, newest first; see ``pages``."""
        asked = {"page_size": page_size, "page_token": page_token}
        return self._ask(TokenPage, "GET", "/tokens", params=asked)

    def create_token(
        self, member: str, workspaces: Sequence[str], *, name: str = "", expires_in_days: int | None = 90
    ) -> NewToken:
        """Make a token for a member of workspaces; its secret is told here alone."""
        asked = {
            "member": member, "workspaces": list(workspaces), "name": name, "expires_in_days": expires_in_days,
        }  # fmt: skip
        return self._ask(NewToken, "POST", "/tokens", json=asked)

    def revoke_token(self, token_id: TokenId) -> Token:
        """End a token at once."""
        return self._ask(Token, "POST", f"/tokens/{token_id}:revoke")
