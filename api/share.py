"""A link by which somebody may look, as long as this server runs: a viewer and a token of its own, made for it."""

import logging
from datetime import timedelta
from typing import Self

from nas.accounts import LOCAL, Member, Role, Secret
from nas.errors import SearchError
from nas.people import People

logger = logging.getLogger(__name__)

LIFETIME = timedelta(days=7)
"""The link ends then at the latest: also when this process is killed and cannot end it."""
LABEL = "nas serve --share"


class Share:
    """The link of one server."""

    def __init__(self, people: People, member: Member, secret: Secret) -> None:
        self._people = people
        self._member = member
        self.secret = secret

    @classmethod
    def begin(cls, people: People, workspace: str) -> Self:
        """Let a viewer into a workspace.

        Raises:
            Conflict: There are no accounts, so whoever comes may do everything, or nobody else comes at all.
            UnknownAccount: There is no such workspace.
        """
        people.require_accounts()
        member = Member(workspace=workspace, name=f"share-{Secret.new().token_id}", role=Role.VIEWER)
        people.put_member(LOCAL, member)
        _, secret = people.create_token(LOCAL, member.name, [workspace], name=LABEL, lifetime=LIFETIME)
        return cls(people, member, secret)

    def end(self) -> None:
        """Let nobody in by it any more."""
        try:
            self._people.revoke_token(LOCAL, self.secret.token_id)
            self._people.remove_member(LOCAL, self._member.workspace, self._member.name)
        except SearchError as error:
            logger.warning(
                "the shared link is not ended, it holds for %s at most: %s: nas admin token revoke %s",
                LIFETIME,
                error,
                self.secret.token_id,
            )
