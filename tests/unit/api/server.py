"""The server as users start it: a process of its own on a database of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.clock import utc_now
from nas.settings import Settings
from nas.storage.sql import SqlStore
from tests.fakes import ManualClock
from tests.unit.api.seeded import Played, fill


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server whose store holds a search in every state."""

    address: str
    home: Path
    store: SqlStore
    artifact_root: Path
    played: dict[str, Played]

    def id(self, name: str) -> str:
        """Return the id of a search by its name."""
        return self.played[name].id


@contextmanager
def running(
    home: Path, *, filled: bool = True, clock: ManualClock | None = None, **changes: Any
) -> Iterator[Server]:
    """Fill a store and serve it; no searches are run. ``changes`` are of the settings.

    With a ``clock``, things happened when they are played to have, not all just now.
    """
    settings = Settings(home=home, **changes)
    store = SqlStore(settings.database_url, clock or utc_now)
    store.upgrade()
    played = fill(store, settings.artifact_root, datetime.now(UTC), clock) if filled else {}
    command = (sys.executable, "-m", "api", "--port", "0", "--page-only")
    environment = os.environ | settings.environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().split()[-1]
            yield Server(
                address=address, home=home, store=store, artifact_root=settings.artifact_root, played=played
            )
        finally:
            process.terminate()
            store.close()
