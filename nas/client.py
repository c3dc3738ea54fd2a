"""The REST interface as Python: typed calls, values of the domain, errors that carry the problem.

Knows addresses and media types, no database. What a server of a later version adds is ignored.
"""

import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Self

import httpx

from minitron.files import ChunkStream
from nas.errors import SearchError
from nas.frontier import Comparison
from nas.search import Event, SearchSpec
from nas.service import SearchView, TrialRecord
from nas.spec import load, spec_to_json

TIMEOUT_SECONDS = 30.0
SILENCE_SECONDS = 60.0
"""A stream that says nothing for this long is broken: the server sends a comment every 15 seconds."""
MAX_RECONNECTS = 5
MEDIA_TYPES = ("application/json", "application/x-tar", "text/event-stream")
"""What a search server answers with."""


class ClientError(SearchError):
    """Raised when the server refuses, fails or cannot be reached."""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        problems: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        """HTTP status; None when there was no answer."""
        self.code = code
        """The stable code of the problem."""
        self.problems = problems
        """Pairs of field and reason."""


class Client:
    """One server. Use as a context manager, or call ``close``; raises ClientError throughout."""

    def __init__(self, server_url: str) -> None:
        self._url = server_url.rstrip("/")
        try:
            # The server is near: proxies that the environment names for the web are not for it.
            self._http = httpx.Client(
                base_url=f"{self._url}/api/v1", timeout=TIMEOUT_SECONDS, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise ClientError(f"server: found {server_url!r}, allowed: an address ({error})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create(self, spec: SearchSpec) -> SearchView:
        """Submit a search; local paths in the spec are the server's to find."""
        return _view(self._call("POST", "/searches", json=spec_to_json(spec)))

    def list_searches(self, *, limit: int = 50) -> list[SearchView]:
        """Return searches, newest first."""
        views: list[SearchView] = []
        following: str | None = "0"
        while following is not None and len(views) < limit:
            page = self._call(
                "GET", "/searches", params={"page_size": limit - len(views), "page_token": following}
            )
            views += [_view(each) for each in page["searches"]]
            following = page["next_page_token"]
        return views

    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""
        return _view(self._call("GET", f"/searches/{search_id}"))

    def comparison(self, search_id: str) -> Comparison | None:
        """Return how the best trial compares with its baselines so far."""
        found = self._call("GET", f"/searches/{search_id}")["comparison"]
        return load(Comparison, found) if found else None

    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number, with their points and attempts."""
        found = self._call("GET", f"/searches/{search_id}/trials")["trials"]
        return [load(TrialRecord, {**each, "trial": each}) for each in found]

    def cancel(self, search_id: str) -> SearchView:
        """Ask for the end of a search."""
        return _view(self._call("POST", f"/searches/{search_id}:cancel"))

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
                if error.status is not None or num_lost > MAX_RECONNECTS:
                    raise
                time.sleep(num_lost / 2)

    def download(self, search_id: str, directory: Path) -> None:
        """Write the winner's checkpoint to a directory that does not exist yet; whole or not at all."""
        if directory.exists():
            raise ClientError(f"output: {directory}: exists, allowed: a directory that does not")
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            with self._named_errors(), self._http.stream("GET", f"/searches/{search_id}/winner") as response:
                _check(response)
                _unpack(ChunkStream(response.iter_bytes()), partial)
            partial.chmod(0o755)
            partial.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        with self._named_errors():
            response = self._http.request(method, path, **arguments)
        _check(response)
        content: dict[str, Any] = response.json()
        return content

    def _stream(self, search_id: str, after: int) -> Iterator[Event]:
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        headers = {"Last-Event-ID": str(after)}
        address = f"/searches/{search_id}/events"
        with (
            self._named_errors(),
            self._http.stream("GET", address, headers=headers, timeout=timeout) as response,
        ):
            _check(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield load(Event, json.loads(line.removeprefix("data:")))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> ClientError:
        if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
            return ClientError(
                f"server: nothing answers at {self._url}; start it with: nas serve (NAS_SERVER_URL or "
                "--server names another)"
            )
        return ClientError(f"server: {self._url}: {str(error) or type(error).__name__}")


def _view(data: Mapping[str, Any]) -> SearchView:
    return load(SearchView, {**data, "search": data})


def _check(response: httpx.Response) -> None:
    """Raise what a refusal says, in the words of its problem if it is one."""
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if response.is_success and media_type in MEDIA_TYPES:
        return
    response.read()
    if media_type == "application/problem+json":
        problem = response.json()
        raise ClientError(
            problem["detail"],
            status=response.status_code,
            code=problem["code"],
            problems=tuple((each["field"], each["reason"]) for each in problem["errors"]),
        )
    raise ClientError(
        f"server: answered {response.status_code} {response.reason_phrase}; is it a search server?",
        status=response.status_code,
    )


def _unpack(body: io.RawIOBase, directory: Path) -> None:
    """Unpack an archive into ``directory``, without the one folder that all of it lies in."""
    with tarfile.open(fileobj=io.BufferedReader(body), mode="r|") as archive:
        for member in archive:
            name = "/".join(PurePosixPath(member.name).parts[1:])
            archive.extract(member.replace(name=name, deep=False), directory, filter="data")
