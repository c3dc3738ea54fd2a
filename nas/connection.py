"""A connection to a search server: requests are sent again where that may help, errors carry the problem.

Knows media types and what refusals look like; no search. Every request may be sent twice: those that make a search
carry a key by which the server knows them again, and an order that was given already changes nothing. Of people, a
token that is one too many is listed, to be revoked, and a member who was taken out is not found.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from nas.errors import SearchError

TIMEOUT_SECONDS = 60.0
"""A server may have to ask the hub before it answers, which it does for half as long."""
RETRY_SECONDS = 20.0
"""After this long no request is sent again: whoever waits is told why."""
MAX_RETRIES = 3
"""Of a request whose connection was lost, or whose server could not serve for the moment."""
MAX_PAUSE_SECONDS = 30.0
"""Of what a server asks to wait before the next try."""
JSON = "application/json"
MEDIA_TYPES = (
    "application/jsonl", "application/openmetrics-text", "application/x-ndjson", "application/x-tar", "text/csv",
    "text/event-stream", "text/plain",
)  # fmt: skip
"""What a search server answers with, where it does not answer with JSON."""


class ClientError(SearchError):
    """Raised when the server refuses, fails or cannot be reached."""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        problems: tuple[tuple[str, str], ...] = (),
        pause: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        """HTTP status; None when there was no answer."""
        self.code = code
        """The stable code of the problem."""
        self.problems = problems
        """Pairs of field and reason."""
        self.pause = pause
        """Seconds after which the same request may succeed; None when it would not."""


class ServerAbsent(ClientError):
    """Raised when nothing answers at the address."""


class Connection:
    """To one server; raises ClientError throughout.

    ``timeout_seconds`` bounds each try of a request, ``retry_seconds`` how long it is tried again.
    """

    def __init__(
        self,
        server_url: str,
        token: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float | None = None,
    ) -> None:
        self._url = server_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        headers = {"Authorization": f"Bearer {_sendable(token)}"} if token else None
        try:
            # The server is near: proxies that the environment names for the web are not for it.
            self._http = httpx.Client(
                base_url=f"{self._url}/api/v1", timeout=timeout_seconds, trust_env=False, headers=headers
            )
        except httpx.InvalidURL as error:
            raise ClientError(f"server: found {server_url!r}, allowed: an address ({error})") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, again if need be, and return the JSON of its answer; without any, nothing."""
        response = self._answer(method, path, arguments, (JSON,))
        content: dict[str, Any] = {} if response.status_code == httpx.codes.NO_CONTENT else response.json()
        return content

    def ask_server(self, path: str) -> httpx.Response:
        """Return what the server answers beside its interface, as at ``/healthz``."""
        return self._answer("GET", f"{self._url}{path}", {}, (JSON, *MEDIA_TYPES))

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        silence_seconds: float = TIMEOUT_SECONDS,
        allowed: tuple[str, ...] = MEDIA_TYPES,
    ) -> Iterator[httpx.Response]:
        """Give an answer while it arrives; it is broken off after so long without a byte."""
        timeout = httpx.Timeout(self._timeout_seconds, read=silence_seconds)
        with (
            self._named_errors(),
            self._http.stream("GET", path, params=params, headers=headers, timeout=timeout) as response,
        ):
            _check(response, allowed)
            yield response

    def _answer(
        self, method: str, path: str, arguments: dict[str, Any], allowed: tuple[str, ...]
    ) -> httpx.Response:
        """Send a request, again if need be."""
        num_tries, begun = 0, time.monotonic()
        while True:
            num_tries += 1
            try:
                with self._named_errors():
                    response = self._http.request(method, path, **arguments)
                _check(response, allowed)
                return response
            except ClientError as error:
                # A server that was never there is told at once; one that was may be starting again.
                is_restarting = isinstance(error, ServerAbsent) and num_tries > 1
                may_pass = error.pause is not None or is_restarting
                pause = max(error.pause or 0.0, num_tries / 2)
                is_late = time.monotonic() + pause > begun + self._retry_seconds
                if not may_pass or is_late or num_tries > MAX_RETRIES:
                    raise
                time.sleep(pause)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise ServerAbsent(
                f"server: nothing answers at {self._url}; start it with: nas serve (NAS_SERVER_URL or "
                "--server names another)"
            ) from error
        except httpx.TransportError as error:
            raise ClientError(
                f"server: {self._url}: {str(error) or type(error).__name__}", pause=0.0
            ) from error


def _sendable(token: str) -> str:
    """Return a token that a header can hold; one that it cannot is not repeated."""
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise ClientError("NAS_TOKEN: found characters that no token has, allowed: one that begins with nas_")
    return token


def _check(response: httpx.Response, allowed: tuple[str, ...]) -> None:
    """Raise what a refusal says, in the words of its problem if it is one."""
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if response.is_success and (media_type in allowed or response.status_code == httpx.codes.NO_CONTENT):
        return
    response.read()
    pause = _pause(response) if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else None
    if media_type == "application/problem+json":
        problem = response.json()
        is_unknown = response.status_code == httpx.codes.UNAUTHORIZED
        raise ClientError(
            f"NAS_TOKEN: the server wants a token that holds: {problem['detail']}"
            if is_unknown
            else problem["detail"],
            status=response.status_code,
            code=problem["code"],
            problems=tuple((each["field"], each["reason"]) for each in problem["errors"]),
            pause=pause,
        )
    raise ClientError(
        f"server: answered {response.status_code} {response.reason_phrase}; is it a search server?",
        status=response.status_code,
        pause=pause,
    )


def _pause(response: httpx.Response) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), MAX_PAUSE_SECONDS) if asked.isdecimal() else 0.0
