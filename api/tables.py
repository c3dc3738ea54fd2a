"""Tables that are sent while they are made: media types, names of files, and how their columns are described."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse

from nas.exports import Format, Row, written

MEDIA_TYPES = {Format.CSV: "text/csv; charset=utf-8; header=present", Format.JSONL: "application/jsonl"}
CHUNK_CHARACTERS = 1 << 16
TABLE: dict[int | str, Any] = {
    200: {
        "content": {media.partition(";")[0]: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()}
    }
}
Form = Annotated[
    Format,
    Query(
        alias="format",
        description="`csv`, with a heading, or `jsonl`, an object in each line; both with the same columns. In CSV, a "
        "text that a spreadsheet would take for a formula begins with an apostrophe.",
    ),
]


def table(rows: Iterator[Row], columns: Mapping[str, str], form: Format, name: str) -> StreamingResponse:
    """Return the answer that sends a table; ``name`` is that of its file, without the ending."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form.value}"'}
    return StreamingResponse(
        _chunks(written(rows, columns, form)), media_type=MEDIA_TYPES[form], headers=headers
    )


def described(columns: Mapping[str, str]) -> str:
    """Return what columns mean, as a list in Markdown."""
    return "\n".join(f"- `{name}`: {meaning}" for name, meaning in columns.items())


def _chunks(pieces: Iterator[str]) -> Iterator[bytes]:
    """Yield larger pieces: each costs the server a change of threads."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_CHARACTERS:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()
