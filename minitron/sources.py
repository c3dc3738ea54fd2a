"""What a source of text is: a named one, a dataset of the hub or local files, told without reading a document.

Free of torch and of readers, so that a source is checked when a search is submitted. A source tells its
content's digest without parsing it, so that blocks made from it earlier are found again cheaply.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from minitron.errors import HubError, TooManyFiles, UnreadableData
from minitron.hub import PREFIX, HubName, at_its_commit
from minitron.local_paths import expanded, paths_below, paths_like
from minitron.progress import Progress, Report, silent
from minitron.python_docs import python_docs
from minitron.recipe import DataRecipe, DataSource

PYTHON_DOCS = "builtin:python-docs"
"""The documentation and library source of the running Python."""

PLAIN = (".txt", ".md", ".py")
STRUCTURED = (".json", ".jsonl", ".csv", ".parquet")
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
"""Suffixes that may follow, by what pyarrow calls them."""

_PART_BYTES = 1 << 24

_FILES = f"{', '.join(PLAIN + STRUCTURED)}, also with {' or '.join(COMPRESSED)}"


def check_sources(recipe: DataRecipe) -> None:
    """Raise UnreadableData, which begins with the field, for what can be told to fail without a network.

    An unknown or malformed name, a missing path, nothing readable there, and what only hub datasets have.
    """
    for field, source in recipe.all_sources.items():
        if source.source.startswith(PREFIX):
            hub_name(field, source.source)
            continue
        for name, unset in (("config", None), ("split", "train")):
            found = getattr(source, name)
            if found != unset:
                raise UnreadableData(
                    f"{field}.{name}: found {found!r}, allowed for {source.source}, which is no hub dataset: "
                    "none"
                )
        if source.source != PYTHON_DOCS:
            next(_found_files(field, source))


def with_absolute_paths(recipe: DataRecipe) -> DataRecipe:
    """Return the recipe with local paths counted from the directory of this process."""

    def absolute(_: str, name: str) -> str:
        is_path = not name.startswith(("builtin:", PREFIX))
        return str(expanded(name).absolute()) if is_path else name

    return recipe.renamed(absolute)


def pinned(recipe: DataRecipe) -> DataRecipe:
    """Return the checked recipe with each hub dataset at the commit that its revision is now.

    The hub is asked only where a revision may move.

    Raises:
        UnreadableData: As ``check_sources``.
        HubError: The hub does not have a dataset, does not give it, or does not answer; begins with the
            field.
    """
    check_sources(recipe)

    def at_commit(field: str, name: str) -> str:
        if not name.startswith(PREFIX):
            return name
        found = hub_name(field, name)
        try:
            return str(found if found.commit else at_its_commit(found, "dataset"))
        except HubError as error:
            raise type(error)(f"{field}: {error}") from None

    return recipe.renamed(at_commit)


def hub_name(field: str, name: str) -> HubName:
    """Return what the name of a hub dataset says.

    Raises:
        UnreadableData: A malformed name, or that of a single file.
    """
    try:
        found = HubName.parse(name)
    except HubError:
        found = None
    if found is None or found.file is not None:
        raise UnreadableData(f"{field}: found {name!r}, allowed: hub:ORG/NAME or hub:ORG/NAME@REVISION")
    return found


def content_digest(field: str, source: DataSource, report: Report = silent) -> str:
    """Return the SHA-256 of what fixes the documents of a source, wherever it lies.

    Of local files their content; of a hub dataset, which must be pinned, its name, commit, config and split.

    Raises:
        UnreadableData: An unknown name, a missing path, or nothing readable there.
    """
    if not source.source.startswith(PREFIX):
        return _local_digest(field, source, report)
    name = hub_name(field, source.source)
    assert name.commit is not None, f"{name}: may move"
    parts = [str(name), source.config, source.split]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def state_of(field: str, source: DataSource) -> list[tuple[Path, int, int]]:
    """Return what tells that a file of a source was written to: path, size and time of each.

    Raises:
        UnreadableData: A file is gone.
    """
    if source.source == PYTHON_DOCS or source.source.startswith(PREFIX):
        return []
    try:
        states = [(path, path.stat()) for path in local_files(field, source)]
    except OSError as error:
        raise UnreadableData(f"{field}: {source.source}: cannot be read: {error}") from error
    return [(path, state.st_size, state.st_mtime_ns) for path, state in states]


def local_files(field: str, source: DataSource) -> list[Path]:
    """Return the files of a known suffix at a path, below a directory, or matching a pattern; sorted.

    Only ordinary files: no sockets, pipes or devices. ``minitron.local_paths`` says which links are followed.

    Raises:
        UnreadableData: An unknown name, a missing path, nothing readable there, or more than can be meant.
    """
    return sorted(_found_files(field, source))


def _found_files(field: str, source: DataSource) -> Iterator[Path]:
    """Yield what ``local_files`` returns, as it is found."""
    if source.source.startswith("builtin:"):
        raise UnreadableData(
            f"{field}: found {source.source!r}, allowed: {PYTHON_DOCS}, hub:ORG/NAME or a local path"
        )
    path = expanded(source.source)
    is_empty = True
    try:
        for file in _candidates(field, path):
            if _is_readable(file) and file.is_file():
                is_empty = False
                yield file
    except OSError as error:
        raise UnreadableData(f"{field}: {path}: cannot be read: {error}") from error
    except TooManyFiles as error:
        raise TooManyFiles(f"{field}: {path}: {error}") from None
    if is_empty:
        raise UnreadableData(f"{field}: {path}: holds no file with a suffix of {_FILES}")


def _candidates(field: str, path: Path) -> Iterator[Path]:
    if path.is_file():
        if not _is_readable(path):
            raise UnreadableData(f"{field}: {path}: found suffix {path.suffix!r}, allowed: {_FILES}")
        yield path
    elif path.is_dir():
        yield from paths_below(path)
    else:
        matches = paths_like(path)
        first = next(matches, None)
        if first is None:
            raise UnreadableData(f"{field}: {path}: no such file, directory or match")
        yield from itertools.chain([first], matches)


def kind_of(path: Path) -> str:
    """Return the suffix that says what a file holds, compression aside."""
    return _suffixes(path)[0]


def compression_of(path: Path) -> str | None:
    """Return what pyarrow calls the compression of a file, None without."""
    return COMPRESSED.get(path.suffix)


def _suffixes(path: Path) -> tuple[str, str]:
    """What a file holds, and how it is compressed."""
    return (path.with_suffix("").suffix, path.suffix) if path.suffix in COMPRESSED else (path.suffix, "")


def _is_readable(path: Path) -> bool:
    kind, compression = _suffixes(path)
    # Parquet is compressed inside, and read from any place in the file.
    return kind in PLAIN + STRUCTURED and not (kind == ".parquet" and compression)


def _local_digest(field: str, source: DataSource, report: Report) -> str:
    digest = hashlib.sha256()
    if source.source == PYTHON_DOCS:
        for document in python_docs():
            digest.update(hashlib.sha256(document.encode()).digest())
        return digest.hexdigest()
    done = 0
    try:
        files = local_files(field, source)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            digest.update("".join(_suffixes(path)).encode())
            content = hashlib.sha256()
            for part in _parts(path):
                content.update(part)
                done += len(part)
                if total > _PART_BYTES:  # else it is no work to tell of
                    report(Progress(stage=f"checking {source.source}", done=done, total=total, unit="bytes"))
            digest.update(content.digest())
    except OSError as error:
        raise UnreadableData(f"{field}: {source.source}: cannot be read: {error}") from error
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_PART_BYTES):
            yield part
