"""What every command of ``nas`` shares at its end: JSON for programs, errors as lines or as JSON, exit codes."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from minitron.errors import MinitronError
from nas.client import SearchNotWon
from nas.connection import ClientError, ServerAbsent
from nas.errors import (
    InvalidEdit,
    InvalidOrder,
    InvalidRequest,
    InvalidSettings,
    InvalidSpec,
    LogUnavailable,
    NotFound,
    SearchError,
)
from nas.search import Search, SearchState
from nas.spec import dump

FAILED, BAD_INPUT, CANCELLED, ABSENT, INTERRUPTED = 1, 2, 3, 4, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 it failed; 2 wrong usage, a spec that cannot be run, an id that there is not, or a token that "
    "is refused; 3 the search was cancelled; 4 no server answers; 130 ended by Ctrl-C."
)
WRONG = (InvalidSpec, InvalidEdit, InvalidOrder, InvalidRequest, InvalidSettings, NotFound)
REFUSED = {400, 401, 403, 404, 413, 415, 422}
"""Statuses of what is wrong however often it is asked."""
_AS_JSON = "nas.as_json"


def _asked_for_json(context: typer.Context, wanted: bool) -> bool:
    context.meta[_AS_JSON] = wanted
    return wanted


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON in REST's words; errors too, on stderr.",
        callback=_asked_for_json,
        is_eager=True,  # before an option beside it can be wrong
    ),
]


def print_json(content: Any) -> None:
    """Print one JSON document: a mapping, or a value of the domain."""
    typer.echo(json.dumps(content if isinstance(content, Mapping) else dump(content), indent=1))


def print_line(value: Any) -> None:
    """Print a value of the domain as one line of a stream, at once."""
    typer.echo(json.dumps(dump(value)))


def print_error(context: typer.Context, error: Exception) -> None:
    """Print an error on stderr: a line for each problem, or one JSON object where JSON was asked for."""
    if context.meta.get(_AS_JSON):
        typer.echo(json.dumps(problem_of(error)), err=True)
        return
    lines = [f"{field}: {reason}" for field, reason in _problems(error)] or [str(error)]
    for line in lines:
        typer.echo(f"error: {line}", err=True)


def problem_of(error: Exception) -> dict[str, Any]:
    """Return an error in the words of a problem that REST answers with; the status is null without an answer."""
    status, code = (error.status, error.code) if isinstance(error, ClientError) else (None, None)
    return {
        "status": status,
        "code": code or re.sub("(?<!^)(?=[A-Z])", "_", type(error).__name__).lower(),
        "detail": str(error),
        "errors": [{"field": field, "reason": reason} for field, reason in _problems(error)],
    }


def exit_code(error: Exception) -> int:
    """Return the exit code of a command that ends with an error."""
    if isinstance(error, ServerAbsent):
        return ABSENT
    if isinstance(error, SearchNotWon) and error.search.state is SearchState.CANCELLED:
        return CANCELLED
    if isinstance(error, ClientError):
        is_wrong = error.status in REFUSED and error.code != "log_unavailable"
    else:
        is_wrong = isinstance(error, WRONG) and not isinstance(error, LogUnavailable)
    return BAD_INPUT if is_wrong else FAILED


def leave(search: Search) -> None:
    """Raise SearchNotWon for a search that ended without a winner; told last, it is seen."""
    if search.state is not SearchState.SUCCEEDED:
        raise SearchNotWon(search)


def _problems(error: Exception) -> tuple[tuple[str, str], ...]:
    return error.problems if isinstance(error, InvalidSpec | InvalidEdit | InvalidOrder | ClientError) else ()


Told = (SearchError, MinitronError)
"""What a command may end with; everything else is our mistake and keeps its traceback."""
