"""The REST interface as Python: typed calls, values of the domain, errors that carry the problem.

Knows addresses, no database. What a server of a later version adds is ignored.
"""

import io
import json
import re
import shutil
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from minitron.files import ChunkStream
from nas.client_mlflow import MlflowCalls
from nas.connection import ClientError, Connection
from nas.edits import Edit, told
from nas.frontier import Comparison
from nas.listing import EVERY_SEARCH, SearchFilter, SearchOrder
from nas.logs import LogTail
from nas.search import Event, SearchSpec
from nas.spec import dump, load, spec_to_json
from nas.standing import SearchView, TrialRecord

SILENCE_SECONDS = 60.0
"""A stream that says nothing for this long is broken: the server sends a comment every 15 seconds."""
MAX_RECONNECTS = 5
TRIALS_PER_PAGE = 500


class Client(MlflowCalls):
    """One server. Use as a context manager, or call ``close``; raises ClientError throughout."""

    def __init__(self, server_url: str) -> None:
        self._connection = Connection(server_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def create(self, spec: SearchSpec, *, said: Edit | None = None, key: str | None = None) -> SearchView:
        """Submit a search, and say whose it is and its tags; local paths in the spec are the server's to find.

        With the same key the same spec is submitted once, whoever sends it again; by default each call
        has a key of its own, so that what it sends again after a lost connection is one search.
        """
        content = spec_to_json(spec)
        return _view(
            self._connection.call("POST", "/searches", json=content, params=_said(said), headers=_keyed(key))
        )

    def clone(
        self, search_id: str, patch: Mapping[str, Any], *, said: Edit | None = None, key: str | None = None
    ) -> SearchView:
        """Submit a search like another, its spec changed by a merge patch; the others as in ``create``."""
        headers = {"Content-Type": "application/merge-patch+json", **_keyed(key)}
        content = json.dumps(patch, default=str)
        return _view(
            self._connection.call(
                "POST", f"/searches/{search_id}:clone", content=content, params=_said(said), headers=headers
            )
        )

    def edit(self, search_id: str, edit: Edit, *, version: int | None = None) -> SearchView:
        """Say something of a search; of this version, if one is given, else whatever was said meanwhile."""
        headers = {"Content-Type": "application/merge-patch+json"}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        content = json.dumps(told(edit))
        return _view(
            self._connection.call("PATCH", f"/searches/{search_id}", content=content, headers=headers)
        )

    def list_searches(
        self,
        which: SearchFilter = EVERY_SEARCH,
        *,
        order: SearchOrder = SearchOrder.NEWEST,
        limit: int = 50,
    ) -> list[SearchView]:
        """Return searches in order."""
        asked = dump(which) | {"order_by": order.value}
        asked["state"], asked["tag"] = (
            asked.pop("states"),
            asked.pop("tags"),
        )  # each is a parameter of its own
        asked["archived"] = "any" if which.archived is None else which.archived
        parameters = {name: value for name, value in asked.items() if value is not None}
        views: list[SearchView] = []
        for page in self._pages("/searches", parameters, page_size=limit):
            views += [_view(each) for each in page["searches"]]
            if len(views) >= limit:
                break
        return views[:limit]

    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""
        return _view(self._connection.call("GET", f"/searches/{search_id}"))

    def comparison(self, search_id: str) -> Comparison | None:
        """Return how the best trial compares with its baselines so far."""
        found = self._connection.call("GET", f"/searches/{search_id}")["comparison"]
        return load(Comparison, found) if found else None

    def disk_bytes(self, search_id: str) -> int | None:
        """Return what the files of a search take on the server's side."""
        found: int | None = self._connection.call("GET", f"/searches/{search_id}").get("disk_bytes")
        return found

    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number, with their points and attempts."""
        pages = self._pages(f"/searches/{search_id}/trials", {}, page_size=TRIALS_PER_PAGE)
        return [load(TrialRecord, {**each, "trial": each}) for page in pages for each in page["trials"]]

    def log(self, search_id: str, *, num_lines: int = 100) -> LogTail:
        """Return the end of the log of a search's worker."""
        found = self._connection.call("GET", f"/searches/{search_id}/logs", params={"tail": num_lines})
        return load(LogTail, found)

    def cancel(self, search_id: str) -> SearchView:
        """Ask for the end of a search."""
        return _view(self._connection.call("POST", f"/searches/{search_id}:cancel"))

    def events(self, search_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield what happened and happens, until the search is final; goes on over lost connections."""
        num_lost, was_final = 0, False
        while True:
            try:
                for event in self._stream(search_id, after):
                    after, num_lost = event.sequence, 0
                    yield event
                if was_final:
                    return
                # A stream ends with its search, or with its server; asked before the next one begins.
                was_final = self.get(search_id).search.state.is_final
            except ClientError as error:
                num_lost += 1
                is_refused = error.status is not None and error.pause is None
                if is_refused or num_lost > MAX_RECONNECTS:
                    raise
                time.sleep(max(error.pause or 0.0, num_lost / 2))

    def download(self, search_id: str, directory: Path) -> None:
        """Write the winner's checkpoint to a directory that does not exist yet; whole or not at all."""
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

    def _pages(self, path: str, parameters: Mapping[str, Any], *, page_size: int) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list."""
        asked = {**parameters, "page_size": page_size}
        while True:
            page = self._connection.call("GET", path, params=asked)
            yield page
            if page["next_page_token"] is None:
                return
            asked["page_token"] = page["next_page_token"]

    def _stream(self, search_id: str, after: int) -> Iterator[Event]:
        headers = {"Last-Event-ID": str(after)}
        address = f"/searches/{search_id}/events"
        with self._connection.stream(address, headers=headers, silence_seconds=SILENCE_SECONDS) as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield load(Event, json.loads(line.removeprefix("data:")))


def _keyed(key: str | None) -> dict[str, str]:
    """Return the headers of a request that may be sent again."""
    if key is not None and not re.fullmatch("[!#-~]{1,255}", key):
        raise ClientError(f"key: found {key!r}, allowed: 1 to 255 ASCII characters, no space, no quotes")
    return {"Idempotency-Key": f'"{key or uuid.uuid4()}"'}


def _said(edit: Edit | None) -> dict[str, Any]:
    """Return the parameters of what is said of a search that is submitted."""
    edit = edit or Edit()
    parameters = {"owner": edit.owner, "tag": list(edit.tags) if edit.tags else None}
    return {name: value for name, value in parameters.items() if value is not None}


def _view(data: Mapping[str, Any]) -> SearchView:
    return load(SearchView, {**data, "search": data})


def _unpack(body: io.RawIOBase, directory: Path) -> None:
    """Unpack an archive into ``directory``, without the one folder that all of it lies in."""
    with tarfile.open(fileobj=io.BufferedReader(body), mode="r|") as archive:
        for member in archive:
            name = "/".join(PurePosixPath(member.name).parts[1:])
            archive.extract(member.replace(name=name, deep=False), directory, filter="data")
