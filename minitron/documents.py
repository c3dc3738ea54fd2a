"""Reads the documents of a source. Knows no tokenizer, no split and no blocks."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from minitron.errors import UnreadableData
from minitron.python_docs import python_docs
from minitron.sources import PYTHON_DOCS, STRUCTURED, local_files

PASSAGE_CHARACTERS = 4_096
"""Where a long text is cut, about a thousand words go together."""

_CUTS = (r"(?<=\n)(?=\n)", r"(?<=\n)", r"(?<=\s)(?=\S)")
"""After empty lines, after lines, after words."""

_CSV_BLOCK_BYTES = 1 << 26
"""More than any row holds: pyarrow refuses a row that is longer than a block."""


def read_documents(source: str, *, text_field: str) -> list[str]:
    """Return the documents of a source that hold more than white space, each text once, in a fixed order.

    A document is a file of plain text, a row of a structured file, or, where the source is one file of
    plain text, a passage of it.

    Args:
        source: ``builtin:python-docs``, or a file, a directory or a glob pattern.
        text_field: The column of structured files that holds the text.

    Raises:
        UnreadableData: An unknown name, a missing path, an unreadable file, a missing column, or no text.
    """
    documents = python_docs() if source == PYTHON_DOCS else _local_documents(local_files(source), text_field)
    found = list(dict.fromkeys(document for document in documents if document.strip()))
    if not found:
        raise UnreadableData(f"data.source: {source}: holds no text")
    return found


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
    return [*found, "".join(pieces)] if pieces else found


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


def _local_documents(files: list[Path], text_field: str) -> Iterator[str]:
    for path in files:
        if path.suffix in STRUCTURED:
            yield from _column(path, text_field)
        else:
            text = _read_text(path)
            # A lone file would stand on one side of the split whole.
            yield from passages(text) if len(files) == 1 else [text]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableData(f"data.source: {path}: cannot be read as UTF-8 text: {error}") from error


def _column(path: Path, text_field: str) -> Iterator[str]:
    """The text of each row of a structured file; rows without text are left out."""
    rows = _arrow_rows(path, text_field) if path.suffix in (".csv", ".parquet") else _json_rows(path)
    try:
        for number, row in enumerate(rows, start=1):
            text = _text(row, text_field, f"{path}: row {number}")
            if text:
                yield text
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        reason = " ".join(str(error).split())
        raise UnreadableData(f"data.source: {path}: cannot be read as {path.suffix}: {reason}") from error


def _text(row: Any, text_field: str, where: str) -> str | None:
    if not isinstance(row, dict):
        raise UnreadableData(f"data.source: {where}: found {type(row).__name__}, allowed: an object")
    if text_field not in row:
        raise _missing_column(where, text_field, row)
    text = row[text_field]
    if text is None or isinstance(text, str):
        return text
    raise UnreadableData(
        f"data.text_field: {where}: {text_field}: found {type(text).__name__}, allowed: text"
    )


def _missing_column(where: str, text_field: str, columns: Iterable[str]) -> UnreadableData:
    return UnreadableData(
        f"data.text_field: found {text_field!r}, allowed: a column of {where}: {', '.join(columns)}"
    )


def _json_rows(path: Path) -> Iterator[Any]:
    """Rows of a list of objects, or of one object per line."""
    with path.open(encoding="utf-8") as file:
        if path.suffix == ".json":
            content = json.load(file)
            yield from content if isinstance(content, list) else [content]
        else:
            yield from (json.loads(line) for line in file if line.strip())


def _arrow_rows(path: Path, text_field: str) -> Iterator[dict[str, Any]]:
    """Rows of a table, with the one column only; read in batches, so that the rest is never in memory."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix == ".csv":
        reader = csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types={text_field: pa.string()}),
        )
        names, batches = reader.schema.names, iter(reader)
    else:
        reader = parquet.ParquetFile(path)
        names = reader.schema_arrow.names
        batches = reader.iter_batches(columns=[text_field])
    with reader:
        if text_field not in names:
            raise _missing_column(str(path), text_field, names)
        for batch in batches:
            yield from batch.select([text_field]).to_pylist()
