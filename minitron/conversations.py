"""Chats and preferences from JSON lines, and which of them are held out. Free of torch.

A chat is ``{"messages": [{"role": ..., "content": ...}, ...]}`` and ends with the assistant. A preference is
``{"prompt": ..., "chosen": ..., "rejected": ...}``, each a text or messages.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from minitron.errors import DatasetTooSmall, UnreadableData

Message = Mapping[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Messages, of which the last is the one to learn."""

    prompt: tuple[Message, ...]
    answer: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Messages with two answers."""

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message


def read_chats(path: Path) -> list[Chat]:
    """Return the chats of a file.

    Raises:
        UnreadableData: The file cannot be read, or a line is no chat.
    """
    return [_chat(row, where) for row, where in _rows(path)]


def read_pairs(path: Path) -> list[Pair]:
    """Return the preferences of a file.

    Raises:
        UnreadableData: The file cannot be read, or a line is no preference.
    """
    return [_pair(row, where) for row, where in _rows(path)]


def held_out(rows: Sequence[T], share: float, *, where: Path) -> tuple[list[T], list[T]]:
    """Return what is trained on and what is held out: a row's side follows from its content alone.

    Equal rows are on one side.

    Raises:
        DatasetTooSmall: One of the sides has none.
    """
    limit = round(share * 2**32)
    training: list[T] = []
    held: list[T] = []
    for row in rows:
        digest = hashlib.sha256(repr(row).encode()).digest()
        (held if int.from_bytes(digest[:4], "big") < limit else training).append(row)
    if not training or not held:
        raise DatasetTooSmall(
            f"{where}: found {len(training)} rows to train on and {len(held)} held out, allowed: some of each; "
            "give more rows or another --validation-share"
        )
    return training, held


def _rows(path: Path) -> Iterator[tuple[Any, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}:{number}"
                if line.strip():
                    yield json.loads(line), where
    except OSError as error:
        raise UnreadableData(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableData(f"{path}: found bytes that are not UTF-8, allowed: JSON lines") from error
    except ValueError as error:
        raise UnreadableData(f"{where}: cannot be read as JSON: {error}") from error


def _chat(row: Any, where: str) -> Chat:
    *prompt, answer = _messages(_field(row, "messages", where), f"{where}: messages", role=None)
    if not prompt:
        raise UnreadableData(f"{where}: messages: found one, allowed: at least a question and an answer")
    _require_assistant(answer, f"{where}: messages")
    return Chat(prompt=tuple(prompt), answer=answer)


def _pair(row: Any, where: str) -> Pair:
    prompt = _messages(_field(row, "prompt", where), f"{where}: prompt", role="user")
    answers = []
    for name in ("chosen", "rejected"):
        messages = _messages(_field(row, name, where), f"{where}: {name}", role="assistant")
        # Some sets repeat the prompt before each answer.
        if messages[:-1] not in ((), prompt):
            raise UnreadableData(f"{where}: {name}: found {len(messages)} messages, allowed: one answer")
        _require_assistant(messages[-1], f"{where}: {name}")
        answers.append(messages[-1])
    return Pair(prompt=prompt, chosen=answers[0], rejected=answers[1])


def _field(row: Any, name: str, where: str) -> Any:
    if not isinstance(row, dict) or name not in row:
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise UnreadableData(f"{where}: found {found or 'nothing'}, allowed: a mapping with {name}")
    return row[name]


def _messages(value: Any, where: str, *, role: str | None) -> tuple[Message, ...]:
    """Return messages, or the one that a text of a known ``role`` is."""
    if isinstance(value, str) and role is not None:
        return ({"role": role, "content": value},)
    if not (isinstance(value, list) and value and all(map(_is_message, value))):
        allowed = "a list of messages, each with a role and a content"
        raise UnreadableData(f"{where}: found {_shown(value)}, allowed: {allowed}")
    return tuple({"role": each["role"], "content": each["content"]} for each in value)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _require_assistant(message: Message, where: str) -> None:
    if message["role"] != "assistant":
        raise UnreadableData(f"{where}: found an end by {message['role']!r}, allowed: by 'assistant'")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
