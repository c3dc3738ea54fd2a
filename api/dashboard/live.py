"""Keeps a page fresh: it is read again when something happened, at most once a second, and says how fresh it is.

Knows nothing of what a page shows. What is shown stays where it is when the database or the connection is lost, and is
marked as of when it was read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from nicegui import Client, background_tasks, ui

from api.tailer import Tailer
from nas.clock import utc_now
from nas.errors import StoreUnavailable

PAUSE_SECONDS = 1.0
"""Between two readings, however much happens."""
RETRY_SECONDS = 2.0
REWORD_SECONDS = 30.0
"""Between two wordings of how long ago things were; nothing is read for it."""
CONNECT_SECONDS = 60.0
"""How long a page may take to be there before nobody is thought to look at it."""


class Live:
    """The line that says how fresh a page is, and what keeps it so; made where the line shall stand.

    Args:
        tailer: Tells that something happened.
        refresh: Reads the page again and shows it; raises StoreUnavailable.
        search_id: Only what happens to this search; None: to any.
        pause: Seconds between two readings, however much happens.
    """

    def __init__(
        self,
        tailer: Tailer,
        refresh: Callable[[], Awaitable[None]],
        *,
        search_id: str | None = None,
        pause: Callable[[], float] = lambda: PAUSE_SECONDS,
    ) -> None:
        self._tailer = tailer
        self._refresh = refresh
        self._search_id = search_id
        self._pause = pause
        self._read_at: datetime | None = None
        self._line = ui.label().classes("fresh soft").props("role=status")
        client = ui.context.client
        task = background_tasks.create(self._follow(client), name="live page", context=client)
        client.on_delete(task.cancel)

    async def read(self) -> None:
        """Read the page now, and say so; what hinders it is told in the line and nowhere else."""
        try:
            await self._refresh()
        except StoreUnavailable as error:
            self._tell_lost(error)
        else:
            self._read_at = utc_now()
            self._line.text = f"Live; as of {_time(self._read_at)}"
            self._line.classes(remove="stale")

    async def _follow(self, client: Client) -> None:
        """Read again what changed, while somebody looks at it."""
        try:
            await client.connected(CONNECT_SECONDS)
        except TimeoutError:
            return
        while True:
            try:
                async with self._tailer.watching(self._search_id) as watch:
                    await self.read()
                    while await watch.changed():
                        await self.read()
                        await asyncio.sleep(self._pause())
            except StoreUnavailable as error:
                self._tell_lost(error)
            await asyncio.sleep(RETRY_SECONDS)

    def _tell_lost(self, error: StoreUnavailable) -> None:
        shown = f"shown as of {_time(self._read_at)}" if self._read_at else "nothing was read yet"
        self._line.text = f"The database does not answer; {shown}. {error}"
        self._line.classes(add="stale")


def _time(at: datetime) -> str:
    return f"{at:%H:%M:%S} UTC"
