"""Who asks: what a token or a session that is shown says, by what is stored at that moment. Knows no HTTP.

As long as no token was ever made there are no accounts, and whoever asks is ``local``.
"""

import logging
from datetime import timedelta

from nas.accounts import LOCAL, Principal, Secret
from nas.clock import Clock, utc_now
from nas.errors import StoreUnavailable, Unauthenticated
from nas.storage.accounts import AccountStore, Credentials

logger = logging.getLogger(__name__)

TOUCH_AFTER = timedelta(minutes=10)
"""No use of a token is written down sooner after another."""
MOST_REMEMBERED = 1000
UNKNOWN = "token: found one that is not known here, allowed: one that nas admin token list shows"


class Authentication:
    """Judges what is shown; safe to use from several threads."""

    def __init__(self, accounts: AccountStore, clock: Clock = utc_now) -> None:
        self._accounts = accounts
        self._clock = clock
        self._is_in_force: bool | None = None
        self._remembered: dict[str, Credentials] = {}

    def is_in_force(self, *, as_remembered: bool = False) -> bool:
        """Return whether there are accounts: whether a token was ever made.

        A database that does not answer changes nothing: it is as it was last.

        Args:
            as_remembered: Where it does not answer and never has, there are none.

        Raises:
            StoreUnavailable: It does not answer and never has.
        """
        if not self._is_in_force:
            try:
                self._is_in_force = self._accounts.has_tokens()
            except StoreUnavailable:
                if self._is_in_force is None and not as_remembered:
                    raise
        return bool(self._is_in_force)

    def of_secret(self, text: str, *, as_remembered: bool = False) -> Principal:
        """Return whose token a text is.

        Args:
            text: The token as its holder has it.
            as_remembered: While the database does not answer, go by what it said last.

        Raises:
            Unauthenticated: It is none, or does not hold.
        """
        secret = Secret.parse(text)
        found = self._credentials(secret.token_id, as_remembered=as_remembered)
        if found is None or not secret.matches(found.digest):
            raise Unauthenticated(UNKNOWN)
        return self._principal(found)

    def of_token(self, token_id: str) -> Principal:
        """Return who signed in by a token.

        Raises:
            Unauthenticated: It does not hold any more.
        """
        found = self._credentials(token_id, as_remembered=False)
        if found is None:
            raise Unauthenticated(UNKNOWN)
        return self._principal(found)

    def again(self, principal: Principal) -> Principal:
        """Return a principal as it is by now: its roles may have changed, and its token have ended.

        Raises:
            Unauthenticated: As ``of_token``; also once there are accounts, of whoever was local before.
        """
        if principal.token_id is not None:
            return self.of_token(principal.token_id)
        if self.is_in_force():
            raise Unauthenticated("token: found none, and there are accounts by now, allowed: one of them")
        return LOCAL

    def _credentials(self, token_id: str, *, as_remembered: bool) -> Credentials | None:
        try:
            found = self._accounts.credentials(token_id)
        except StoreUnavailable:
            if as_remembered and token_id in self._remembered:
                return self._remembered[token_id]
            raise
        if found is not None and (token_id in self._remembered or len(self._remembered) < MOST_REMEMBERED):
            self._remembered[token_id] = found
        return found

    def _principal(self, found: Credentials) -> Principal:
        token, now = found.token, self._clock()
        if how := token.ended(now):
            raise Unauthenticated(f"token: found {token.id}, which {how}, allowed: one that holds")
        if token.last_used_at is None or token.last_used_at + TOUCH_AFTER <= now:
            try:
                self._accounts.touch_token(token.id, now)
            except StoreUnavailable as error:
                logger.warning("the use of token %s is not written down: %s", token.id, error)
        return Principal(name=token.member, roles=found.roles, token_id=token.id)
