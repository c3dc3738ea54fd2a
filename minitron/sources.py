"""Where text comes from: named sources and local files, as documents.

Knows no tokenizer, no split and no blocks. A source tells its content's digest without parsing it, so
that blocks made from it earlier are found again cheaply.
"""

import glob
import hashlib
import importlib
import inspect
import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from minitron.errors import UnreadableData

PYTHON_DOCS = "builtin:python-docs"
"""The documentation and library source of the running Python."""

PLAIN = (".txt", ".md", ".py")
STRUCTURED = (".json", ".jsonl", ".csv", ".parquet")
SUFFIXES = (*PLAIN, *STRUCTURED)

PASSAGE_CHARACTERS = 4_096
"""Where a long text is cut, about a thousand words go together."""

_CSV_BLOCK_BYTES = 1 << 26
"""More than any row holds: pyarrow refuses a row that is longer than a block."""

_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages",
                    "dist-packages", "encodings", "pydoc_data", "__pycache__"}  # fmt: skip
"""Parts of the standard library that are fixtures, tables of numbers or no part of it."""


def source_digest(source: str) -> str:
    """Return the SHA-256 of all that a source holds, independent of where it lies.

    Raises:
        UnreadableData: An unknown name, a missing path, or nothing readable there.
    """
    digest = hashlib.sha256()
    if source == PYTHON_DOCS:
        for document in _python_docs():
            digest.update(hashlib.sha256(document.encode()).digest())
    else:
        for path in _local_files(source):
            digest.update(path.suffix.encode() + _file_digest(path))
    return digest.hexdigest()


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
    if source == PYTHON_DOCS:
        documents = _python_docs()
    else:
        documents = _local_documents(_local_files(source), text_field)
    found = list(dict.fromkeys(document for document in documents if document.strip()))
    if not found:
        raise UnreadableData(f"data.source: {source}: holds no text")
    return found


def passages(text: str) -> list[str]:
    """Cut a text at empty lines into passages of at least PASSAGE_CHARACTERS, but for the last."""
    found, paragraphs, length = [], [], 0
    for paragraph in re.split(r"(?<=\n)(?=\n)", text):
        paragraphs.append(paragraph)
        length += len(paragraph)
        if length >= PASSAGE_CHARACTERS:
            found.append("".join(paragraphs))
            paragraphs, length = [], 0
    return [*found, "".join(paragraphs)] if paragraphs else found


def _python_docs() -> Iterator[str]:
    """Language topics, documentation of the modules written in C, and the library's source."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
    for name in sorted(sys.builtin_module_names):
        yield _module_documentation(name)
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        folders = path.relative_to(library).parts[:-1]
        # Files named for this machine's build (_sysconfigdata, config-3.11-...) tell its paths.
        is_generated = path.name.startswith("_sysconfigdata") or any("config-" in part for part in folders)
        if not is_generated and _SKIPPED_FOLDERS.isdisjoint(folders):
            yield path.read_text(encoding="utf-8", errors="replace")


def _module_documentation(name: str) -> str:
    """Docstrings of a module that has no source: of itself, its functions, its classes and their methods."""
    module = importlib.import_module(name)
    texts = [module.__doc__]
    for member_name, member in sorted(vars(module).items()):
        # What belongs to another module may have been put there by a library of this process.
        if getattr(member, "__module__", None) != name or member_name.startswith("_"):
            continue
        texts.append(_documentation(member_name, member))
        if inspect.isclass(member):
            texts += [
                _documentation(f"{member_name}.{method_name}", method)
                for method_name, method in sorted(vars(member).items())
                if inspect.isroutine(method) and not method_name.startswith("_")
            ]
    return "\n\n".join(text for text in texts if text)


def _documentation(name: str, member: Any) -> str | None:
    text = inspect.getdoc(member)
    return f"{name}\n{text}" if text else None


def _local_files(source: str) -> list[Path]:
    """Files of a known suffix at a path, below a directory, or matching a pattern; sorted."""
    if source.startswith("builtin:"):
        raise UnreadableData(f"data.source: found {source!r}, allowed: {PYTHON_DOCS} or a local path")
    path = Path(source).expanduser()
    allowed = ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UnreadableData(f"data.source: {path}: found suffix {path.suffix!r}, allowed: {allowed}")
        return [path]
    if path.is_dir():
        candidates = [file for file in path.rglob("*") if file.is_file()]
    else:
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
        if not candidates:
            raise UnreadableData(f"data.source: {path}: no such file, directory or match")
    files = sorted(file for file in candidates if file.suffix in SUFFIXES)
    if not files:
        raise UnreadableData(f"data.source: {path}: holds no file with a suffix of {allowed}")
    return files


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


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UnreadableData(f"data.source: {path}: cannot be read: {error}") from error


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
