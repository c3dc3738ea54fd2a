"""What people do with workspaces, members and tokens: the use cases of REST and command line.

Each is asked by a principal, and refused where that may not; what a principal may not know of is not found.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from nas.accounts import (
    Action,
    Member,
    Principal,
    Role,
    Secret,
    Token,
    allowed,
    require_member_name,
    require_token_name,
    require_workspace_name,
    workspaces_for,
)
from nas.clock import Clock, utc_now
from nas.errors import Conflict, Forbidden, InvalidRequest, NotFound
from nas.storage.accounts import AccountStore, unknown_member, unknown_token, unknown_workspace

MAX_LIFETIME = timedelta(days=3650)


def require(principal: Principal, action: Action, workspace: str, unseen: NotFound) -> None:
    """Refuse what a principal may not do in a workspace; what it does not see at all is not found.

    Raises:
        Forbidden: It sees the workspace, and may not do that.
        NotFound: ``unseen``, as if there were no such thing.
    """
    if allowed(principal, action, workspace):
        return
    if not allowed(principal, Action.READ, workspace):
        raise unseen
    raise Forbidden(
        f"workspace {workspace}: found the role {principal.role_in(workspace)} of {principal.name}, which does not "
        f"allow to {action} there"
    )


class People:
    """The use cases."""

    def __init__(self, accounts: AccountStore, clock: Clock = utc_now) -> None:
        self._accounts = accounts
        self._clock = clock

    def workspaces(self, principal: Principal) -> list[str]:
        """Return the names of the workspaces that a principal sees, sorted."""
        return [name for name in self._accounts.workspaces() if allowed(principal, Action.READ, name)]

    def add_workspace(self, name: str) -> None:
        """Add a workspace, for whoever operates the service; one that is there stays as it is."""
        require_workspace_name(name)
        self._accounts.add_workspace(name)

    def members(self, principal: Principal, workspace: str) -> list[Member]:
        """Return the members of a workspace by name."""
        require(principal, Action.READ, workspace, unknown_workspace(workspace))
        return self._accounts.members(workspace)

    def put_member(self, principal: Principal, member: Member) -> Member:
        """Give somebody a role in a workspace.

        Raises:
            InvalidRequest: That is no name.
            LastAdmin: It would leave nobody who manages the workspace.
        """
        require(principal, Action.MANAGE, member.workspace, unknown_workspace(member.workspace))
        require_member_name(member.name)
        self._accounts.put_member(member)
        return member

    def remove_member(self, principal: Principal, workspace: str, name: str) -> None:
        """Take somebody and their tokens out of a workspace, also for whoever bears that name there later.

        Raises:
            LastAdmin: It would leave nobody who manages the workspace.
        """
        require(principal, Action.MANAGE, workspace, unknown_workspace(workspace))
        self._accounts.remove_member(workspace, name, self._clock())

    def create_token(
        self,
        principal: Principal,
        member: str,
        workspaces: Sequence[str],
        *,
        name: str = "",
        lifetime: timedelta | None = None,
    ) -> tuple[Token, Secret]:
        """Make a token for a member of workspaces; the secret is told here and never again.

        Raises:
            InvalidRequest: A name or a lifetime that none can have.
            UnknownAccount: A workspace that is not there, or that the person is no member of.
        """
        if lifetime is not None and not timedelta(0) < lifetime <= MAX_LIFETIME:
            raise InvalidRequest("expires", f"found {lifetime}, allowed: up to {MAX_LIFETIME.days} days")
        if not workspaces:
            raise InvalidRequest("workspaces", "found none, allowed: one at least")
        require_token_name(name)
        for workspace in workspaces:
            require(principal, Action.MANAGE, workspace, unknown_workspace(workspace))
            if member not in {each.name for each in self._accounts.members(workspace)}:
                raise unknown_member(workspace, member)
        secret, now = Secret.new(), self._clock()
        token = Token(
            id=secret.token_id,
            member=member,
            workspaces=tuple(sorted(set(workspaces))),
            name=name,
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
        )
        self._accounts.add_token(token, secret.digest)
        return token, secret

    def tokens(self, principal: Principal, *, after: str | None = None, limit: int = 100) -> list[Token]:
        """Return the tokens of the workspaces that a principal manages, newest first, after the one given.

        Each tells only of workspaces that the principal sees.
        """
        if after is not None:
            self._managed(principal, after)
        managed = None if principal.is_local else workspaces_for(principal, Action.MANAGE)
        return [_seen(each, principal) for each in self._accounts.tokens(managed, after=after, limit=limit)]

    def revoke_token(self, principal: Principal, token_id: str) -> Token:
        """End a token at once, for its sessions too, in the workspaces that a principal manages.

        Returns:
            The token as the principal sees it by then; where it is revoked, it held in no others.
        """
        managed = self._managed(principal, token_id)
        return _seen(self._accounts.revoke_token(token_id, self._clock(), managed), principal)

    def require_accounts(self) -> None:
        """Raise Conflict unless there are accounts: the first token is made by who holds the database."""
        if not self._accounts.has_tokens():
            raise Conflict(
                "accounts: there are none; make the first with: nas admin token create NAME --role admin"
            )

    def has_admin(self) -> bool:
        """Return whether anybody can manage anything: whether a token holds that is an admin's."""
        now, after = self._clock(), None
        while page := self._accounts.tokens(after=after):
            for token in page:
                found = None if token.ended(now) else self._accounts.credentials(token.id)
                if found and Role.ADMIN in found.roles.values():
                    return True
            after = page[-1].id
        return False

    def _managed(self, principal: Principal, token_id: str) -> list[str]:
        """Return where a principal manages a token; one that it manages nowhere is refused as if it were not there."""
        token = self._accounts.token(token_id)
        managed = [name for name in token.workspaces if allowed(principal, Action.MANAGE, name)]
        if not managed:
            raise unknown_token(token_id)
        return managed


def _seen(token: Token, principal: Principal) -> Token:
    seen = tuple(name for name in token.workspaces if allowed(principal, Action.READ, name))
    return replace(token, workspaces=seen)
