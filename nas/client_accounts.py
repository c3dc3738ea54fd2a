"""The client's calls about people: who asks, members, tokens. Knows addresses; ``Client`` brings the connection."""

from typing import Any

from nas.accounts import Member, Principal, Role, Token
from nas.connection import Connection
from nas.spec import load

TOKENS_PER_PAGE = 200


class AccountCalls:
    """What ``Client`` can do about people; raises ClientError throughout."""

    _connection: Connection

    def whoami(self) -> Principal:
        """Return who asks, and what they may do."""
        return load(Principal, self._connection.call("GET", "/whoami"))

    def list_members(self, workspace: str) -> list[Member]:
        """Return the members of a workspace by name."""
        found = self._connection.call("GET", f"/workspaces/{workspace}/members")
        return [load(Member, each) for each in found["members"]]

    def put_member(self, workspace: str, name: str, role: Role) -> Member:
        """Give somebody a role in a workspace."""
        path = f"/workspaces/{workspace}/members/{name}"
        return load(Member, self._connection.call("PUT", path, json={"role": role.value}))

    def remove_member(self, workspace: str, name: str) -> None:
        """Take somebody out of a workspace."""
        self._connection.call("DELETE", f"/workspaces/{workspace}/members/{name}")

    def list_tokens(self) -> list[Token]:
        """Return the tokens of the workspaces that you manage, newest first."""
        tokens: list[Token] = []
        asked: dict[str, Any] = {"page_size": TOKENS_PER_PAGE}
        while True:
            page = self._connection.call("GET", "/tokens", params=asked)
            tokens += [load(Token, each) for each in page["tokens"]]
            if not page["next_page_token"]:
                return tokens
            asked["page_token"] = page["next_page_token"]

    def create_token(
        self, member: str, workspaces: list[str], *, name: str = "", expires_in_days: int | None = 90
    ) -> tuple[Token, str]:
        """Make a token for a member of workspaces; return it and its secret, which is told here alone."""
        asked = {"member": member, "workspaces": workspaces, "name": name, "expires_in_days": expires_in_days}
        made = self._connection.call("POST", "/tokens", json=asked)
        return load(Token, made), made["secret"]

    def revoke_token(self, token_id: str) -> Token:
        """End a token at once."""
        return load(Token, self._connection.call("POST", f"/tokens/{token_id}:revoke"))
