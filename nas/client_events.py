"""The client's calls that last: what happens, followed over lost connections, and the winner's files."""

import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from minitron.files import ChunkStream
from nas.answers import FoundSearch
from nas.client_calls import Calls, answered
from nas.connection import ClientError
from nas.parameters import EventCursor, SearchId
from nas.search import Event

SILENCE_SECONDS = 60.0
"""A stream that says nothing for this long is broken: the server sends a comment every 15 seconds."""
MAX_RECONNECTS = 5
PAUSE_SECONDS = 0.5
"""Before a stream that its server ended is asked for again."""


class StreamCalls(Calls):
    """Follow one search or all, and take the winner home."""

    def stream_events(
        self, search_id: SearchId, *, after: EventCursor = 0, last_event_id: int | None = None
    ) -> Iterator[Event]:
        """Yield what happened and happens, until the search is final; goes on over lost connections.

        ``last_event_id``, the sequence seen last, wins over ``after``.
        """

        def has_ended() -> bool:
            # A stream ends with its search, or with its server; asked before the next one begins.
            return self._ask(FoundSearch, "GET", f"/searches/{search_id}").state.is_final

        return self._follow(f"/searches/{search_id}/events", after, last_event_id, has_ended)

    def stream_all_events(
        self, *, after: EventCursor = 0, last_event_id: int | None = None
    ) -> Iterator[Event]:
        """Yield what happened and happens to all searches, for ever; goes on over lost connections."""
        return self._follow("/events", after, last_event_id, lambda: False)

    def download_winner(self, search_id: SearchId, directory: Path) -> Path:
        """Write the winner's checkpoint to a directory that does not exist yet, whole or not at all; return it."""
        try:
            if directory.exists():
                raise ClientError(f"output: {directory}: exists, allowed: a directory that does not")
            directory.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
            try:
                with self._connection.stream(f"/searches/{search_id}/winner") as response:
                    _unpack(ChunkStream(response.iter_bytes()), partial)
                partial.chmod(0o755)
                partial.rename(directory)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise ClientError(f"output: {directory}: cannot be made: {error}") from error
        except tarfile.TarError as error:
            raise ClientError(f"server: sent no whole archive: {error}") from error
        return directory

    def _follow(
        self, path: str, after: EventCursor, seen: int | None, has_ended: Callable[[], bool]
    ) -> Iterator[Event]:
        num_lost, was_final = 0, False
        while True:
            try:
                for event in self._stream(path, after, seen):
                    seen, num_lost = event.sequence, 0
                    yield event
                if was_final:
                    return
                was_final = has_ended()
                if not was_final:
                    time.sleep(PAUSE_SECONDS)
            except ClientError as error:
                num_lost += 1
                is_refused = error.status is not None and error.pause is None
                if is_refused or num_lost > MAX_RECONNECTS:
                    raise
                time.sleep(max(error.pause or 0.0, num_lost / 2))

    def _stream(self, path: str, after: EventCursor, seen: int | None) -> Iterator[Event]:
        headers = {} if seen is None else {"Last-Event-ID": str(seen)}
        with self._connection.stream(
            path, params={"after": after}, headers=headers, silence_seconds=SILENCE_SECONDS
        ) as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield answered(Event, json.loads(line.removeprefix("data:")))


def _unpack(body: io.RawIOBase, directory: Path) -> None:
    """Unpack an archive into ``directory``, without the one folder that all of it lies in."""
    with tarfile.open(fileobj=io.BufferedReader(body), mode="r|") as archive:
        for member in archive:
            name = "/".join(PurePosixPath(member.name).parts[1:])
            archive.extract(member.replace(name=name, deep=False), directory, filter="data")
