"""What REST answers with about people, as values: see ``nas.answers``."""

from dataclasses import dataclass, field

from nas.accounts import Member, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberList:
    """The members of a workspace by name."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPage:
    """A page of tokens."""

    tokens: tuple[Token, ...]
    next_page_token: str | None
    """Ask with it for the next page; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken(Token):
    """A token with its secret, which is told once."""

    secret: str = field(repr=False)
