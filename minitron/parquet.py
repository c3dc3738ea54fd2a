"""Reads one column of a Parquet file, in this thread and no further than it is asked.

``pyarrow.dataset``, by which ``datasets`` streams such files, reads on in threads of its own, which crash
Python when they are still reading a file of the hub while it ends.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minitron.documents import missing_column

_ROWS_AT_ONCE = 256
_BUFFER_BYTES = 1 << 20


def parquet_rows(file: Path | IO[bytes], text_field: str, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, with the one column only.

    Raises:
        UnreadableData: No such column; begins with ``where``.
        OSError, ValueError: As pyarrow tells that the file cannot be read.
    """
    from pyarrow import parquet

    # What is read ahead is read in threads, too.
    with parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as reader:
        names = reader.schema_arrow.names
        if text_field not in names:
            raise missing_column(where, text_field, names)
        for batch in reader.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[text_field], use_threads=False):
            yield from batch.to_pylist()
