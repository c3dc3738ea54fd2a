"""People in memory: the reference that others are held to."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from threading import RLock

from nas.accounts import DEFAULT_WORKSPACE, Member, Role, Token
from nas.storage.accounts import (
    Credentials,
    require_other_admin,
    require_workspace,
    unknown_member,
    unknown_token,
    without,
)


class InMemoryAccounts:
    """An AccountStore that lives as long as its process."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._members: dict[str, dict[str, Member]] = {DEFAULT_WORKSPACE: {}}
        self._tokens: dict[str, tuple[Token, str]] = {}
        """Tokens and their digests by id."""

    def has_tokens(self) -> bool:
        """See AccountStore."""
        return bool(self._tokens)

    def workspaces(self) -> list[str]:
        """See AccountStore."""
        with self._lock:
            return sorted(self._members)

    def add_workspace(self, name: str) -> None:
        """See AccountStore."""
        with self._lock:
            self._members.setdefault(name, {})

    def members(self, workspace: str) -> list[Member]:
        """See AccountStore."""
        with self._lock:
            require_workspace(self._members, workspace)
            return [member for _, member in sorted(self._members[workspace].items())]

    def put_member(self, member: Member) -> None:
        """See AccountStore."""
        with self._lock:
            members = self.members(member.workspace)
            if member.role is not Role.ADMIN:
                require_other_admin(members, member.name)
            self._members[member.workspace][member.name] = member

    def remove_member(self, workspace: str, name: str, at: datetime) -> None:
        """See AccountStore."""
        with self._lock:
            require_other_admin(self.members(workspace), name)
            if self._members[workspace].pop(name, None) is None:
                raise unknown_member(workspace, name)
            for token, _ in list(self._tokens.values()):
                if token.member == name and workspace in token.workspaces:
                    self._put(without(token, [workspace], at))

    def add_token(self, token: Token, digest: str) -> None:
        """See AccountStore."""
        with self._lock:
            for workspace in token.workspaces:
                require_workspace(self._members, workspace)
            self._tokens[token.id] = (token, digest)

    def tokens(
        self, workspaces: Collection[str] | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[Token]:
        """See AccountStore."""
        with self._lock:
            last = self.token(after) if after is not None else None
            tokens = sorted((token for token, _ in self._tokens.values()), key=_age, reverse=True)
        chosen = (
            token
            for token in tokens
            if (workspaces is None or set(workspaces) & set(token.workspaces))
            and (last is None or _age(token) < _age(last))
        )
        return list(chosen)[:limit]

    def token(self, token_id: str) -> Token:
        """See AccountStore."""
        with self._lock:
            if token_id not in self._tokens:
                raise unknown_token(token_id)
            return self._tokens[token_id][0]

    def credentials(self, token_id: str) -> Credentials | None:
        """See AccountStore."""
        with self._lock:
            if token_id not in self._tokens:
                return None
            token, digest = self._tokens[token_id]
            members = {name: self._members[name].get(token.member) for name in token.workspaces}
        roles = {name: member.role for name, member in members.items() if member}
        return Credentials(token=token, digest=digest, roles=roles)

    def revoke_token(self, token_id: str, at: datetime, workspaces: Collection[str] | None = None) -> Token:
        """See AccountStore."""
        with self._lock:
            return self._put(without(self.token(token_id), workspaces, at))

    def touch_token(self, token_id: str, at: datetime) -> None:
        """See AccountStore."""
        with self._lock:
            self._put(replace(self.token(token_id), last_used_at=at))

    def _put(self, token: Token) -> Token:
        self._tokens[token.id] = (token, self._tokens[token.id][1])
        return token


def _age(token: Token) -> tuple[datetime, str]:
    return token.created_at, token.id
