"""People of two workspaces, with a token each, in the store of a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from nas.accounts import LOCAL, Member, Role
from nas.people import People
from nas.storage.store import SearchStore

ROLES = {
    "vic": ("default", Role.VIEWER),
    "con": ("default", Role.CONTRIBUTOR),
    "ada": ("default", Role.ADMIN),
    "eve": ("vision", Role.CONTRIBUTOR),
    "zed": ("vision", Role.ADMIN),
}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Secrets by the name of who holds them; ``old`` has expired and ``off`` was revoked."""

    people: People
    secrets: Mapping[str, str]
    ids: Mapping[str, str]

    def bearer(self, name: str) -> dict[str, str]:
        """Return the header by which somebody is known."""
        return {"Authorization": f"Bearer {self.secrets[name]}"}

    def client(self, address: str, name: str) -> httpx.Client:
        """Return a client of a server that shows somebody's token."""
        return httpx.Client(base_url=address, headers=self.bearer(name), timeout=30)


def crowd(store: SearchStore) -> Crowd:
    """Let them in."""
    people = People(store.accounts)
    people.add_workspace("vision")
    secrets, ids = {}, {}

    def let_in(name: str, by: People, member: str, workspace: str) -> None:
        made, secret = by.create_token(LOCAL, member, [workspace], name="test", lifetime=timedelta(days=1))
        secrets[name], ids[name] = secret.text, made.id

    for name, (workspace, role) in ROLES.items():
        people.put_member(LOCAL, Member(workspace=workspace, name=name, role=role))
        let_in(name, people, name, workspace)
    let_in("old", People(store.accounts, lambda: LONG_AGO), "ada", "default")
    let_in("off", people, "ada", "default")
    people.revoke_token(LOCAL, ids["off"])
    return Crowd(people=people, secrets=secrets, ids=ids)
