"""Reads the documents of a source, one after another: no more is read, or held, than is asked for.

Knows no tokenizer, no split and no blocks.
"""

import csv
import io
import json
import random
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

from minitron.documents import Document, document_of, missing_column, passages_of
from minitron.errors import UnreadableData
from minitron.hub import PREFIX
from minitron.parquet import parquet_rows
from minitron.python_docs import python_docs
from minitron.recipe import DataSource
from minitron.sources import PLAIN, PYTHON_DOCS, compression_of, kind_of, local_files

LARGEST_FILE_DOCUMENT = 1 << 20
"""Characters of a file of plain text, above which each of its passages is a document."""

_CSV_BLOCK_BYTES = 1 << 26
"""More than any row holds: pyarrow refuses a row that is longer than a block."""
_ROWS_AT_ONCE = 256


def read_documents(field: str, source: DataSource, *, seed: int) -> Generator[Document, None, None]:
    """Yield the documents of a source that hold more than white space, as they come, repeated ones too.

    The files of a source, or its documents where they are builtin, come in an order that the seed draws;
    rows and passages of a file come as they stand there. A document is a row of a structured file, or a
    file of plain text; of a long file, or one that stands alone, each passage is one.

    Args:
        field: Of the recipe, which errors begin with.
        source: With its ``text_field``.
        seed: Any integer.

    Raises:
        UnreadableData: An unknown name, a missing path, an unreadable file or row, a missing column, or
            no text; of a hub dataset also an unknown config or split.
        HubError: As ``minitron.hub.asking``; begins with the field.
    """
    found: Iterator[Document]
    if source.source.startswith(PREFIX):
        from minitron.hub_datasets import hub_documents

        found = hub_documents(field, source, seed=seed)
    elif source.source == PYTHON_DOCS:
        texts = list(python_docs())
        random.Random(seed).shuffle(texts)  # noqa: S311 - an order, not a secret
        found = (Document(text, f"{field}: {PYTHON_DOCS}") for text in texts if text.strip())
    else:
        found = _local_documents(field, source, seed)
    is_empty = True
    for document in found:
        is_empty = False
        yield document
    if is_empty:
        raise UnreadableData(f"{field}: {source.source}: holds no text")


def _local_documents(field: str, source: DataSource, seed: int) -> Iterator[Document]:
    files = local_files(field, source)
    random.Random(seed).shuffle(files)  # noqa: S311 - an order, not a secret
    assert source.text_field is not None
    for path in files:
        where = f"{field}: {path}"
        try:
            if kind_of(path) in PLAIN:
                texts = _plain_texts(path, is_alone=len(files) == 1)
                yield from (Document(text, where) for text in texts if text.strip())
            else:
                rows = _rows(path, source.text_field, where)
                found = (
                    document_of(row, source.text_field, f"{where}: row {number}")
                    for number, row in enumerate(rows, start=1)
                )
                yield from (document for document in found if document is not None)
        except (OSError, ValueError, RecursionError) as error:  # pyarrow's and json's among them
            reason = " ".join(str(error).split())
            raise UnreadableData(f"{where}: cannot be read as {kind_of(path)}: {reason}") from error


def _plain_texts(path: Path, *, is_alone: bool) -> Iterator[str]:
    """The whole of a file, or its passages when they are to be documents of their own."""
    with _text_of(path) as file:
        begin = file.read(LARGEST_FILE_DOCUMENT)
        more = file.read(LARGEST_FILE_DOCUMENT)
        if not (more or is_alone):
            # A lone file would stand on one side of the split whole.
            yield begin
            return

        def parts() -> Iterator[str]:
            yield begin
            part = more
            while part:
                yield part
                part = file.read(LARGEST_FILE_DOCUMENT)

        yield from passages_of(parts())


def _rows(path: Path, text_field: str, where: str) -> Iterator[Any]:
    match kind_of(path):
        case ".csv":
            return _csv_rows(path, text_field, where)
        case ".parquet":
            return parquet_rows(path, text_field, where)
        case ".jsonl":
            return _json_lines(path, where)
        case _:
            return _json_list(path)


def _json_list(path: Path) -> Iterator[Any]:
    """Rows of a list of objects, or the one object; the file is parsed whole."""
    with _text_of(path) as file:
        content = json.load(file)
    yield from content if isinstance(content, list) else [content]


def _json_lines(path: Path, where: str) -> Iterator[Any]:
    with _text_of(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UnreadableData(
                        f"{where}: line {number}: cannot be read as JSON: {error}"
                    ) from error


def _csv_rows(path: Path, text_field: str, where: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with _text_of(path) as file:
        names = next(csv.reader(file), [])
    if not names:
        raise ValueError("the file is empty")
    if text_field not in names:
        raise missing_column(where, text_field, names)
    with (
        # Not a file of Python's: pyarrow reads on in a thread of its own, which may outlive ours.
        pa.input_stream(str(path), compression=compression_of(path)) as stream,
        arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=[text_field], column_types={text_field: pa.string()}
            ),
        ) as reader,
    ):
        for batch in reader:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _bytes_of(path: Path) -> Any:
    """The content of a file as a stream, decompressed; pyarrow reads all kinds, the standard library not."""
    compression = compression_of(path)
    if compression is None:
        return path.open("rb")
    import pyarrow as pa

    return pa.input_stream(str(path), compression=compression)


def _text_of(path: Path) -> IO[str]:
    return io.TextIOWrapper(_bytes_of(path), encoding="utf-8-sig")
