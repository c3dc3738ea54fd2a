"""How far MLflow has been told of the store's events, and which of its runs and versions show what.

The event log is the outbox: a cursor into it says what was sent. Cursor and runs are stored beside the
searches, so that nothing needs MLflow to know them. Knows no MLflow; the projector in ``workers`` does.
"""

import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """The run that shows an attempt at a trial, or without numbers a whole search."""

    search_id: str
    trial_number: int | None = None
    attempt_number: int | None = None
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """The version of a registered model that a winner is."""

    search_id: str
    trial_number: int
    name: str
    """Of the model."""
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """One experiment of one MLflow."""

    id: str
    """As the experiment says it, so that an MLflow that was emptied is another."""
    target: str
    """Where it was last reached; see ``target_of``."""
    experiment_id: str
    cursor: int
    """The sequence of the last event that was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was not sent yet."""

    num_events: int
    since: datetime | None
    """When the oldest of them happened; None where there is none."""


class OutboxStore(Protocol):
    """Outboxes beside searches; every method is one transaction."""

    def open(
        self, outbox_id: str, *, target: str, experiment_id: str, owner: str, at: datetime, until: datetime
    ) -> Outbox | None:
        """Take or renew the turn to send, from the first event where there is no such outbox yet.

        None while another's turn lasts. Another outbox that was reached at the same target is forgotten, with
        its runs. Turns spare work and no more: whoever sends, sends the same.
        """
        ...

    def advance(
        self,
        outbox: Outbox,
        cursor: int,
        runs: Sequence[TrackedRun],
        versions: Sequence[RegisteredVersion] = (),
        *,
        owner: str,
        until: datetime,
    ) -> Outbox | None:
        """Record that all up to ``cursor`` was sent, by which runs and versions it is shown; renew the turn.

        None, and nothing is recorded, where the outbox is gone or its cursor is no longer ``outbox``'s.
        """
        ...

    def release(self, outbox_id: str, owner: str) -> None:
        """End one's turn; ignored where it is another's."""
        ...

    def rewind(self, target: str) -> None:
        """Have all events sent again."""
        ...

    def at(self, target: str) -> Outbox | None:
        """Return the outbox that was last reached at a target."""
        ...

    def runs(self, outbox_id: str, search_ids: Collection[str], *, attempts: bool) -> list[TrackedRun]:
        """Return the runs of searches, with or without those of attempts."""
        ...

    def versions(self, outbox_id: str, search_id: str) -> list[RegisteredVersion]:
        """Return the versions of registered models that winners of a search are, the newest last."""
        ...

    def backlog(self, outbox: Outbox) -> Backlog:
        """Return what was not sent yet; costs the same however much that is."""
        ...


def target_of(tracking_uri: str) -> str:
    """Return what an MLflow is known by: a file together with its machine, a server without its password."""
    if tracking_uri.startswith(_SQLITE):
        return f"{socket.gethostname()}:{tracking_uri.removeprefix(_SQLITE)}"
    parts = urlsplit(tracking_uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
