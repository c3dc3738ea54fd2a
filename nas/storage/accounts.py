"""The interface of what is stored of people: workspaces, members, tokens; and the rules that every store shares.

It holds as ``SearchStore`` does: what returns is committed, what raises has changed nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from nas.accounts import Member, Role, Token
from nas.errors import LastAdmin, UnknownAccount


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a token that is shown is judged by."""

    token: Token
    digest: str
    roles: Mapping[str, Role]
    """Its member's present roles, by those of its workspaces where there is one."""


class AccountStore(Protocol):
    """Workspaces, members and tokens. Unknown names and ids raise UnknownAccount."""

    def has_tokens(self) -> bool:
        """Return whether a token was ever made; it does not matter whether one is good."""
        ...

    def workspaces(self) -> list[str]:
        """Return the names of all workspaces, sorted; ``default`` is always among them."""
        ...

    def add_workspace(self, name: str) -> None:
        """Add a workspace; one that is there stays as it is."""
        ...

    def members(self, workspace: str) -> list[Member]:
        """Return the members of a workspace by name."""
        ...

    def put_member(self, member: Member) -> None:
        """Give somebody a role in a workspace; raises LastAdmin where that takes it from the last admin."""
        ...

    def remove_member(self, workspace: str, name: str, at: datetime) -> None:
        """Take somebody and their tokens out of a workspace, as ``without`` says; raises LastAdmin for the last admin."""
        ...

    def add_token(self, token: Token, digest: str) -> None:
        """Add a token."""
        ...

    def tokens(
        self, workspaces: Collection[str] | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[Token]:
        """Return tokens that hold in any of the workspaces, None: in any at all, newest first, after the one given."""
        ...

    def token(self, token_id: str) -> Token:
        """Return one token."""
        ...

    def credentials(self, token_id: str) -> Credentials | None:
        """Return what a token is judged by, or None when there is none with the id."""
        ...

    def revoke_token(self, token_id: str, at: datetime, workspaces: Collection[str] | None = None) -> Token:
        """Take a token out of workspaces, None: out of all, as ``without`` says, and return it."""
        ...

    def touch_token(self, token_id: str, at: datetime) -> None:
        """Write down that a token was used."""
        ...


def without(token: Token, workspaces: Collection[str] | None, at: datetime) -> Token:
    """Return a token as it is once it does not hold in workspaces any more, None: in none.

    One that holds nowhere then is revoked, and keeps where it held, so that it is still listed there; one that was
    revoked before stays as it is.
    """
    left = () if workspaces is None else tuple(name for name in token.workspaces if name not in workspaces)
    if token.revoked_at is not None:
        return token
    return replace(token, workspaces=left) if left else replace(token, revoked_at=at)


def require_workspace(known: Iterable[str], name: str) -> None:
    """Raise UnknownAccount unless there is such a workspace."""
    if name not in known:
        raise unknown_workspace(name)


def require_other_admin(members: Iterable[Member], leaving: str) -> None:
    """Raise LastAdmin when nobody else manages the workspace that somebody's role is taken in."""
    members = list(members)
    admins = [member.name for member in members if member.role is Role.ADMIN]
    if admins == [leaving]:
        raise LastAdmin(
            f"member {leaving}: is the last admin of workspace {members[0].workspace}, allowed: make another first"
        )


def unknown_workspace(name: str) -> UnknownAccount:
    """Return the error for a workspace that is not there."""
    return UnknownAccount(f"workspace {name}: not found")


def unknown_member(workspace: str, name: str) -> UnknownAccount:
    """Return the error for somebody who is not there."""
    return UnknownAccount(f"workspace {workspace}: member {name}: not found")


def unknown_token(token_id: str) -> UnknownAccount:
    """Return the error for a token that is not there."""
    return UnknownAccount(f"token {token_id}: not found")
