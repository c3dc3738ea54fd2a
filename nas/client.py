"""The REST interface as Python: typed calls, values of the domain, errors that carry the problem.

Each operation of the interface is a method of its name, with its parameters; a test holds the client to
the OpenAPI document. Knows addresses, no database. Fields that a server of a later version adds are ignored.

    from nas.client import Client

    with Client() as client:
        search = client.submit("search.yaml")
        search = client.wait(search.id)
        client.download_winner(search.id, Path("winner"))
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

from nas.admission import resolved
from nas.answers import FoundSearch, FoundTrial, Health
from nas.client_accounts import AccountCalls
from nas.client_calls import answered, pages
from nas.client_control import ControlCalls
from nas.client_events import StreamCalls
from nas.client_history import HistoryCalls
from nas.client_searches import SearchCalls
from nas.connection import TIMEOUT_SECONDS, ClientError, Connection, ServerAbsent
from nas.errors import SearchError
from nas.estimate import Estimate
from nas.parameters import Flops, SearchId
from nas.search import Event, Search, SearchSpec, SearchState
from nas.settings import Settings
from nas.spec import load_spec, parse_spec

__all__ = ["Client", "ClientError", "Connection", "SearchNotWon", "ServerAbsent", "pages"]

TRIALS_PER_PAGE = 500
Task = SearchSpec | Mapping[str, Any] | str | PathLike[str]
"""A spec, its fields, or the YAML or JSON file that it stands in."""


class SearchNotWon(SearchError):
    """Raised when a search that was waited for ends without a winner."""

    def __init__(self, search: Search) -> None:
        self.search = search
        reason = "was cancelled" if search.failure is None else f"failed: {search.failure.message}"
        super().__init__(f"search {search.id} {reason}")


class Client(SearchCalls, ControlCalls, HistoryCalls, AccountCalls, StreamCalls):
    """One server. Use as a context manager, or call ``close``; raises ClientError throughout.

    Args:
        server_url: By default the environment's ``NAS_SERVER_URL``, else where ``nas serve`` listens here.
        token: By default the environment's ``NAS_TOKEN``, if that is set and the address is the environment's too.
        timeout_seconds: Of each try of a request.
        retry_seconds: How long a request is sent again whose server is away for the moment; 0 never.
    """

    def __init__(
        self,
        server_url: str | None = None,
        token: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float | None = None,
    ) -> None:
        settings = Settings()
        if token is None and settings.token is not None and server_url in (None, settings.server_url):
            token = settings.token.get_secret_value()
        self._connection = Connection(
            settings.server_url if server_url is None else server_url,
            token,
            timeout_seconds=timeout_seconds,
            retry_seconds=retry_seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def submit(
        self,
        task: Task,
        *,
        owner: str | None = None,
        tag: Sequence[str] | None = None,
        workspace: str | None = None,
        idempotency_key: str | None = None,
    ) -> FoundSearch:
        """Submit a search from a spec, its fields or its file; relative paths in it count from here.

        Raises:
            InvalidSpec: With every field that is wrong.
            ClientError: As for all calls.
        """
        found = self.create_search(
            spec_of(task), owner=owner, tag=tag, workspace=workspace, idempotency_key=idempotency_key
        )
        assert isinstance(found, FoundSearch)
        return found

    def plan(self, task: Task, *, device_flops: Flops | None = None) -> Estimate:
        """Return what a search would cost; nothing is stored. Takes and raises what ``submit`` does."""
        found = self.create_search(spec_of(task), validate_only=True, device_flops=device_flops)
        assert isinstance(found, Estimate)
        return found

    def trials(self, search_id: SearchId) -> list[FoundTrial]:
        """Return all trials of a search by number, with their points and attempts."""
        asked = pages(self.list_trials, search_id, page_size=TRIALS_PER_PAGE)
        return [trial for page in asked for trial in page.trials]

    def wait(self, search_id: SearchId, tell: Callable[[Event], object] | None = None) -> FoundSearch:
        """Return a search once it has succeeded, after telling what happens until then.

        Raises:
            SearchNotWon: It failed or was cancelled.
        """
        for event in self.stream_events(search_id):
            if tell:
                tell(event)
        search = self.get_search(search_id)
        if search.state is not SearchState.SUCCEEDED:
            raise SearchNotWon(search)
        return search

    def get_health(self) -> Health:
        """Return what a server says that runs."""
        return answered(Health, self._connection.ask_server("/healthz").json())

    def get_readiness(self) -> Health:
        """Return what a server says that can serve; raises ClientError of one whose database is away."""
        return answered(Health, self._connection.ask_server("/readyz").json())

    def get_metrics(self) -> str:
        """Return the server's numbers as Prometheus reads them."""
        return self._connection.ask_server("/metrics").text


def spec_of(task: Task) -> SearchSpec:
    """Return the spec that a task is, with absolute paths."""
    if isinstance(task, str | PathLike):
        task = load_spec(Path(task))
    return resolved(task if isinstance(task, SearchSpec) else parse_spec(task))
