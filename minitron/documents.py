"""What a document is, how it is cut into passages, and which row holds one. Knows no source and no tokenizer."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minitron.errors import UnreadableData

PASSAGE_CHARACTERS = 4_096
"""Where a long text is cut, about a thousand words go together."""

_CUTS = (r"(?<=\n)(?=\n)", r"(?<=\n)", r"(?<=\s)(?=\S)")
"""After empty lines, after lines, after words."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is kept together: on one side of the split, and counted once."""

    text: str
    """Of a chat: its messages in JSON, so that it is the same document for every tokenizer."""
    where: str
    """The field, and the file and row that it comes from, for messages."""
    is_chat: bool = False

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).digest()


def document_of(row: Any, text_field: str, where: str) -> Document | None:
    """Return what a row holds in a column, None where there is nothing or only white space.

    Raises:
        UnreadableData: No such column, or it holds neither text nor a chat.
    """
    if not isinstance(row, dict):
        raise UnreadableData(f"{where}: found {type(row).__name__}, allowed: an object")
    if text_field not in row:
        raise missing_column(where, text_field, row)
    value = row[text_field]
    if isinstance(value, list) and value:
        chat = [_message(each, f"{where}: {text_field}") for each in value]
        document = Document(
            json.dumps(chat, ensure_ascii=False, sort_keys=True, default=str), where, is_chat=True
        )
    elif isinstance(value, str):
        document = Document(value, where)
    elif not value and (value is None or isinstance(value, list)):
        return None
    else:
        raise _no_text(value, f"{where}: {text_field}")
    try:
        document.text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say and UTF-8 cannot
        raise UnreadableData(f"{where}: {text_field}: holds text that is not valid Unicode") from None
    return document if document.text.strip() else None


def missing_column(where: str, text_field: str, columns: Iterable[str]) -> UnreadableData:
    """Return the error of a row or a table that lacks a column."""
    return UnreadableData(
        f"{where}: text_field: found {text_field!r}, allowed: one of its columns: {', '.join(columns)}"
    )


def passages(text: str) -> list[str]:
    """Cut a text into passages of at least PASSAGE_CHARACTERS, but for the last, and at most twice that.

    At empty lines where there are any, else at line ends, else between words, else anywhere.
    """
    found, pieces, length = [], [], 0
    for piece in _pieces(text):
        pieces.append(piece)
        length += len(piece)
        if length >= PASSAGE_CHARACTERS:
            found.append("".join(pieces))
            pieces, length = [], 0
    rest = "".join(pieces)
    return [*found, rest] if rest else found


def passages_of(parts: Iterable[str]) -> Iterator[str]:
    """Yield the passages of a text that comes in parts, holding no more than one of them."""
    rest = ""
    for part in parts:
        found = passages(rest + part)
        yield from found[:-1]
        rest = "".join(found[-1:])
    if rest:
        yield rest


def _pieces(text: str, cuts: Sequence[str] = _CUTS) -> Iterator[str]:
    """Yield pieces of at most PASSAGE_CHARACTERS that make up the text, cut as seldom as that allows."""
    if len(text) <= PASSAGE_CHARACTERS:
        yield text
    elif cuts:
        for piece in re.split(cuts[0], text):
            yield from _pieces(piece, cuts[1:])
    else:
        for start in range(0, len(text), PASSAGE_CHARACTERS):
            yield text[start : start + PASSAGE_CHARACTERS]


def _message(value: Any, where: str) -> dict[str, Any]:
    """One message of a chat, without what tables fill in for fields that it does not have."""
    if not isinstance(value, dict):
        raise _no_text([value], where)
    message = {name: each for name, each in value.items() if each is not None}
    content = message.setdefault("content", "")
    if not isinstance(message.get("role"), str) or not isinstance(content, str):
        raise _no_text([value], where)
    return message


def _no_text(value: Any, where: str) -> UnreadableData:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return UnreadableData(
        f"{where}: found {shown}, allowed: text, or messages each with a role and a content of text"
    )
