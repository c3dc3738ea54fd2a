"""What can go wrong in a search.

SearchError
├── InvalidSpec         a spec field that is unknown, missing or out of range
│   └── EmptySpace      axes and budget that leave no architecture
├── InvalidSettings     an environment variable that is out of range
├── InvalidEdit         what cannot be said of a search
├── InvalidOrder        what cannot be ordered of a search
├── Unauthenticated     no token where one is needed, or one that does not hold
├── Forbidden           something that the role of whoever asks does not allow
├── InvalidRequest      a parameter that is not allowed
│   ├── InvalidPageToken  a page token that is none, or of a list that was asked for otherwise
│   └── UnknownCursor   a place in the events that this store has not come to
├── NotFound            no such search or trial
│   ├── UnknownAccount  no such workspace, member or token
│   └── LogUnavailable  no log of a search, or on another machine
├── Conflict            not possible in the present state (finished, no winner yet)
│   ├── LastAdmin       a workspace would be left without anybody who manages it
│   ├── LostLease       another process has taken the search over
│   ├── StaleVersion    an edit of what somebody else has edited meanwhile
│   ├── StaleOrders     a search that would complete though something was ordered meanwhile
│   └── KeyReused       an idempotency key that came before with another request
├── HubUnavailable      the Hugging Face hub does not answer, and a search cannot be checked without
├── FinalTrialChanged   an attempt to rewrite a trial that is final
├── StudiesUnavailable  the storage of Optuna studies cannot be reached
└── StoreUnavailable    the database cannot be reached
    └── StoreFull       the disk that holds the database is full

Each message is one line: which field or object, what was found, what is allowed.
"""

from collections.abc import Iterable

Problem = tuple[str, str]
"""A field and a reason."""
MAX_PROBLEMS = 50
"""That are told at once."""
_MAX_FIELD_LENGTH = 200
_MORE: Problem = ("...", f"more problems than the {MAX_PROBLEMS} that are told")
_ALLOWED = "unknown, allowed: "


def told(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems as people are told of them: each once, not too many, and the names that are allowed but once."""
    found: dict[Problem, None] = {}
    known: set[str] = set()
    for field, reason in problems:
        short = field if len(field) <= _MAX_FIELD_LENGTH else f"{field[: _MAX_FIELD_LENGTH - 3]}..."
        problem = (short, "unknown" if reason in known else reason)
        if problem in found:
            continue
        if len(found) == MAX_PROBLEMS:
            return (*found, _MORE)
        found[problem] = None
        if reason.startswith(_ALLOWED):
            known.add(reason)
    return tuple(found)


class SearchError(Exception):
    """Base of every error that a user of the service can meet."""


class InvalidSpec(SearchError, ValueError):
    """Raised for a spec that cannot be run; lists every offending field.

    A ValueError too, as codecs expect of a refused value, so that they can collect several.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = told(problems)
        """Pairs of field path and reason."""
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(f"{field}: {reason}" for field, reason in self.problems)


class EmptySpace(InvalidSpec):
    """Raised when no architecture satisfies axes, family rules and budget together."""


class InvalidEdit(SearchError):
    """Raised for what cannot be said of a search; lists every offending field."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = told(problems)
        """Pairs of field and reason."""
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(f"{field}: {reason}" for field, reason in self.problems)


class InvalidOrder(SearchError):
    """Raised for what cannot be ordered of a search, whatever its state; lists every offending field."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = told(problems)
        """Pairs of field and reason."""
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(f"{field}: {reason}" for field, reason in self.problems)


class InvalidSettings(SearchError):
    """Raised for an environment variable that is out of range."""


class Unauthenticated(SearchError):
    """Raised where a token is needed and none that holds is shown."""


class Forbidden(SearchError):
    """Raised for what the role of whoever asks does not allow in a workspace that they see."""


class InvalidRequest(SearchError):
    """Raised for a parameter that is not allowed, whatever the state."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class InvalidPageToken(InvalidRequest):
    """Raised for a page token that is none, or that belongs to a list with other filters or order."""


class UnknownCursor(InvalidRequest):
    """Raised for a place in the events beyond the last that is stored."""


class NotFound(SearchError):
    """Raised when no search or trial has the given id."""


class UnknownAccount(NotFound):
    """Raised when no workspace, member or token has the given name, or none that whoever asks may know of."""


class LogUnavailable(NotFound):
    """Raised when the log of a search's worker cannot be read here, and no end of it is stored."""


class Conflict(SearchError):
    """Raised when the present state does not allow what was asked."""


class LastAdmin(Conflict):
    """Raised when a workspace would be left without anybody who manages it."""


class LostLease(Conflict):
    """Raised when a process acts on a search that another process has taken over."""


class StaleVersion(Conflict):
    """Raised when an edit was made of a version that is not the present one."""

    def __init__(self, search_id: str, found: str, present: int) -> None:
        super().__init__(search_id, found, present)
        self.search_id = search_id
        self.reason = f"found {found}, allowed: {present}; it was edited meanwhile"

    def __str__(self) -> str:
        return f"search {self.search_id}: version: {self.reason}"


class StaleOrders(Conflict):
    """Raised when a runner decided what it does next before it had read what was ordered last."""


class KeyReused(Conflict):
    """Raised when an idempotency key comes again with another request."""


class FinalTrialChanged(SearchError):
    """Raised on an attempt to rewrite a trial that is final."""


class HubUnavailable(SearchError):
    """Raised when a search cannot be checked because the hub does not answer: the same may succeed later."""


class StudiesUnavailable(SearchError):
    """Raised when the storage of Optuna studies cannot be reached: no search needs it, the same may succeed later."""


class StoreUnavailable(SearchError):
    """Raised when the database cannot be reached."""


class StoreFull(StoreUnavailable):
    """Raised when the database takes no writes because its disk is full; what it holds stands."""
