"""Who may do what: people with roles in workspaces, and the tokens that they show. Knows no store and no HTTP.

A token is worth what its member's role is worth at the moment it is shown, in the workspaces that it was made for and
in no other: whoever manages one workspace can hand out nothing of another.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from nas.errors import InvalidRequest, Unauthenticated

DEFAULT_WORKSPACE = "default"
"""Always there; searches that were submitted before there were others belong to it."""
LOCAL_NAME = "local"
MAX_TOKEN_NAME_LENGTH = 100
TOKEN_PREFIX = "nas_"  # noqa: S105 - what tokens begin with, so that people and scanners recognise them
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
"""Of people: login names and mail addresses; they stand in addresses as they are."""
WORKSPACE_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"
TOKEN_ID_PATTERN = r"^[2-9a-z]{10}$"  # noqa: S105
_ID_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
_SECRET = re.compile(rf"{TOKEN_PREFIX}([2-9a-z]{{10}})_([A-Za-z0-9_-]{{43}})")


class Role(StrEnum):
    """What a member may do in a workspace; each may what those before it may."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Its place among them; the most powerful has the highest."""
        return list(Role).index(self)


class Action(StrEnum):
    """What can be done in a workspace."""

    READ = "read"
    """See its searches and all that belongs to them."""
    CHANGE = "change"
    """Submit, edit, steer and end searches."""
    MANAGE = "manage"
    """Say who its members are, and make and revoke their tokens."""


LEAST_ROLES: Mapping[Action, Role] = {
    Action.READ: Role.VIEWER,
    Action.CHANGE: Role.CONTRIBUTOR,
    Action.MANAGE: Role.ADMIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person's role in a workspace."""

    workspace: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of an API token; its secret is not among it."""

    id: str
    member: str
    workspaces: tuple[str, ...]
    """Where it holds, as far as its member has a role there."""
    name: str
    """What it is for, in its owner's words."""
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Roughly: no use is written down within some minutes of another."""

    def ended(self, at: datetime) -> str | None:
        """Return how it has ended by a time, or None while it is good."""
        if self.revoked_at is not None:
            return f"was revoked on {self.revoked_at:%Y-%m-%d}"
        if self.expires_at is not None and self.expires_at <= at:
            return f"expired on {self.expires_at:%Y-%m-%d}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks."""

    name: str
    roles: Mapping[str, Role] = field(default_factory=dict, hash=False)
    """By workspace."""
    token_id: str | None = None
    """The token that was shown; None for whoever needs none."""
    is_local: bool = False
    """Whether this is whoever sits at a machine that serves nobody else, and may everything."""

    def role_in(self, workspace: str) -> Role | None:
        """Return the role in a workspace, or None outside of it."""
        return Role.ADMIN if self.is_local else self.roles.get(workspace)


LOCAL = Principal(name=LOCAL_NAME, is_local=True)


def allowed(principal: Principal, action: Action, workspace: str) -> bool:
    """Return whether a principal may do something in a workspace: the one place where that is decided."""
    role = principal.role_in(workspace)
    return role is not None and role.rank >= LEAST_ROLES[action].rank


def workspaces_for(principal: Principal, action: Action) -> tuple[str, ...]:
    """Return the workspaces in which a principal with roles may do something, sorted."""
    return tuple(sorted(name for name in principal.roles if allowed(principal, action, name)))


def chosen_workspace(principal: Principal, asked: str | None) -> str:
    """Return the workspace of a search that is to be submitted: the one asked for, or the only one, or ``default``.

    Raises:
        InvalidRequest: It is none of the principal's, or there are several and none is asked for.
    """
    if principal.is_local:
        return DEFAULT_WORKSPACE if asked is None else asked
    own = workspaces_for(principal, Action.READ)
    if asked is None and len(own) == 1:
        return own[0]
    if (asked or DEFAULT_WORKSPACE) in own:
        return asked or DEFAULT_WORKSPACE
    raise InvalidRequest("workspace", f"found {asked or 'none'}, allowed: {', '.join(own) or 'none'}")


def require_names(pattern: str, field_name: str, names: Iterable[str], form: str) -> None:
    """Raise InvalidRequest for a name that is not of the form of a field."""
    for name in names:
        if not re.fullmatch(pattern, name):
            raise InvalidRequest(field_name, f"found {name!r}, allowed: {form}")


def require_member_name(name: str) -> None:
    """Raise InvalidRequest for what is no name of a person."""
    require_names(NAME_PATTERN, "name", [name], "letters, digits and . _ @ + -, 64 at most")


def require_workspace_name(name: str) -> None:
    """Raise InvalidRequest for what is no name of a workspace."""
    require_names(WORKSPACE_PATTERN, "workspace", [name], "small letters, digits and -, 40 at most")


def require_token_name(name: str) -> None:
    """Raise InvalidRequest for what cannot be said of a token in one line."""
    if len(name) > MAX_TOKEN_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest("name", f"found {name[:40]!r}, allowed: one line of {MAX_TOKEN_NAME_LENGTH}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A token as its holder has it: shown once, never stored."""

    token_id: str
    text: str = field(repr=False)

    @classmethod
    def new(cls) -> "Secret":
        """Return a new one, of 256 random bits."""
        token_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(10))
        return cls(token_id=token_id, text=f"{TOKEN_PREFIX}{token_id}_{secrets.token_urlsafe(32)}")

    @classmethod
    def parse(cls, text: str) -> "Secret":
        """Return the token that a text is.

        Raises:
            Unauthenticated: It is none; the text, which may be one with a slip, is not repeated.
        """
        match = _SECRET.fullmatch(text.strip())
        if match is None and text.strip().startswith(TOKEN_PREFIX):
            raise Unauthenticated(
                "token: found a part of one or one with a slip, allowed: a whole one, as it was shown"
            )
        if match is None:
            raise Unauthenticated("token: found what is no token, allowed: one that begins with nas_")
        return cls(token_id=match[1], text=match[0])

    @property
    def digest(self) -> str:
        """What is stored of it. Nobody guesses 256 random bits, however fast the hash is, so it need not be slow."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Return whether a stored digest is this token's, in a time that does not tell how much of it is."""
        return hmac.compare_digest(self.digest, digest)
