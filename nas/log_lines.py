"""How the server and the workers say what they do: lines for people, or JSON objects for programs that collect them.

What a line is about (the request, the search, the trial) is either bound to what runs, so that everything said
meanwhile carries it, or given with the line as ``extra``.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NoReturn

LogFormat = Literal["text", "json"]
FIELDS = ("request_id", "search_id", "trial_number", "method", "path", "status", "seconds")
"""Of a JSON object beside time, level, logger and message, each only where it is known."""

logger = logging.getLogger(__name__)
_bound: ContextVar[Mapping[str, Any]] = ContextVar("bound", default=MappingProxyType({}))


def bind(**fields: Any) -> None:
    """Say what everything logged from here on is about, in this task and what it starts; None is left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    _bound.set(MappingProxyType({**_bound.get(), **known}))


class JsonLines(logging.Formatter):
    """One JSON object a line; a traceback is a field of it. ``about`` is what all lines are about."""

    def __init__(self, **about: Any) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        bound = {**self._about, **_bound.get()}
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            value = getattr(record, name, bound.get(name))
            if value is not None:
                content[name] = value
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, default=str)  # in ASCII, so that no name of a file is an obstacle


def configure(log_format: LogFormat, *, text: str, **about: Any) -> None:
    """Log to stderr; ``text`` is the format of lines for people, ``about`` what all lines of the process are about.

    Of libraries only what is wrong is heard: what they are doing may quote signed addresses.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(**about) if log_format == "json" else logging.Formatter(text))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    hear_ours()
    if log_format == "json":
        logging.captureWarnings(capture=True)


def hear_ours() -> None:
    """Let our own packages say what they are doing."""
    for ours in ("api", "minitron", "nas", "workers"):
        logging.getLogger(ours).setLevel(logging.INFO)


def leave(error: Exception) -> NoReturn:
    """End the process over an error: it is the last line of the log."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        logger.error("%s", error)
        sys.exit(1)
    sys.exit(f"error: {error}")
