"""The calls of a client about searches under way; ``client.py`` joins them to the others."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from nas.answers import FoundSearch
from nas.client_calls import Calls
from nas.log_ranges import DEFAULT_BYTES, LogRange
from nas.parameters import SearchId

TrialNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]
AttemptNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
By = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Who wants it, in people's words."""
Offset = Annotated[int, Field(ge=0, le=2**53)]
NumBytes = Annotated[int, Field(ge=1, le=2**20)]


class ControlCalls(Calls):
    """Pause, resume, extend, cancel and kill searches, have architectures tried; ``by`` says who wants it, in people's words."""

    def pause_search(self, search_id: SearchId, *, by: By = "") -> FoundSearch:
        """Give back what a search uses, and leave it alone until it is resumed."""
        return self._order(f"{search_id}:pause", by)

    def resume_search(self, search_id: SearchId, *, by: By = "") -> FoundSearch:
        """Queue a paused search again; it ends as if it had never been paused."""
        return self._order(f"{search_id}:resume", by)

    def cancel_search(self, search_id: SearchId, *, by: By = "") -> FoundSearch:
        """Ask for the end of a search; what it measured is kept."""
        return self._order(f"{search_id}:cancel", by)

    def kill_search(self, search_id: SearchId, *, by: By = "") -> FoundSearch:
        """End a search now, whatever its workers do; ``cancel`` ends it in order."""
        return self._order(f"{search_id}:kill", by)

    def extend_search(
        self,
        search_id: SearchId,
        *,
        num_trials: int | None = None,
        max_tokens: int | None = None,
        max_parallel: int | None = None,
        by: By = "",
    ) -> FoundSearch:
        """Let a search try more or fewer architectures, on more or fewer tokens, or at a time; None leaves a limit."""
        limits = {"num_trials": num_trials, "max_tokens": max_tokens, "max_parallel": max_parallel}
        return self._order(
            f"{search_id}:extend", by, {key: value for key, value in limits.items() if value is not None}
        )

    def enqueue_architecture(
        self, search_id: SearchId, sizes: Mapping[str, int], *, by: By = ""
    ) -> FoundSearch:
        """Have the architecture with these sizes of the searched axes tried before the next proposal."""
        return self._order(f"{search_id}:enqueue", by, dict(sizes))

    def stop_trial(self, search_id: SearchId, trial_number: TrialNumber, *, by: By = "") -> FoundSearch:
        """End one trial; the search goes on without it."""
        return self._order(f"{search_id}/trials/{trial_number}:stop", by)

    def promote_trial(
        self,
        search_id: SearchId,
        trial_number: TrialNumber,
        promotion: Mapping[str, Any] | None = None,
        *,
        by: By = "",
    ) -> FoundSearch:
        """Have the student of a completed trial retrained for longer, as the spec says, changed by a merge patch."""
        return self._order(f"{search_id}/trials/{trial_number}:promote", by, promotion)

    def read_attempt_log(
        self,
        search_id: SearchId,
        trial_number: TrialNumber,
        attempt_number: AttemptNumber,
        *,
        offset: Offset = 0,
        limit: NumBytes = DEFAULT_BYTES,
    ) -> LogRange:
        """Return a part of what one attempt of a trial logged and printed."""
        return self._range(f"{search_id}/trials/{trial_number}/attempts/{attempt_number}/log", offset, limit)

    def read_search_log(
        self, search_id: SearchId, *, offset: Offset = 0, limit: NumBytes = DEFAULT_BYTES
    ) -> LogRange:
        """Return a part of what the workers of a search printed."""
        return self._range(f"{search_id}/log", offset, limit)

    def attempt_log(
        self, search_id: SearchId, trial_number: TrialNumber, attempt_number: AttemptNumber
    ) -> Iterator[LogRange]:
        """Yield what one attempt logged and printed so far, from its beginning, part by part."""
        offset = 0
        while True:
            part = self.read_attempt_log(search_id, trial_number, attempt_number, offset=offset)
            yield part
            if part.next_offset in {offset, part.total_bytes}:
                return
            offset = part.next_offset

    def _order(self, path: str, by: str, content: Mapping[str, Any] | None = None) -> FoundSearch:
        body = {} if content is None else {"json": content}
        return self._ask(FoundSearch, "POST", f"/searches/{path}", params={"by": by or None}, **body)

    def _range(self, path: str, offset: int, limit: int) -> LogRange:
        return self._ask(LogRange, "GET", f"/searches/{path}", params={"offset": offset, "limit": limit})
